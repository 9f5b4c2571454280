/** Command that runs in a sandbox: its streams, its signals and its end. */
import { constants } from 'node:os';
import { PassThrough, type Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { AgentExit, AgentProcess } from '../agent/process.js';
import { TsvmError } from '../errors.js';
import { untilAborted } from '../util/abort.js';
import { LineSplitter } from '../util/line-feed.js';
import { type CallOptions, inTime } from './call.js';
import type { CommandOptions, TerminalSize } from './command.js';

const { SIGKILL, SIGTERM } = constants.signals;
/** Greatest number of a signal of Linux. */
const MAX_SIGNAL = 64;
/** Base of the exit status of a command that a signal ended, as in a shell. */
const SIGNAL_BASE = 128;

/** Options of a command that is started. */
export interface SpawnOptions extends CommandOptions {
  /** `pipe`: the command reads what is written to `stdin` of the job. Default `ignore`: its input is at its end from the beginning. */
  readonly stdin?: 'pipe' | 'ignore' | undefined;
  /** Terminal for the command, of this size: all that it shows is on `stdout`. Default: none. */
  readonly tty?: boolean | TerminalSize | undefined;
  /** Let the command go on, with nobody who reads it, when this process lets go of it. */
  readonly detached?: boolean | undefined;
}

/** End of a command. */
export interface JobEnd {
  /** Exit status; 128 + N of a command that signal N ended, as in a shell. */
  readonly exitCode: number;
  /** Number of the signal that ended it; absent if it exited. */
  readonly signal?: number;
  /** Whether the kernel ended it because memory ran out. */
  readonly outOfMemory: boolean;
}

/** Numbers by which a command is found again. */
export interface JobFacts {
  /** Number that the sandbox's agent gave it, for `Sandbox.attach()`. */
  readonly id: number;
  /** Number of the process, as it is seen in the sandbox. */
  readonly pid: number;
}

/**
 * Command in a sandbox, from the moment that it is asked for: its streams can be used at once, and `started` tells when it runs.
 *
 * Output has a window: a command whose output nobody reads waits, as it does with a pipe. Each promise and stream fails with the same error if the
 * command cannot be started: nobody has to wait for all of them.
 */
export class Job implements AsyncDisposable {
  /** Input of the command; ended from the beginning unless it was asked for. */
  readonly stdin: Writable = new PassThrough();
  /** Output; of a command with a terminal everything that the terminal shows. */
  readonly stdout: Readable = new PassThrough();
  readonly stderr: Readable = new PassThrough();
  /** Resolves when the command has been executed. */
  readonly started: Promise<JobFacts>;
  readonly #what: string;
  readonly #process: Promise<AgentProcess>;
  readonly #end: Promise<JobEnd>;

  /** @param what - command, for messages */
  constructor(what: string, process: Promise<AgentProcess>) {
    this.#what = what;
    this.#process = process;
    this.started = process.then(({ id, pid }) => ({ id, pid }));
    this.#end = process.then(async (begun) => {
      this.#connect(begun);
      return jobEnd(await begun.exited);
    });
    for (const stream of [this.stdin, this.stdout, this.stderr]) stream.on('error', () => {}); // told to who uses it
    for (const promise of [this.started, this.#end]) promise.catch((error: Error) => this.#fail(error));
  }

  /** Resolves when the command has ended. An abort, or the end of the time, ends the wait alone. */
  async wait(options: CallOptions = {}): Promise<JobEnd> {
    return await inTime(`wait for ${this.#what}`, options, ({ signal }) =>
      untilAborted(signal, () => this.#end),
    );
  }

  /** Sends a signal to the command and what it started in its process group. One that has ended hears nothing. */
  async kill(signal: NodeJS.Signals | number = SIGTERM): Promise<void> {
    const number = signalNumber(signal);
    (await this.#process).signal(number);
  }

  /** Tells the command the size of its terminal. */
  async resize(rows: number, columns: number): Promise<void> {
    (await this.#process).resize(rows, columns);
  }

  /** Lets go of the command, which goes on: its streams are over here. */
  async detach(): Promise<void> {
    (await this.#process).detach();
  }

  /** Reads lines of the output, each without its end; the command waits for who reads them. */
  async *lines(): AsyncGenerator<string, void, undefined> {
    const splitter = new LineSplitter();
    for await (const bytes of this.stdout as AsyncIterable<Uint8Array>) yield* splitter.push(bytes);
    yield* splitter.end();
  }

  /** Ends the command, if it runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill(SIGKILL).catch(() => {}); // it never began
    await this.#end.catch(() => {});
  }

  #connect({ stdin, stdout, stderr }: AgentProcess): void {
    const failed = (stream: Readable) => (error: Error) => void stream.destroy(error);
    pipeline(this.stdin as PassThrough, stdin).catch(() => {}); // it has ended, or reads no more
    pipeline(stdout, this.stdout as PassThrough).catch(failed(this.stdout));
    pipeline(stderr, this.stderr as PassThrough).catch(failed(this.stderr));
  }

  #fail(error: Error): void {
    for (const stream of [this.stdin, this.stdout, this.stderr]) stream.destroy(error);
  }
}

function jobEnd({ exitCode, signal, outOfMemory }: AgentExit): JobEnd {
  if (signal === undefined) return { exitCode, outOfMemory };
  return { exitCode: SIGNAL_BASE + signal, signal, outOfMemory };
}

/** Number of a signal. @throws TsvmError `TSVM_CONFIG` for a name or number that Linux does not have. */
function signalNumber(signal: NodeJS.Signals | number): number {
  const number = typeof signal === 'number' ? signal : constants.signals[signal];
  if (Number.isInteger(number) && number >= 0 && number <= MAX_SIGNAL) return number;
  throw new TsvmError('TSVM_CONFIG', `signal: ${signal} is not a signal`, { hint: "for example 'SIGTERM'" });
}
