/** A comparison's figures from subjects that are none, what the probe's answers mean, and how it is all shown. */
import { describe, expect, test } from 'vitest';
import type { Comparison } from '../../../src/compare/compare.js';
import { formatText, tablesOf } from '../../../src/compare/format.js';
import { type Facts, parseFacts, QUESTIONS } from '../../../src/compare/isolation.js';
import { measureMemory, measureStarts } from '../../../src/compare/measure.js';
import { formatPage } from '../../../src/compare/page.js';
import type { Subject } from '../../../src/compare/subject.js';
import { quantile, slope } from '../../../src/util/statistics.js';

const never = new AbortController().signal;

function subject(name: string, log: string[], more: { fails?: boolean } = {}): Subject {
  return {
    name,
    wall: 'machine',
    from: 'process',
    async start(mode) {
      if (more.fails === true) throw new Error('no more');
      log.push(`${name} ${mode}`);
      return {
        firstMs: 2,
        phases: [{ name: 'create', ms: 1 }],
        processes: () => [],
        cgroupBytes: () => 4096,
        ended: async () => ({ output: '', ms: 5 }),
        stop: async () => void log.push(`${name} stopped`),
      };
    },
    async [Symbol.asyncDispose]() {},
  };
}

describe('measureStarts()', () => {
  test('starts each once a round, warms up, and has the time to the end as a phase', async () => {
    const log: string[] = [];
    const results = await measureStarts([subject('a', log), subject('b', log)], 3, () => {}, never);
    expect(log.filter((line) => line === 'a start')).toHaveLength(4);
    expect(log.filter((line) => line === 'b start')).toHaveLength(4);
    expect(results[0]).toEqual({
      subject: 'a',
      firstMs: [2, 2, 2],
      exitMs: [5, 5, 5],
      phases: [
        { name: 'create', ms: 1 },
        { name: 'exit', ms: 3 },
      ],
    });
  });

  test('ends when it is told to', async () => {
    await expect(measureStarts([subject('a', [])], 3, () => {}, AbortSignal.abort())).rejects.toThrow();
  });
});

describe('measureMemory()', () => {
  test('looks at so many, stops all, and says what their cgroups count', async () => {
    const log: string[] = [];
    const result = await measureMemory(subject('a', log), [1, 3], 1 << 30, () => {}, never, 1);
    expect(log.filter((line) => line === 'a idle')).toHaveLength(3);
    expect(log.filter((line) => line === 'a stopped')).toHaveLength(3);
    expect(result.points.map(({ count, cgroupBytes }) => [count, cgroupBytes])).toEqual([
      [1, 4096],
      [3, 12288],
    ]);
  });

  test('says why it ended early', async () => {
    const result = await measureMemory(subject('a', [], { fails: true }), [1], 1 << 30, () => {}, never);
    expect(result).toMatchObject({ points: [], problem: 'no more', fitting: 0 });
  });
});

const HOST = `line /proc/sys/kernel/random/boot_id\tone
line /proc/sys/kernel/osrelease\t6.1
line /proc/kallsyms\tffffffff81000000 T _stext
opens /dev/kmsg\t0
opens /dev/sda\t0
call syslog\t100
call mount\t-14
status CapEff\t000001ffffffffff
status Seccomp\t0
link /proc/self/ns/pid\tpid:[1]
link /proc/self/ns/user\tuser:[2]
writable /proc/sys/kernel/core_pattern\t0
there /var/run/docker.sock\t0
lines /proc/partitions\t4
`;
const CONTAINER = HOST.replace(/(opens|writable|there) (.*)\t0/g, '$1 $2\t-2')
  .replace('\t100', '\t-1')
  .replace('\t-14', '\t-1')
  .replace('000001ffffffffff', '00000000a80425fb')
  .replace('Seccomp\t0', 'Seccomp\t2')
  .replace('ffffffff81000000', '0000000000000000')
  .replace('pid:[1]', 'pid:[9]');
