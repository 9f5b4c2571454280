/** `tsvm compare`: machines and containers beside each other, on this host. */
import { spawnSync } from 'node:child_process';
import { Command } from 'commander';
import { COMPARE_PARTS, type ComparePart } from '../../compare/parts.js';
import { TsvmError } from '../../errors.js';
import { GIB } from '../../util/units.js';
import { collect } from '../device-options.js';
import { EndSignals } from '../end-signals.js';
import { guestOption } from '../guest-option.js';
import { lookAtOutputFile, writeOutputFile } from '../output-file.js';
import { parseChoice, parseCount, parseMemory } from '../values.js';
import { sayWithoutKvm } from '../without-kvm.js';

const EXAMPLES = `
Examples:
  tsvm compare                              all of it: some minutes
  tsvm compare --runs 100 --html report.html --json report.json
  tsvm compare --part isolation             what a program sees of this host, behind each wall
  tsvm compare --cpus 2,3                   on two CPUs, for figures that vary less

The same program is put behind each wall: a machine booted, restored from its template, forked; a container by tsvm, runc, crun,
bubblewrap, podman and docker, as far as they are installed. What is measured, and how, is in docs/comparison.md.`;

const MIN_RUNS = 1;
const MAX_RUNS = 100_000;
const MAX_COUNT = 1000;

interface CompareOptions {
  guest?: string;
  runs: string;
  counts: string;
  budget?: string;
  part?: string[];
  cpus?: string;
  json?: string;
  html?: string;
}

export function compareCommand(): Command {
  return new Command('compare')
    .summary('measure machines and containers side by side')
    .description(
      'Measure what a machine and a container cost and hold back on this host: start, memory, isolation.',
    )
    .addOption(guestOption())
    .option('--runs <n>', 'how often each is started', '30')
    .option('--counts <list>', 'at how many idle ones memory is measured', '1,2,5,10,20,50')
    .option('--budget <size>', 'how many fit in it is told (default 1G)')
    .option('--part <name>', `only this: ${COMPARE_PARTS.join(', ')}; repeatable`, collect)
    .option('--cpus <list>', 'run all of it on these: 2,3 or 4-7 (default: where the scheduler puts it)')
    .option('--json <file>', 'write all figures; - for standard output, instead of the tables')
    .option('--html <file>', 'write a page with plots')
    .addHelpText('after', EXAMPLES)
    .action(async (options: CompareOptions) => {
      process.exitCode = await run(options);
    });
}

async function run(options: CompareOptions): Promise<number> {
  const runs = parseCount('--runs', options.runs, MIN_RUNS, MAX_RUNS);
  const counts = options.counts.split(',').map((text) => parseCount('--counts', text, 1, MAX_COUNT));
  const budgetBytes = options.budget === undefined ? GIB : parseMemory('--budget', options.budget);
  const parts: readonly ComparePart[] =
    options.part?.map((text) => parseChoice('--part', text, COMPARE_PARTS)) ?? COMPARE_PARTS;
  // Before minutes of measurement, not after them.
  for (const path of [options.json, options.html])
    if (path !== undefined && path !== '-') lookAtOutputFile(path);
  if (options.cpus !== undefined) pin(options.cpus);
  const abort = new AbortController();
  using signals = new EndSignals();
  signals.onSignal = () => abort.abort();
  sayWithoutKvm('only containers are compared; with a KVM, machines beside them', { always: true });
  const { compare } = await import('../../compare/compare.js');
  try {
    const comparison = await compare({
      ...(options.guest === undefined ? {} : { guest: options.guest }),
      runs,
      counts: [...new Set(counts)].sort((a, b) => a - b),
      budgetBytes,
      parts,
      progress: showProgress,
      signal: abort.signal,
    });
    clearProgress();
    const { formatText } = await import('../../compare/format.js');
    const json = `${JSON.stringify(comparison, undefined, 2)}\n`;
    if (options.json === '-') process.stdout.write(json);
    else process.stdout.write(formatText(comparison));
    if (options.json !== undefined && options.json !== '-') writeOutputFile(options.json, json);
    if (options.html !== undefined) {
      const { formatPage } = await import('../../compare/page.js');
      writeOutputFile(options.html, formatPage(comparison));
    }
    return 0;
  } catch (error) {
    clearProgress();
    if (signals.exitCode === undefined) throw error;
    return signals.exitCode;
  }
}

/** Pins every thread of this process, and so whatever it starts from now on (sched_setaffinity(2), by util-linux). */
function pin(list: string): void {
  const { status, error } = spawnSync('taskset', [
    '--all-tasks',
    '--cpu-list',
    '--pid',
    list,
    `${process.pid}`,
  ]);
  if (status === 0) return;
  if (error !== undefined) {
    throw new TsvmError('TSVM_HOST', '--cpus: taskset is missing', { hint: 'apt-get install util-linux' });
  }
  throw new TsvmError('TSVM_USAGE', `--cpus ${list}: this host has no such CPUs for this process`, {
    hint: 'see which there are: taskset -cp $$',
  });
}

/** Shows a line that is written over, on a terminal. */
function showProgress(text: string): void {
  if (process.stderr.isTTY)
    process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns ?? 80) - 1)}`);
}

function clearProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
}
