/** Runs every check and test, or those that are asked for: `scripts/test --help`. */
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { kvmProblem } from '../support/kvm-problem.js';
import { LaneProcess } from './lane-process.js';
import { type Options, parseOptions, USAGE } from './options.js';
import { type FileResult, failuresOf, type TestResult } from './record.js';
import { runInRigs } from './rig-lanes.js';
import { summarize, type TierResult } from './summary.js';
import { CEILING_SECONDS, filesForRig, type Tier } from './tiers.js';

const REPOSITORY = join(import.meta.dirname, '../..');
const FILE_TIMEOUT_SECONDS = 600;
const MAX_RIGS = 2;

const options = optionsOrEnd();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

const rigStarts: number[] = [];
const results: TierResult[] = [];
for (const tier of options.tiers) {
  console.log(`\n== ${tier.name}`);
  const since = performance.now();
  const of: FileResult[] = [];
  const absent = await runTier(tier, (result, where) => {
    of.push(result);
    show(result, where);
  });
  const seconds = (performance.now() - since) / 1000;
  const { what: _, ...known } = tier;
  results.push({ ...known, seconds, files: of, ...absent });
}
const summary = summarize(results, rigStarts, CEILING_SECONDS, process.env['CI'] !== undefined);
console.log(`\n${summary.text}`);
process.exitCode = summary.failed === 0 ? 0 : 1;

function optionsOrEnd(): Options {
  const argv = process.argv.slice(2);
  if (argv.includes('--help')) {
    console.log(USAGE);
    process.exit();
  }
  try {
    return parseOptions(argv, filesForRig(join(REPOSITORY, 'test')));
  } catch (error) {
    console.error(`scripts/test: ${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

type OnResult = (result: FileResult, where?: string) => void;

async function runTier(tier: Tier, onResult: OnResult): Promise<{ absent?: string }> {
  const { what } = tier;
  switch (what.kind) {
    case 'command':
      onResult(await runCommand(tier.name, what.command));
      return {};
    case 'projects': {
      const problem = what.needsKvm === true ? kvmProblem() : undefined;
      if (problem !== undefined) return { absent: `${problem}: in the rig only` };
      await runProjects(what.projects, onResult);
      return {};
    }
    case 'rigs':
      await runInRigs(options.files, rigs(), {
        onResult,
        onLine: (line, lane) => console.log(`  [${lane}] ${line}`),
        onStart: (seconds, lane) => {
          rigStarts.push(seconds);
          console.log(`  [${lane}] takes files after ${seconds.toFixed(1)} s`);
        },
      });
      return {};
  }
}

function rigs(): number {
  return Math.min(MAX_RIGS, availableParallelism());
}

async function runProjects(projects: readonly string[], onResult: OnResult): Promise<void> {
  const lane = new LaneProcess({
    command: [process.execPath, join(REPOSITORY, 'test/built/run/lane.mjs'), 'project', ...projects],
    fileTimeoutSeconds: FILE_TIMEOUT_SECONDS,
    onResult,
    onLine: (line) => console.log(`  ${line}`),
  });
  lane.finish();
  const status = await lane.ended;
  if (status !== 0)
    onResult({ file: '(Vitest)', seconds: 0, tests: [], errors: [`it ended with ${status}`] });
}

/** A check that is no test: one result, with what it printed if it failed. */
async function runCommand(name: string, command: readonly [string, ...string[]]): Promise<FileResult> {
  const since = performance.now();
  const [program, ...args] = command;
  const child = spawn(program, args, { cwd: REPOSITORY, stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = (): void => void child.kill();
  process.once('exit', kill);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const status = await new Promise((resolve) => child.once('close', resolve));
  process.off('exit', kill);
  const seconds = (performance.now() - since) / 1000;
  const note = /^\S+: skipped: (.*)$/m.exec(output)?.[1];
  const test: TestResult =
    status !== 0
      ? { name, seconds, state: 'failed', errors: [output] }
      : note !== undefined
        ? { name, seconds, state: 'skipped', note }
        : { name, seconds, state: 'passed' };
  return { file: command.join(' '), seconds, tests: [test], errors: [] };
}

function show(result: FileResult, where = ''): void {
  const failures = failuresOf(result);
  const counts = `${result.tests.length} tests${failures.length === 0 ? '' : `, ${failures.length} FAILED`}`;
  console.log(
    `  ${failures.length === 0 ? '✓' : '✗'} ${result.file.padEnd(44)} ${counts.padEnd(22)} ${result.seconds.toFixed(1).padStart(6)} s  ${where}`,
  );
}
