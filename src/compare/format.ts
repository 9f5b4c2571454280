/** A comparison as text for terminals, and the words and figures that the page has as well. */
import { quantile } from '../util/statistics.js';
import { formatBytes } from '../util/units.js';
import type { Comparison } from './compare.js';

export const CAVEAT =
  'A container’s wall is the host’s kernel, a machine’s is KVM and its monitor. Both have had holes: a machine’s are fewer, not none. ' +
  'What is asked here is what the program sees and may call, not what an attacker could make of it.';

export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Milliseconds with as many digits as mean something. */
export function formatMs(ms: number): string {
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2);
}

/** In the order in which they are shown. */
export function tablesOf(comparison: Comparison): readonly Table[] {
  const tables = [startTable(comparison), memoryTable(comparison), isolationTable(comparison)];
  return tables.filter((table) => table !== undefined);
}

function startTable({ starts }: Comparison): Table | undefined {
  if (starts.length === 0) return undefined;
  const rows = [...starts]
    .sort((a, b) => quantile(a.firstMs, 0.5) - quantile(b.firstMs, 0.5))
    .map(({ subject, firstMs, exitMs, phases }) => [
      subject,
      ...[0.5, 0.95, 0.99].map((at) => formatMs(quantile(firstMs, at))),
      formatMs(quantile(exitMs, 0.5)),
      phases.map(({ name, ms }) => `${name} ${formatMs(ms)}`).join(', '),
    ]);
  const runs = starts[0]?.firstMs.length ?? 0;
  return {
    title: `From the request to the program’s first byte, in ms (${runs} runs each, in turn, order shuffled)`,
    head: ['', 'median', 'p95', 'p99', 'to its end', 'of that, medians'],
    rows,
  };
}

function memoryTable({ memory, budgetBytes }: Comparison): Table | undefined {
  if (memory.length === 0) return undefined;
  const counts = memory.reduce<readonly number[]>(
    (longest, { points }) => (points.length > longest.length ? points.map(({ count }) => count) : longest),
    [],
  );
  const rows = [...memory]
    .sort((a, b) => a.slope.pssBytes - b.slope.pssBytes)
    .map(({ subject, points, slope, fitting, problem }) => [
      subject,
      ...counts.map((count) => {
        const point = points.find((one) => one.count === count);
        return point === undefined ? (problem ?? '') : formatBytes(Math.max(0, point.pssBytes));
      }),
      formatBytes(Math.max(0, slope.pssBytes)),
      formatBytes(Math.max(0, slope.privateBytes)),
      cgroupEach(points),
      String(fitting),
    ]);
  const most = counts.at(-1) ?? 0;
  return {
    title: `Memory that N idle ones hold (PSS of all processes that belong to them)`,
    head: [
      '',
      ...counts.map((count) => `N = ${count}`),
      'one more',
      'of that private',
      'its cgroup says',
      `in ${formatBytes(budgetBytes)} (extrapolated from ${most})`,
    ],
    rows,
  };
}

function cgroupEach(points: readonly { count: number; cgroupBytes?: number }[]): string {
  const last = points.at(-1);
  return last?.cgroupBytes === undefined ? '' : formatBytes(last.cgroupBytes / last.count);
}

function isolationTable({ isolation }: Comparison): Table | undefined {
  if (isolation === undefined) return undefined;
  const signs = { wall: '', open: '! ', note: '' } as const;
  return {
    title: 'What the program sees of the host (! is the host’s)',
    head: ['', ...isolation.columns],
    rows: isolation.rows.map(({ title, findings }) => [
      title,
      ...findings.map(({ text, verdict }) => `${signs[verdict]}${text}`),
    ]),
  };
}

/** For a terminal; columns as wide as what is in them. */
export function formatText(comparison: Comparison): string {
  const lines = Object.entries(comparison.environment).map(([name, value]) => `${name}: ${value}`);
  for (const { title, head, rows } of tablesOf(comparison)) {
    const all = [head, ...rows];
    const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
    lines.push('', title, '');
    for (const row of all)
      lines.push(
        row
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join('  ')
          .trimEnd(),
      );
  }
  lines.push('', ...comparison.notes.map((note) => `note: ${note}`), CAVEAT, '');
  return lines.join('\n');
}