const MACHINE = HOST.replace('\tone', '\ttwo').replace('\t6.1', '\t6.12');

const answers = (facts: Facts) => {
  const host = parseFacts(HOST);
  return Object.fromEntries(QUESTIONS.map(({ title, answer }) => [title, answer(facts, host)]));
};

describe('what the probe saw', () => {
  test('is open where there is no wall', () => {
    const open = Object.entries(answers(parseFacts(HOST))).filter(([, { verdict }]) => verdict === 'open');
    expect(open).toHaveLength(QUESTIONS.length - 1); // interfaces are neither
  });

  test('is the kernel’s and its disks, and the user namespace, in a container', () => {
    const found = answers(parseFacts(CONTAINER));
    const open = Object.keys(found).filter((title) => found[title]?.verdict === 'open');
    expect(open).toEqual(['kernel', 'capabilities reach', 'namespaces of its own', 'sees the host’s disks']);
    expect(found['capabilities']?.text).toBe('14 of 41');
    expect(found['namespaces of its own']?.text).toBe('all but user');
  });

  test('is the guest’s own in a machine, whatever it may do there', () => {
    const verdicts = Object.values(answers(parseFacts(MACHINE))).map(({ verdict }) => verdict);
    expect(verdicts).not.toContain('open');
  });
});

const comparison: Comparison = {
  version: 1,
  environment: { machine: 'two CPUs' },
  notes: ['it is slow <here>'],
  budgetBytes: 1 << 30,
  starts: [
    {
      subject: 'slow & sure',
      firstMs: [300, 200, 250],
      exitMs: [310, 210, 260],
      phases: [{ name: 'create', ms: 250 }],
    },
    { subject: 'quick', firstMs: [1, 2, 3], exitMs: [2, 3, 4], phases: [{ name: 'create', ms: 2 }] },
  ],
  memory: [
    {
      subject: 'quick',
      points: [{ count: 1, pssBytes: 1 << 20, privateBytes: 0, cgroupBytes: 4096 }],
      slope: { pssBytes: 1 << 20, privateBytes: 0 },
      fitting: 1024,
    },
  ],
  isolation: {
    columns: ['no wall', 'machine'],
    rows: [
      {
        title: 'kernel',
        findings: [
          { text: '6.1', verdict: 'open' },
          { text: '6.12', verdict: 'wall' },
        ],
      },
    ],
  },
};

describe('a comparison', () => {
  test('as text has the quickest first, and a mark at what is the host’s', () => {
    const text = formatText(comparison);
    expect(text.indexOf('quick')).toBeLessThan(text.indexOf('slow & sure'));
    expect(text).toContain('2.00    2.90  2.98');
    expect(text).toMatch(/kernel +! 6\.1 +6\.12/);
    expect(text).toContain('1024');
  });

  test('as a page is whole, needs nothing else, and takes no text for markup', () => {
    const page = formatPage(comparison);
    expect(page).not.toMatch(/<script|src=|href=|NaN|undefined|Infinity/);
    expect(page).toContain('it is slow &#60;here&#62;');
    expect(page.match(/<svg /g)).toHaveLength(3);
    expect(page).toContain('<td class="open">6.1</td>');
    for (const { title } of tablesOf(comparison).slice(0, 2)) expect(page).toContain(title);
  });

  test('of one part has no other', () => {
    const { isolation: _, ...rest } = comparison;
    const page = formatPage({ ...rest, starts: [], memory: [] });
    expect(page).not.toMatch(/<svg|<table/);
  });
});

test('quantile() and slope()', () => {
  expect([0, 0.5, 0.95, 1].map((at) => quantile([3, 1, 2], at))).toEqual([1, 2, 2.9, 3]);
  expect(
    slope([
      [1, 5],
      [2, 7],
      [3, 9],
    ]),
  ).toBeCloseTo(2);
});
