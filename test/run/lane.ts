/**
 * Runs test files by Vitest and says on standard output what came of them (record.ts).
 *
 *     lane project NAME...   all files of projects of vitest.config.ts
 *     lane built             bundled files, whose names come on standard input, some a line, until it ends
 */
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  createVitest,
  type Reporter,
  type SerializedError,
  type TestCase,
  type TestModule,
  type Vitest,
} from 'vitest/node';
import { type FileResult, formatRecord, type LaneRecord, type TestResult } from './record.js';

const REPOSITORY = join(import.meta.dirname, '../..');
/** Time that a guest under emulation may take. Tests that want less say so themselves. */
const BUILT_TIMEOUT_MS = 300_000;
const CLOSE_MS = 10_000;
/** Enough to see which expectation failed, and who asked. */
const STACK_LINES = 8;

function say(record: LaneRecord): void {
  process.stdout.write(formatRecord(record));
}

/** `boot/api.test.ts`, also of a bundled file. */
function nameOf(module: TestModule): string {
  return relative(join(REPOSITORY, 'test'), module.moduleId)
    .replace(/^built\//, '')
    .replace(/\.mjs$/, '.ts');
}

function textOf(error: SerializedError): string {
  const { name, message, diff, stack } = error as SerializedError & { diff?: string };
  const frames = (stack ?? '').split('\n').filter((line) => /^ +at /.test(line));
  return [`${name}: ${message}`, ...(diff === undefined ? [] : [diff]), ...frames.slice(0, STACK_LINES)].join(
    '\n',
  );
}

function resultOf(test: TestCase): TestResult {
  const result = test.result();
  const common = { name: test.fullName, seconds: (test.diagnostic()?.duration ?? 0) / 1000 };
  switch (result.state) {
    case 'passed':
      return { ...common, state: 'passed' };
    case 'skipped':
      return { ...common, state: 'skipped', ...(result.note === undefined ? {} : { note: result.note }) };
    default:
      return { ...common, state: 'failed', errors: (result.errors ?? []).map(textOf) };
  }
}

function fileResult(module: TestModule): FileResult {
  const { collectDuration, setupDuration, duration, prepareDuration } = module.diagnostic();
  const suites = [...module.children.allSuites()];
  return {
    file: nameOf(module),
    seconds: (prepareDuration + setupDuration + collectDuration + duration) / 1000,
    tests: [...module.children.allTests()].map(resultOf),
    errors: [...module.errors(), ...suites.flatMap((suite) => suite.errors())].map(textOf),
  };
}

const reporter: Reporter = {
  onTestModuleStart: (module) => say({ kind: 'begin', file: nameOf(module) }),
  onTestModuleEnd: (module) => say({ kind: 'end', result: fileResult(module) }),
  onUserConsoleLog: ({ content }) => void process.stdout.write(content),
};

/** Runs the files whose paths have one of the words in them. */
async function runFiles(vitest: Vitest, words?: string[]): Promise<void> {
  const { unhandledErrors } = await vitest.runTestSpecifications(await vitest.globTestSpecifications(words));
  if (unhandledErrors.length === 0) return;
  const errors = unhandledErrors.map((error) => textOf(error as SerializedError));
  say({ kind: 'end', result: { file: '(unhandled)', seconds: 0, tests: [], errors } });
}

async function runProjects(names: string[]): Promise<void> {
  const vitest = await createVitest('test', {
    root: REPOSITORY,
    watch: false,
    project: names,
    reporters: [reporter],
  });
  await runFiles(vitest);
  await close(vitest);
}

async function runBuilt(): Promise<void> {
  const vitest = await createVitest('test', {
    config: false,
    root: REPOSITORY,
    watch: false,
    reporters: [reporter],
    include: ['test/built/**/*.test.mjs'],
    pool: 'forks',
    isolate: false,
    maxWorkers: 1,
    testTimeout: BUILT_TIMEOUT_MS,
    hookTimeout: BUILT_TIMEOUT_MS,
    // They are JavaScript, whole: Node loads them as they are.
    experimental: { viteModuleRunner: false, nodeLoader: false },
  });
  say({ kind: 'ready' });
  for await (const line of createInterface({ input: process.stdin })) {
    await runFiles(vitest, line.split(' ').map(builtPath));
    say({ kind: 'ready' });
  }
  await close(vitest);
}

/** Closes Vitest. What keeps it from that, or this process alive, is not waited for: all has been said. */
async function close(vitest: Vitest): Promise<void> {
  const late = sleep(CLOSE_MS, 'late', { ref: false });
  if ((await Promise.race([vitest.close(), late])) === 'late') console.log('Vitest does not close');
  process.exit(0); // Vitest's own status says whether a test failed; so do the records
}

function builtPath(file: string): string {
  return join(REPOSITORY, 'test/built', file.replace(/\.ts$/, '.mjs'));
}

const [mode, ...names] = process.argv.slice(2);
await (mode === 'built' ? runBuilt() : runProjects(names));
