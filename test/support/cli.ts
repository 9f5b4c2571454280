/** Runs the built `tsvm`, the bundle that package.json names, as a user does; and keeps all that it said. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

export const TSVM = join(import.meta.dirname, '../../dist/bin/tsvm.cjs');

/** Words of a shell that give a mount namespace of its own a /dev without a KVM. */
export const BARE_DEV =
  'mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9';

export interface CliResult {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly ms: number;
}

export interface CliOptions {
  /** Written to its stdin, which then ends. Default: no input at all. */
  readonly input?: Uint8Array | string;
  readonly env?: Readonly<Record<string, string>>;
  /** Called with the process once it runs. */
  readonly onStart?: (child: ChildProcess) => void;
  /** Called with each piece of its output. */
  readonly onOutput?: (soFar: string, child: ChildProcess) => void;
  /** The process is killed then, and the promise rejects with what it had said. */
  readonly timeoutMs?: number;
}

/** A boot takes seconds on a quiet machine, and a minute on a busy one whose KVM interprets the guest. */
const DEFAULT_TIMEOUT_MS = 100_000;

/** `tsvm ARGS...` */
export function tsvm(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return run(process.execPath, [TSVM, ...args], options);
}

/** A program that has printed something: it is at work by then. Or it has ended without. */
export async function started(
  program: string,
  args: readonly string[],
  options: Omit<CliOptions, 'onOutput'> = {},
): Promise<{ readonly ended: Promise<CliResult> }> {
  let onOutput = (): void => {};
  const printed = new Promise<void>((resolve) => {
    onOutput = resolve;
  });
  const ended = run(program, args, { ...options, onOutput });
  await Promise.race([printed, ended]);
  return { ended };
}

/** Any program, with the same care. */
export function run(program: string, args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const started = performance.now();
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const { input, onOutput, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  child.stdout.on('data', (bytes: Buffer) => {
    stdout.push(bytes);
    onOutput?.(Buffer.concat(stdout).toString('latin1'), child);
  });
  child.stderr.on('data', (bytes: Buffer) => stderr.push(bytes));
  child.stdin.on('error', () => {}); // it ended before it read everything
  if (input !== undefined) child.stdin.end(input);
  else if (onOutput === undefined) child.stdin.end();
  options.onStart?.(child);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(
        new Error(
          `${program} ${args.join(' ')} went on for more than ${timeoutMs} ms.\n` +
            `stdout: ${Buffer.concat(stdout).toString('latin1')}\nstderr: ${Buffer.concat(stderr)}`,
        ),
      );
    }, timeoutMs);
    child.once('error', reject);
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      resolve({
        status,
        signal,
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr).toString(),
        ms: performance.now() - started,
      });
    });
  });
}

/** Why the built `tsvm` cannot be tested: it is missing, or older than its source. */
export function cliProblem(): string | undefined {
  if (!existsSync(TSVM)) return 'dist/ is missing: npm run build:ts';
  const source = join(import.meta.dirname, '../../src');
  const newest = Math.max(
    ...readdirSync(source, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs),
  );
  return statSync(TSVM).mtimeMs < newest ? 'dist/ is older than src/: npm run build:ts' : undefined;
}
