/** Machines that outlive the terminal: the process that runs one is this command once more, apart from it. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT_CODES } from '../control/exit-codes.js';

/** The child's sign, and the name of its machine. */
const VARIABLE = 'TSVM_BACKGROUND';
/** Interval at which the child's messages are looked for. */
const SHOW_MS = 200;

/** Name of the machine, in the process that runs it in the background; undefined in every other. */
export function backgroundName(): string | undefined {
  return process.send === undefined ? undefined : process.env[VARIABLE] || undefined;
}

/** Tells the parent that the machine runs and can be found. */
export function reportReady(): void {
  process.send?.('ready');
  process.disconnect?.();
}

export interface CommandLine {
  /** Words after `tsvm`. */
  readonly words: readonly string[];
  readonly directory: string;
}

/** Command line of this process, by which its machine is started again. */
export const commandLine = (): CommandLine => ({ words: process.argv.slice(2), directory: process.cwd() });

/**
 * Runs the same command line, or another one, apart from this terminal, and returns when its machine runs: 0 with its name on stdout, or what it failed
 * with, which is said as it would have been here.
 */
export async function startInBackground(
  name: string,
  { words, directory }: CommandLine = commandLine(),
): Promise<number> {
  const path = join(tmpdir(), `tsvm-${randomBytes(8).toString('hex')}`);
  const errors = openSync(path, 'wx+', 0o600);
  let shown = 0;
  // That a template is booted, or what went wrong: as it comes.
  const show = (): void => {
    const bytes = Buffer.alloc(4096);
    for (let count = -1; count !== 0; shown += count) {
      count = readSync(errors, bytes, 0, bytes.length, shown);
      process.stderr.write(bytes.subarray(0, count).toString());
    }
  };
  const timer = setInterval(show, SHOW_MS);
  try {
    // Without the two dashes Node takes an --env-file for its own, wherever it stands.
    const child = spawn(process.execPath, [...process.execArgv, '--', process.argv[1] ?? '', ...words], {
      cwd: directory,
      detached: true,
      stdio: ['ignore', 'ignore', errors, 'ipc'],
      env: { ...process.env, [VARIABLE]: name },
    });
    const interrupt = (): void => void child.kill('SIGTERM');
    process.on('SIGINT', interrupt);
    const outcome = await new Promise<'ready' | number>((resolve, reject) => {
      child.once('error', reject);
      child.once('message', () => resolve('ready'));
      child.once('exit', (code) => resolve(code ?? EXIT_CODES.hostFailure));
    });
    process.removeListener('SIGINT', interrupt);
    show();
    if (outcome !== 'ready') return outcome;
    child.unref();
    if (child.connected) child.disconnect();
    process.stdout.write(`${name}\n`);
    return EXIT_CODES.ok;
  } finally {
    clearInterval(timer);
    closeSync(errors);
    rmSync(path, { force: true });
  }
}
