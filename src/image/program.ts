/** Programs of the host that images are unpacked and written with. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TsvmError } from '../errors.js';
import { programOutput } from '../host/process/program-filter.js';
import { programPath } from '../host/process/program-path.js';

/** Bound of what a program says: a list of names. */
const MAX_OUTPUT_BYTES = 256 << 20;
/** Length that is kept of a failing program's messages. */
const MAX_COMPLAINT_CHARACTERS = 4096;

export interface Program {
  readonly name: string;
  readonly debianPackage: string;
}

/**
 * Runs a program to its end, and returns what it wrote.
 *
 * @param complain - makes an error of the first line of what it said when it failed
 * @throws TsvmError `TSVM_HOST` if it is not installed, with the Debian package that has it.
 */
export async function outputOf(
  program: Program,
  args: readonly string[],
  complain: (complaint: string) => Error,
  signal?: AbortSignal,
): Promise<string> {
  const { name, debianPackage } = program;
  // Names as they are, also those that are not ASCII.
  const env = { LC_ALL: 'C.UTF-8' };
  try {
    const filter = { command: [name, ...args] as const, debianPackage, purpose: 'for images', env, signal };
    return Buffer.from(await programOutput(filter, MAX_OUTPUT_BYTES)).toString('utf8');
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof TsvmError
      ? error
      : complain(error instanceof Error ? error.message : String(error));
  }
}

/**
 * Pipes `input` through a program, which finds no other program.
 *
 * @throws TsvmError `TSVM_HOST` if it is not installed.
 * @throws Error with what it said, if it fails.
 */
export async function* outputFrom(
  program: Program,
  args: readonly string[],
  input: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const child = start(program, args);
  const { fed, ended } = follow(child, input);
  try {
    yield* child.stdout as AsyncIterable<Uint8Array>;
    await ended;
    await fed;
  } finally {
    child.kill('SIGKILL'); // whoever reads may have had enough
  }
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

function start(program: Program, args: readonly string[]): Child {
  // Formats that libarchive does not know are given to programs that it finds along PATH.
  const env = { PATH: '/nonexistent', LC_ALL: 'C.UTF-8' };
  return spawn(pathOf(program), args, { stdio: ['pipe', 'pipe', 'pipe'], env });
}

/** Promises of the input's end and of the program's: the first is rejected if the input fails. */
function follow(
  child: Child,
  input: AsyncIterable<Uint8Array>,
): { fed: Promise<void>; ended: Promise<void> } {
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (complaint.length < MAX_COMPLAINT_CHARACTERS) complaint += text;
  });
  const fed = pipeline(Readable.from(input), child.stdin).catch((error: unknown) => {
    // It has ended before it read everything: its status says whether it should have.
    if ((error as { code?: string }).code === 'EPIPE') return;
    child.kill('SIGKILL');
    throw error;
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      const [line] = complaint.trim().split('\n');
      // Why the input failed says more.
      if (status === 0) resolve();
      else
        fed.then(() => reject(new Error(line || `${child.spawnfile} failed with status ${status}`)), reject);
    });
  });
  fed.catch(() => {}); // it is told by `ended`, or awaited after it
  ended.catch(() => {});
  return { fed, ended };
}

/** Path of a program. @throws TsvmError `TSVM_HOST` if it is not installed. */
function pathOf({ name, debianPackage }: Program): string {
  const path = programPath(name);
  if (path !== undefined) return path;
  throw new TsvmError('TSVM_HOST', `the program '${name}' is needed for images, and is not installed`, {
    hint: `install it: apt-get install ${debianPackage}`,
  });
}
