/** The table that people read. */
import type { Measurement } from './benchmark.js';
import { summarize } from './statistics.js';

export interface Result {
  readonly benchmark: string;
  readonly measurements: readonly Measurement[];
}

const HEADINGS = ['benchmark', 'measured', 'median', 'min', 'max', 'n', 'unit', 'target', ''] as const;

/** A Markdown table, padded so that it reads as plain text too. */
export function formatTable(results: readonly Result[]): string {
  const rows = results.flatMap(({ benchmark, measurements }) =>
    measurements.map((measurement) => {
      const { n, median, min, max } = summarize(measurement.samples);
      const { target } = measurement;
      return [
        benchmark,
        measurement.metric + (measurement.note === undefined ? '' : ` (${measurement.note})`),
        formatNumber(median),
        formatNumber(min),
        formatNumber(max),
        String(n),
        measurement.unit,
        target === undefined
          ? ''
          : 'atMost' in target
            ? `≤ ${formatNumber(target.atMost)}`
            : `≥ ${formatNumber(target.atLeast)}`,
        meetsTarget(measurement) === false ? 'missed' : '',
      ];
    }),
  );
  const widths = HEADINGS.map((heading, i) =>
    Math.max(heading.length, ...rows.map((row) => row[i]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (isNumeric(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join(' | ')} |`;
  const rule = `|${widths.map((width, i) => (isNumeric(i) ? `${'-'.repeat(width + 1)}:` : '-'.repeat(width + 2))).join('|')}|`;
  return [line(HEADINGS), rule, ...rows.map(line)].join('\n');
}

const isNumeric = (column: number): boolean => column >= 2 && column <= 5;

/** Undefined without a target. */
export function meetsTarget({ samples, target }: Measurement): boolean | undefined {
  if (target === undefined) return undefined;
  const { median } = summarize(samples);
  return 'atMost' in target ? median <= target.atMost : median >= target.atLeast;
}

/** Three significant digits, or all of an integer. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-';
  const rounded = Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
  return rounded.toLocaleString('en-US', { maximumFractionDigits: 6 });
}
