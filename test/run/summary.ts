/** Summary that a test run gives at its end. */
import { type FileResult, failuresOf } from './record.js';

export interface TierResult {
  readonly name: string;
  readonly seconds: number;
  readonly ceilingSeconds: number;
  /** Set if it is not counted to the whole. */
  readonly extra?: true;
  readonly files: readonly FileResult[];
  /** Reason why it did not run here. */
  readonly absent?: string;
}

/** Skips that are a fault of the machine's set-up begin so. */
const MISSING = /^missing: /;
const SLOWEST = 10;

export interface Summary {
  readonly text: string;
  readonly failed: number;
}

/**
 * @param rigStarts - seconds that each rig took to start
 * @param strict - whether a skip for a missing program or file is a failure
 */
export function summarize(
  tiers: readonly TierResult[],
  rigStarts: readonly number[],
  ceilingSeconds: number,
  strict: boolean,
): Summary {
  const lines: string[] = [];
  const failures = tiers.flatMap((tier) =>
    tier.files.flatMap((file) =>
      failuresOf(file).map(({ name, errors }) => ({ tier, title: `${file.file}: ${name}`, errors })),
    ),
  );
  for (const { tier, title, errors } of failures) {
    lines.push(`FAILED ${tier.name}: ${title}`, ...indented(errors ?? []), '');
  }

  const skips = skipsOf(tiers);
  if (skips.size > 0) lines.push('Skipped:');
  for (const [reason, names] of skips) lines.push(`  ${reason}`, ...names.map((name) => `    ${name}`));
  const missing = [...skips].filter(([reason]) => MISSING.test(reason)).flatMap(([, names]) => names).length;

  lines.push('', `The ${SLOWEST} slowest files:`);
  const slowest = tiers
    .flatMap((tier) => tier.files.map((file) => ({ tier, ...file })))
    .sort((a, b) => b.seconds - a.seconds);
  for (const { tier, file, seconds } of slowest.slice(0, SLOWEST)) {
    lines.push(`  ${seconds.toFixed(1).padStart(7)} s  ${tier.name}: ${file}`);
  }
  if (rigStarts.length > 0) {
    lines.push(`Starts of a rig: ${rigStarts.length}, in ${rigStarts.map((s) => s.toFixed(1)).join(', ')} s`);
  }

  lines.push('');
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const tier of tiers) {
    const of = countsOf(tier);
    counts.passed += of.passed;
    counts.failed += of.failed;
    counts.skipped += of.skipped;
    lines.push(
      `${tier.name.padEnd(12)} ${column(of.passed, 'passed')} ${column(of.failed, 'failed')} ` +
        `${column(of.skipped, 'skipped')} ${tier.seconds.toFixed(0).padStart(6)} s of ${tier.ceilingSeconds}` +
        (tier.absent === undefined ? '' : `   ${tier.absent}`),
    );
  }
  const extra = tiers.filter((tier) => tier.extra);
  const seconds = sumOf(tiers.filter((tier) => !tier.extra));
  const beside = extra.map(({ name }) => name).join(' and ');
  lines.push(
    `all ${seconds.toFixed(0)} s of ${ceilingSeconds}` +
      (extra.length === 0 ? '' : `, and ${sumOf(extra).toFixed(0)} s for ${beside}`),
  );

  const complaints = tiers
    .filter((tier) => tier.seconds > tier.ceilingSeconds)
    .map((tier) => `${tier.name} took ${tier.seconds.toFixed(0)} s; its ceiling is ${tier.ceilingSeconds} s`);
  if (seconds > ceilingSeconds)
    complaints.push(`everything took ${seconds.toFixed(0)} s; the ceiling is ${ceilingSeconds} s`);
  if (strict && missing > 0)
    complaints.push(`${missing} tests were skipped since something is missing: see above`);
  for (const complaint of complaints) lines.push(`FAILED ${complaint}`);
  const failed = counts.failed + complaints.length;
  lines.push(`${counts.passed} passed, ${failed} failed, ${counts.skipped} skipped`);
  return { text: lines.join('\n'), failed };
}

function sumOf(tiers: readonly TierResult[]): number {
  return tiers.reduce((sum, { seconds }) => sum + seconds, 0);
}

function countsOf(tier: TierResult) {
  const tests = tier.files.flatMap((file) => file.tests);
  return {
    passed: tests.filter(({ state }) => state === 'passed').length,
    failed: tier.files.flatMap(failuresOf).length,
    skipped: tests.filter(({ state }) => state === 'skipped').length,
  };
}

/** Their names by their reasons. */
function skipsOf(tiers: readonly TierResult[]): Map<string, string[]> {
  const skips = new Map<string, string[]>();
  for (const tier of tiers) {
    for (const file of tier.files) {
      for (const { name, state, note } of file.tests) {
        if (state !== 'skipped') continue;
        const reason = note ?? 'NO REASON GIVEN';
        skips.set(reason, [...(skips.get(reason) ?? []), `${tier.name}: ${file.file}: ${name}`]);
      }
    }
  }
  return skips;
}

function column(count: number, what: string): string {
  return `${String(count).padStart(5)} ${what}`;
}

function indented(texts: readonly string[]): string[] {
  return texts.flatMap((text) => text.split('\n').map((line) => `    ${line}`));
}
