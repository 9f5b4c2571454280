/** The dashboard without a terminal: what keys do, and what is on the screen then. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ratesBetween } from '../../../src/control/stats/rates.js';
import type { MachineStats } from '../../../src/control/stats/stats.js';
import { frame, point, type Shown } from '../../../src/dashboard/frame.js';
import type { View } from '../../../src/dashboard/sampler.js';
import { newState, press } from '../../../src/dashboard/state.js';
import {
  columnsOf,
  formatCount,
  isUtf8,
  plainLines,
  sparkline,
  toAscii,
  toWidth,
} from '../../../src/dashboard/text.js';

/** Ages are shown to the second: the clock stands still. */
const NOW_MS = Date.UTC(2026, 0, 1);
beforeAll(() => void vi.useFakeTimers({ toFake: ['Date'], now: NOW_MS }));
afterAll(() => void vi.useRealTimers());

function stats(atMs: number, times: number): MachineStats {
  const exits = {
    total: 100 * times,
    toJavaScript: 10 * times,
    byHostProfile: 0,
    servedNatively: { load: 0, clearBits: 0, stream: 0 },
    byReason: { io: 60 * times, mmio: 40 * times },
  };
  const queue = { kicks: 5 * times, interrupts: 4 * times, chains: 3 * times, errors: 0 };
  return {
    atMs,
    state: 'Running',
    uptimeMs: atMs,
    process: {
      pid: 1,
      cpuMs: 500 * times,
      residentBytes: 3 << 20,
      proportionalBytes: 2 << 20,
      privateBytes: 1 << 20,
    },
    vcpus: [{ cpuMs: 250 * times, state: 'R', exits: 1 }],
    memoryBytes: 128 << 20,
    metrics: {
      exits,
      devices: [
        {
          id: 'blk0',
          name: 'blk',
          needsReset: 0,
          refusedWrites: 0,
          queues: [queue],
          counters: { readBytes: 1024 * times, writtenBytes: 0 },
          durations: { request: { count: 3 * times, sumSeconds: 0.006 * times, atMost: [] } },
        },
      ],
    },
  };
}

function view(name: string, more: Partial<View> = {}): View {
  const record = {
    version: 1,
    name,
    pid: name.length,
    pidStart: '1',
    createdMs: NOW_MS - 65_000,
    memoryBytes: 128 << 20,
    cpus: 1,
    command: [`run-${name}`],
  } as const;
  const now = stats(2000, 2);
  const rates = ratesBetween(stats(1000, 1), now);
  return {
    name,
    record,
    state: 'Running',
    stats: now,
    rates,
    sharers: 1,
    cpuHistory: [0, 0.5, 1],
    exitHistory: [1],
    events: [],
    ...more,
  };
}

const ended = view('old', { state: 'Ended', rates: undefined });
Object.assign(ended, {
  record: { ...ended.record, end: { kind: 'panic', exitCode: 121, message: 'no init', atMs: NOW_MS } },
});
const SHOWN: Shown = {
  views: [view('db'), view('web'), ended],
  closeup: {
    console: 'boot\r\n\x1b[31mred\x1b[0m 日本語\n',
    timeline: [
      { name: 'create', ms: 1 },
      { name: 'start', ms: 11 },
    ],
  },
  readOnly: false,
  problem: '',
};
const texts = (state = newState(), columns = 100, rows = 30, shown = SHOWN): string[] =>
  frame(state, shown, columns, rows).map(({ text }) => text);

