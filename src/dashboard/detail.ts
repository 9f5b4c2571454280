/** What is to be seen of one machine, as lines: panes by name. */
import type { Usage } from '../container/cgroup.js';
import type { TimelineEntry } from '../machine/report/timeline.js';
import { formatAge } from '../util/age.js';
import { formatBytes } from '../util/units.js';
import type { View } from './sampler.js';
import { formatCount, plainLines, sparkline, toWidth } from './text.js';

export const PANES = ['machine', 'devices', 'console', 'events'] as const;
export type Pane = (typeof PANES)[number];

/** What is fetched for one machine only: the one that is looked at. */
export interface Closeup {
  /** What its console said last. */
  readonly console: string;
  readonly timeline: readonly TimelineEntry[];
}

const REASONS = 8;
const BAR = 20;
/** Columns from which on there is room for two. */
const SIDE_BY_SIDE = 100;

export function paneLines(pane: Pane, view: View, closeup: Closeup, width: number, height: number): string[] {
  const lines = { machine, devices, console: console_, events }[pane](view, closeup, width);
  const shown = pane === 'console' || pane === 'events' ? lines.slice(-height) : lines.slice(0, height);
  return shown.map((line) => toWidth(line, width));
}

function machine(view: View, { timeline }: Closeup, width: number): string[] {
  const { record, stats, rates, state } = view;
  const { command, pid, createdMs, end } = record;
  const head = `${state}, process ${pid}, made ${formatAge(Date.now() - createdMs)} ago${command.length > 0 ? `: ${plainLines(command.join(' ')).join(' ')}` : ''}`;
  if (end !== undefined) {
    return [
      head,
      `ended ${formatAge(Date.now() - end.atMs)} ago: ${plainLines(end.message ?? end.kind).join(' ')}, exit status ${end.exitCode}`,
    ];
  }
  if (view.container !== undefined) return [head, '', ...containerLines(view.container.usage)];
  if (stats === undefined) return [head];
  const { process: costs, memoryBytes, balloonBytes, vcpus } = stats;
  const shared = view.sharers > 1 ? `, shared by ${view.sharers} machines` : '';
  const left = [
    `memory   guest ${formatBytes(memoryBytes)}${balloonBytes === undefined ? '' : `, gave back ${formatBytes(balloonBytes)}`}`,
    `costs    ${formatBytes(costs.proportionalBytes)}${shared}`,
    `         resident ${formatBytes(costs.residentBytes)}, its own ${formatBytes(costs.privateBytes)}`,
    '',
    ...vcpus.map(({ state: thread }, i) => {
      const share = rates?.vcpus[i] ?? 0;
      return `vCPU ${String(i).padEnd(3)} ${bar(share)} ${(share * 100).toFixed(0).padStart(3)}%  ${THREAD_STATES[thread] ?? thread}`;
    }),
    '',
    ...bootLines(timeline),
  ];
  const right = [
    `exits    ${formatCount(rates?.exits ?? 0)}/s, ${formatCount(rates?.toJavaScript ?? 0)}/s to JavaScript`,
    `         ${sparkline(view.exitHistory, 30, Math.max(...view.exitHistory, 1))}`,
    ...(rates?.exitsByReason ?? [])
      .slice(0, REASONS)
      .map(([reason, perSecond]) => `  ${toWidth(reason, 16)} ${formatCount(perSecond).padStart(6)}/s`),
  ];
  return [
    head,
    '',
    ...(width < SIDE_BY_SIDE ? [...left, '', ...right] : beside(left, right, Math.floor(width / 2))),
  ];
}

/** What its cgroups count; what this host's kernel does not count is left out. */
function containerLines(usage: Usage): string[] {
  const { memoryBytes, memoryPeakBytes, cpuSeconds, throttledSeconds, pids, readBytes, writtenBytes } = usage;
  const line = (name: string, text: string | undefined): string[] =>
    text === undefined ? [] : [`${name.padEnd(12)}${text}`];
  const bytes = (value: number | undefined): string | undefined =>
    value === undefined ? undefined : formatBytes(value);
  return [
    ...line('memory', bytes(memoryBytes)),
    ...line('at most', bytes(memoryPeakBytes)),
    ...line('processor', cpuSeconds === undefined ? undefined : `${cpuSeconds.toFixed(1)} s`),
    ...line('held back', throttledSeconds === undefined ? undefined : `${throttledSeconds.toFixed(1)} s`),
    ...line('processes', pids?.toString()),
    ...line('read', bytes(readBytes)),
    ...line('written', bytes(writtenBytes)),
    '',
    'It shares the host’s kernel: there are no exits, devices or console of its own.',
  ];
}

/** As /proc/PID/stat has them. */
const THREAD_STATES: Readonly<Record<string, string>> = {
  R: 'runs',
  S: 'waits',
  D: 'waits for a device',
  T: 'is stopped',
  '-': 'has not run',
};

/** Each step with how long it took. */
function bootLines(timeline: readonly TimelineEntry[]): string[] {
  const steps = timeline.slice(1).map(({ name, ms }, i) => {
    const took = ms - (timeline[i]?.ms ?? 0);
    return `  ${name.padEnd(16)} ${`+${took.toFixed(took < 100 ? 1 : 0)} ms`.padStart(12)}`;
  });
  return steps.length === 0 ? [] : ['made and booted', ...steps];
}

function devices({ stats, rates }: View): string[] {
  if (stats === undefined || rates === undefined) return ['nothing is known yet'];
  if (rates.devices.length === 0) return ['this machine has no virtio devices'];
  const row = (...cells: readonly string[]): string =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(12) : cell.padStart(i < 4 ? 8 : 12))).join('');
  const lines = [
    row('DEVICE', 'KICKS/S', 'IRQS/S', 'REQS/S', 'READ/S', 'WRITTEN/S', 'FRAMES/S', 'LATENCY', 'ERRORS'),
  ];
  for (const [i, device] of rates.devices.entries()) {
    lines.push(
      row(
        device.id,
        formatCount(device.kicks),
        formatCount(device.interrupts),
        formatCount(device.requests),
        formatBytes(device.readBytes),
        formatBytes(device.writtenBytes),
        formatCount(device.frames),
        device.meanLatencyMs === undefined ? '-' : `${device.meanLatencyMs.toFixed(2)} ms`,
        formatCount(device.errors),
      ),
    );
    for (const [number, queue] of (stats.metrics.devices[i]?.queues ?? []).entries()) {
      const { kicks, interrupts, chains, errors } = queue;
      if (kicks + interrupts + chains + errors === 0) continue;
      lines.push(
        `  queue ${number}: ${kicks} kicks, ${interrupts} interrupts, ${chains} requests, ${errors} errors so far`,
      );
    }
  }
  return lines;
}

function console_(_view: View, { console: said }: Closeup): string[] {
  const lines = plainLines(said);
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines;
}

function events({ events: all }: View): string[] {
  if (all.length === 0) return ['nothing has happened since it is looked at'];
  return all.map(
    ({ atMs, text }) => `${new Date(atMs).toTimeString().slice(0, 8)}  ${plainLines(text).join(' ')}`,
  );
}

function bar(share: number): string {
  const full = Math.round(Math.min(1, share) * BAR);
  return '█'.repeat(full) + '░'.repeat(BAR - full);
}

function beside(left: readonly string[], right: readonly string[], width: number): string[] {
  return Array.from({ length: Math.max(left.length, right.length) }, (_, i) =>
    `${toWidth(left[i] ?? '', width)} ${right[i] ?? ''}`.trimEnd(),
  );
}
