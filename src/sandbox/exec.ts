/** Command that runs to its end, whose output is collected. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TsvmError } from '../errors.js';
import { MIB } from '../util/units.js';
import type { CommandOptions } from './command.js';
import type { Job, JobEnd } from './job.js';

/** Bound of what is collected of each output unless another is asked for: the memory of the one who asks is at stake. */
export const MAX_OUTPUT_BYTES: number = 16 * MIB;

/** Input of a command: `pipe` for who writes it to the stream, or what is given to it. */
export type CommandInput = string | Uint8Array | AsyncIterable<string | Uint8Array>;

/** Options of a command that runs to its end. */
export interface ExecOptions extends CommandOptions {
  /** Input of the command. Default: none. */
  readonly stdin?: CommandInput | undefined;
  /** Bound of what is kept of each output, in bytes: the first of it. The rest is read and dropped. Default: 16 MiB. */
  readonly maxOutputBytes?: number | undefined;
  /** Throw a {@link CommandError} when the exit status is not 0. Default: false. */
  readonly check?: boolean | undefined;
}

/** Result of a command that has ended. */
export interface ExecResult extends JobEnd {
  /** Output as text; bytes that are no UTF-8 become U+FFFD. */
  readonly stdout: string;
  readonly stderr: string;
  /** Whether more was written than `maxOutputBytes`, which is lost. */
  readonly truncated: boolean;
}

/** Command that was to be checked and did not exit with 0. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly code = 'TSVM_EXIT_STATUS';
  readonly result: ExecResult;

  constructor(what: string, result: ExecResult) {
    const { signal, exitCode, outOfMemory } = result;
    const how = signal === undefined ? `exit status ${exitCode}` : `ended by signal ${signal}`;
    super(`${what}: ${how}${outOfMemory ? ', since memory ran out' : ''}`);
    this.result = result;
  }
}

/**
 * Gives a command its input, collects its output and waits for its end. An abort ends the command.
 *
 * @param what - command, for messages
 */
export async function collect(
  job: Job,
  what: string,
  { stdin, maxOutputBytes = MAX_OUTPUT_BYTES, check = false, signal }: ExecOptions,
): Promise<ExecResult> {
  const end = (): void => void job.kill('SIGKILL').catch(() => {}); // it never began
  let failure: { readonly error: unknown } | undefined;
  signal?.addEventListener('abort', end, { once: true });
  try {
    if (stdin !== undefined) {
      // One that took the input for whole would go wrong.
      void feed(job, stdin, (error) => {
        failure = { error };
        end();
      });
    }
    const outputs = Promise.all([job.stdout, job.stderr].map((stream) => firstBytes(stream, maxOutputBytes)));
    outputs.catch(() => {}); // its end says why
    const ended = await job.wait({ signal });
    if (failure !== undefined) throw (failure as { readonly error: unknown }).error;
    const [stdout, stderr] = (await outputs) as [Output, Output];
    const truncated = stdout.truncated || stderr.truncated;
    const result = { ...ended, stdout: stdout.text, stderr: stderr.text, truncated };
    if (check && ended.exitCode !== 0) throw new CommandError(what, result);
    return result;
  } finally {
    signal?.removeEventListener('abort', end);
  }
}

/** Writes the input. A command may end before it has read all of it. @param onFailure - called if the input breaks off */
async function feed(job: Job, input: CommandInput, onFailure: (error: unknown) => void): Promise<void> {
  if (typeof input === 'string' || input instanceof Uint8Array) {
    job.stdin.end(input);
    return;
  }
  await pipeline(Readable.from(watched(input, onFailure)), job.stdin).catch(() => {});
}

/** Passes an input on. Its own failures are told, and no others, which a generator hears of as well. */
async function* watched<T>(input: AsyncIterable<T>, onFailure: (error: unknown) => void): AsyncGenerator<T> {
  const pieces = input[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<T>> => {
    try {
      return await pieces.next();
    } catch (error) {
      onFailure(error);
      throw error;
    }
  };
  try {
    for (let step = await next(); step.done !== true; step = await next()) yield step.value;
  } finally {
    await pieces.return?.();
  }
}

interface Output {
  readonly text: string;
  readonly truncated: boolean;
}

async function firstBytes(stream: AsyncIterable<Uint8Array>, most: number): Promise<Output> {
  const pieces: Uint8Array[] = [];
  let room = most;
  let truncated = false;
  for await (const bytes of stream) {
    const kept = bytes.subarray(0, room);
    if (kept.length > 0) pieces.push(kept);
    room -= kept.length;
    truncated ||= kept.length < bytes.length;
  }
  return { text: Buffer.concat(pieces).toString('utf8'), truncated };
}

/** Checks a bound of output. @throws TsvmError `TSVM_CONFIG` */
export function checkOutputBound({ maxOutputBytes }: ExecOptions): void {
  if (maxOutputBytes === undefined || (Number.isSafeInteger(maxOutputBytes) && maxOutputBytes >= 0)) return;
  throw new TsvmError('TSVM_CONFIG', `maxOutputBytes: ${maxOutputBytes} is not a length`, {
    hint: 'a whole number of bytes',
  });
}