describe('frame()', () => {
  test.each([
    [80, 24],
    [200, 60],
    [40, 10],
    [39, 10],
    [10, 3],
  ])('is exactly %i by %i, in every pane and mode', (columns, rows) => {
    for (const pane of ['machine', 'devices', 'console', 'events'] as const) {
      for (const mode of ['look', 'filter', 'kill', 'help'] as const) {
        for (const large of [true, false]) {
          const lines = texts({ ...newState(), pane, mode, large }, columns, rows);
          expect(lines).toHaveLength(rows);
          for (const line of lines) expect(columnsOf(line)).toBe(columns);
        }
      }
    }
  });

  test('has ASCII of the same width for each sign of its own, in every pane and mode', () => {
    const shown = { ...SHOWN, closeup: { ...SHOWN.closeup, console: 'plain' } };
    for (const pane of ['machine', 'devices', 'console', 'events'] as const) {
      for (const mode of ['look', 'filter', 'kill', 'help'] as const) {
        for (const line of texts({ ...newState(), pane, mode }, 80, 24, shown)) {
          expect(toAscii(line)).toMatch(/^[ -~]{80}$/);
        }
      }
    }
  });

  test('shows no control characters, whatever a guest, a record or an error says', () => {
    const said = '\x1b]0;owned\x07\x9b2Jno\r\ninit';
    const over = view('over', { state: 'Ended' });
    const end = { kind: 'panic', exitCode: 121, message: said, atMs: NOW_MS } as const;
    Object.assign(over, { record: { ...over.record, command: [said], end } });
    const events = [{ atMs: NOW_MS, text: said }];
    const shown = {
      ...SHOWN,
      views: [over, view('web', { events })],
      closeup: { ...SHOWN.closeup, console: said },
    };
    for (const problem of ['', said]) {
      for (const pane of ['machine', 'devices', 'console', 'events'] as const) {
        for (const selected of ['over', 'web']) {
          const lines = texts({ ...newState(), pane, selected }, 100, 30, { ...shown, problem });
          expect(lines.join('')).not.toMatch(/\p{Cc}/u);
        }
      }
    }
  });

  test('lists what runs before what has ended, with what it costs', () => {
    const [title = '', head = '', first = '', second = '', third = ''] = texts();
    expect(title).toMatch(/^tsvm top {3}2 machines {3}CPU 100% {3}4 MiB for 256 MiB of guest memory/);
    expect(head).toMatch(/^NAME +STATE +CPU% +COSTS +MEMORY +EXITS\/S/);
    expect(first).toMatch(/^db +Running +50 +▁▅█ +2 MiB +128 MiB +100 +1 KiB +0 +1 +65 s/);
    expect([second.slice(0, 4), third]).toEqual(['web ', expect.stringMatching(/^old +Ended +-/)]);
  });

  test('shows the chosen one: exits by kind, vCPUs, the boot', () => {
    const all = texts().join('\n');
    expect(all).toMatch(/costs {4}2 MiB +.*\n +resident 3 MiB, its own 1 MiB/);
    expect(all).toMatch(/vCPU 0 {3}█{5}░{15} {2}25% {2}runs/);
    expect(all).toMatch(/io +60\/s/);
    expect(all).toMatch(/start +\+10\.0 ms/);
    const devices = texts({ ...newState(), pane: 'devices' }).join('\n');
    expect(devices).toMatch(/blk0 +5\.0 +4\.0 +3\.0 +1 KiB +0 B +0 +2\.00 ms +0/);
    expect(devices).toContain('queue 0: 10 kicks, 8 interrupts, 6 requests, 0 errors so far');
  });

  test('what a guest says moves no cursor and colours nothing', () => {
    const lines = texts({ ...newState(), pane: 'console' });
    expect(lines.find((line) => line.startsWith('red'))).toMatch(/^red 日本語 +$/);
    expect(lines.join('')).not.toMatch(/\p{Cc}/u);
  });

  test('says how one ended', () => {
    expect(texts({ ...newState(), selected: 'old' }).join('\n')).toMatch(
      /ended 0 s ago: no init, exit status 121/,
    );
  });

  test('has containers beside machines, with what their cgroups count', () => {
    const usage = { memoryBytes: 5 << 20, memoryPeakBytes: 6 << 20, cpuSeconds: 1.5, pids: 3 };
    const box = view('container-7', {
      state: 'Container',
      stats: undefined,
      rates: undefined,
      container: { usage, atMs: 0, cpu: 0.25 },
    });
    Object.assign(box.record, { memoryBytes: 0 });
    const all = texts({ ...newState(), selected: 'container-7' }, 100, 30, {
      ...SHOWN,
      views: [view('web'), box],
    });
    expect(all[0]).toMatch(/^tsvm top {3}1 machine, 1 container {3}CPU 50%/);
    expect(all.join('\n')).toMatch(/container-7 +Container +25 .* 5 MiB +- +-/);
    expect(all.join('\n')).toMatch(/at most +6 MiB *\nprocessor +1\.5 s *\nprocesses +3/);
  });

  test('says what to do where there is none', () => {
    expect(texts(newState(), 80, 24, { ...SHOWN, views: [] }).join('\n')).toContain(
      'tsvm run -d --name NAME',
    );
    expect(texts({ ...newState(), filter: 'zzz' }).join('\n')).toContain("none has 'zzz'");
  });

  test('keeps the chosen one in sight among many', () => {
    const views = Array.from({ length: 200 }, (_, i) => view(`m${String(i).padStart(3, '0')}`));
    const lines = frame({ ...newState(), selected: 'm150' }, { ...SHOWN, views }, 80, 24);
    expect(lines.find(({ style }) => style === 'selected')?.text).toMatch(/^m150 /);
  });
});

