/**
 * `npm run bench`: runs what fits this host, each benchmark in a process of its own, and prints the table.
 */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchmarks } from './benchmarks.js';
import type { BenchHost, Benchmark, Measurement } from './lib/benchmark.js';
import { describeEnvironment, formatEnvironment, inspectHost } from './lib/environment.js';
import { formatTable, type Result } from './lib/report.js';

const USAGE = `usage: npm run bench -- [--runs N] [--json FILE] [--list] [NAME...]

  NAME         run these; default: all that fit the host
  --runs N     samples of each; default: as many as are worth their time
  --json FILE  write the samples, too
  --list       say what there is, and what fits this host
`;

const log = (text: string): void => void process.stderr.write(`${text}\n`);

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: 'string' },
      json: { type: 'string' },
      list: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
      worker: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const runs = values.runs === undefined ? undefined : Number(values.runs);
  if (runs !== undefined && !(Number.isInteger(runs) && runs > 0))
    throw new UsageError(`--runs ${values.runs}: a whole number above 0`);
  const wanted = positionals.map((name) => {
    const found = benchmarks.find((benchmark) => benchmark.name === name);
    if (found === undefined)
      throw new UsageError(`there is no benchmark '${name}': ${benchmarks.map((b) => b.name).join(', ')}`);
    return found;
  });
  const host = await inspectHost();
  if (values.worker === true) {
    for (const benchmark of wanted) await runHere(benchmark, host, runs);
    return 0;
  }
  if (values.list === true) {
    for (const benchmark of benchmarks)
      process.stdout.write(
        `${benchmark.name.padEnd(18)} ${benchmark.summary}; ${benchmark.unfit(host) ?? 'fits'}\n`,
      );
    return 0;
  }
  return await runAll(wanted.length > 0 ? wanted : benchmarks, host, runs, values.json);
}

class UsageError extends Error {}

async function runAll(
  list: readonly Benchmark[],
  host: BenchHost,
  runs: number | undefined,
  jsonPath: string | undefined,
): Promise<number> {
  const environment = describeEnvironment(host, `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim());
  const results: Result[] = [];
  const left: string[] = [];
  let failed = false;
  for (const benchmark of list) {
    const problem = benchmark.unfit(host);
    if (problem !== undefined) {
      left.push(`${benchmark.name}: not run, ${problem}`);
      continue;
    }
    log(`${benchmark.name}: ${benchmark.summary}`);
    const measurements = await runInChild(benchmark.name, runs);
    if (measurements === undefined) {
      failed = true;
      left.push(`${benchmark.name}: failed`);
    } else {
      results.push({ benchmark: benchmark.name, measurements });
    }
    // After each, so that what was measured is not lost.
    if (jsonPath !== undefined)
      writeFileSync(jsonPath, `${JSON.stringify({ environment, results, left }, undefined, 1)}\n`);
  }
  process.stdout.write(
    `${formatEnvironment(environment)}\n\n${formatTable(results)}\n${left.map((line) => `${line}\n`).join('')}`,
  );
  return failed ? 1 : 0;
}

/** Undefined when it failed; it has said why on stderr. */
function runInChild(name: string, runs: number | undefined): Promise<readonly Measurement[] | undefined> {
  return new Promise((resolve) => {
    const args = ['--worker', name, ...(runs === undefined ? [] : ['--runs', String(runs)])];
    const child = fork(fileURLToPath(import.meta.url), args, {
      execArgv: ['--expose-gc'],
      stdio: ['ignore', 2, 2, 'ipc'],
    });
    let measurements: readonly Measurement[] | undefined;
    child.on('message', (message) => {
      measurements = message as readonly Measurement[];
    });
    child.on('exit', (status) => resolve(status === 0 ? measurements : undefined));
  });
}

async function runHere(benchmark: Benchmark, host: BenchHost, runs: number | undefined): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'tsvm-bench-'));
  try {
    const measurements = await benchmark.run({
      host,
      runs: runs ?? benchmark.defaultRuns(host),
      scratch,
      log: (text) => log(`  ${text}`),
    });
    process.send?.(measurements);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    if (process.connected) process.disconnect();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof UsageError) process.stderr.write(`bench: ${error.message}\n${USAGE}`);
  else process.stderr.write(`bench: ${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