describe('point()', () => {
  test('chooses a machine by its line, and a pane by its name in the line of panes', () => {
    const state = newState();
    const lines = frame(state, SHOWN, 100, 30);
    point(state, lines[3], 2);
    expect(state.selected).toBe('web');
    const tabs = lines.find(({ style }) => style === 'tab');
    for (const pane of ['machine', 'devices', 'console', 'events'] as const) {
      point(state, tabs, (tabs?.text.indexOf(pane) ?? 0) + 1);
      expect(state.pane).toBe(pane);
    }
    for (const line of [lines[0], lines[29], undefined]) point(state, line, 5);
    point(state, tabs, 99);
    expect([state.selected, state.pane]).toEqual(['web', 'events']);
  });

  test('answers no question', () => {
    const state = { ...newState(), mode: 'kill' as const, selected: 'db' };
    point(state, frame(state, SHOWN, 100, 30)[3], 2);
    expect(state.selected).toBe('db');
  });
});

describe('press()', () => {
  const names = ['a', 'b', 'c'];
  const after = (...keys: string[]) => {
    const state = { ...newState(), selected: 'a' };
    const wishes = keys.map((key) => press(state, key, names));
    return { ...state, wish: wishes.at(-1) };
  };

  test.each([
    [['j'], { selected: 'b' }],
    [['down', 'down', 'down'], { selected: 'c' }],
    [['j', 'k'], { selected: 'a' }],
    [['tab'], { pane: 'devices' }],
    [['left'], { pane: 'events' }],
    [['3'], { pane: 'console' }],
    [['l'], { pane: 'console' }],
    [['enter', 'escape'], { large: false }],
    [['o'], { sort: 'cpu' }],
    [['space'], { frozen: true }],
    [['/', 'w', 'e', 'backspace', 'q', 'enter'], { filter: 'wq', mode: 'look' }],
    [['/', 'w', 'escape'], { filter: '', mode: 'look' }],
    [['/', 'C-c'], { wish: 'quit' }],
    [['K', 'n'], { mode: 'look', wish: undefined }],
    [['K', 'y'], { mode: 'look', wish: 'kill' }],
    [['?', 'q'], { mode: 'look', wish: undefined }],
    [['p'], { wish: 'pause' }],
    [['s'], { wish: 'stop' }],
    [['a'], { wish: 'attach' }],
    [['q'], { wish: 'quit' }],
  ])('%j', (keys, expected) => expect(after(...keys)).toMatchObject(expected));
});

describe('text', () => {
  test.each([
    [0, '0'],
    [0.25, '0.3'],
    [9.99, '10'],
    [999, '999'],
    [1000, '1.0k'],
    [123_456, '123k'],
    [9_999_999, '10M'],
  ])('formatCount(%d) is %s', (value, text) => expect(formatCount(value)).toBe(text));

  test('toWidth() cuts wide characters whole', () => {
    expect(toWidth('日本語', 6)).toBe('日本語');
    expect(toWidth('日本語', 5)).toBe('日本…');
    expect(toWidth('日本語', 4)).toBe('日… ');
    expect(toWidth('e\u0301a', 3)).toBe('e\u0301a ');
  });

  test('sparkline() is as wide as it is told to be', () => {
    expect(sparkline([0, 1, 2], 5, 2)).toBe('  ▁▅█');
    expect(sparkline([1, 1, 1], 2, 0)).toBe('▁▁');
  });

  test('toAscii() leaves what a guest says, and keeps bars apart', () => {
    expect(toAscii('━ 日本語 ▁▂▃▄▅▆▇█░')).toBe('- 日本語 _.-:=+*#.');
  });

  test.each([
    [{ LANG: 'C.UTF-8' }, true],
    [{ LANG: 'de_DE.utf8', LC_ALL: '' }, true],
    [{ LANG: 'C.UTF-8', LC_ALL: 'C' }, false],
    [{ LANG: 'C.UTF-8', LC_CTYPE: 'POSIX' }, false],
    [{ LANG: 'C', LC_CTYPE: 'en_US.UTF-8' }, true],
    [{ LANG: 'en_US.UTF-8', LANGUAGE: 'de' }, true],
    [{}, false],
  ])('isUtf8(%j) is %s', (environment, expected) => expect(isUtf8(environment)).toBe(expected));

  test('plainLines() has what is left of a line that was written over', () => {
    expect(plainLines('10%\r20%\r\nx\ty\n')).toEqual(['20%', 'x        y', '']);
  });
});

test('there are no rates between two machines', () => {
  expect(ratesBetween(stats(2000, 2), { ...stats(3000, 1), uptimeMs: 1 })).toBeUndefined();
  expect(ratesBetween(stats(2000, 2), stats(2000, 2))).toBeUndefined();
});
