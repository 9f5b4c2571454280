/** Commands under way: their streams, their signals and their end. */
import { Readable, Writable } from 'node:stream';
import { TsvmError } from '../errors.js';
import { type Abortable, untilAborted } from '../util/abort.js';
import { type OpenSession, whileOpen } from './ask-agent.js';
import { type AgentCommand, commandRequest, isSignal, isTerminalSide } from './command.js';
import { commandRefused, idRefused } from './command-errors.js';
import type { Ask, Session } from './session.js';
import { type Reply, requestBytes } from './strings.js';

const MAX_ID = 0xffff_ffff;
const MAX_PID = 0x7fff_ffff;
const MAX_EXIT_CODE = 255;
const MAX_SIGNAL = 64;
/** Base of the exit status of a command that a signal ended, as in a shell. */
const SIGNAL_BASE = 128;
const SIGKILL = 9;

/** End of a command. */
export interface AgentExit {
  /** Exit status; 128 + N of a command that signal N ended, as in a shell. */
  readonly exitCode: number;
  /** Number of the signal that ended it; absent if it exited. */
  readonly signal?: number;
  /** Whether the kernel ended it because memory ran out. */
  readonly outOfMemory: boolean;
}

/** Command that an agent has executed, and that its client reads. Output that nobody reads makes it wait, as a pipe does. */
export interface AgentProcess {
  /** Number that the agent gave it, for `attach()`. */
  readonly id: number;
  /** Number of the process where the agent is. */
  readonly pid: number;
  readonly stdin: Writable;
  /** Output; of a command with a terminal everything that the terminal shows. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when it has ended; its output can still be read then. Rejects when the agent is lost, or it was let go. Nobody has to listen. */
  readonly exited: Promise<AgentExit>;
  /** Bytes of its outputs that nobody read and that are lost; only of one that was attached to. */
  readonly dropped?: { readonly stdout: number; readonly stderr: number };
  /** Sends a signal to its process group. One that has ended hears nothing. */
  signal(number: number): void;
  /** Tells its terminal its size. */
  resize(rows: number, columns: number): void;
  /** Lets it go: it goes on where it is, and its streams are over here. */
  detach(): void;
}

interface Began {
  readonly id: number;
  readonly pid: number;
  readonly dropped?: { readonly stdout: number; readonly stderr: number };
}

type ProcessSession = Session<Began, AgentExit>;

/** Executes a command. One whose start was aborted is killed. */
export async function spawnProcess(
  open: OpenSession,
  command: AgentCommand,
  { signal }: Abortable,
): Promise<AgentProcess> {
  const request = commandRequest(command);
  const refused = commandRefused(command);
  if (command.detached === true) {
    const session = await open({ request, last: readBegan, refused }, { signal });
    return leftAlone(await untilStarted(session, signal, () => session.last));
  }
  const hasInput = command.hasInput !== false;
  const ask: Ask<Began, AgentExit> = {
    request,
    outputs: { 1: 'bytes', 2: 'bytes' },
    ...(hasInput ? { input: 'ends' } : {}),
    first: readBegan,
    last: readExit,
    refused,
  };
  const session = await open(ask, { signal });
  const began = await untilStarted(session, signal, () => session.first);
  return new SessionProcess(session, began, hasInput ? session.input : noInput());
}

/** Attaches to a command. */
export async function attachProcess(
  open: OpenSession,
  id: number,
  { signal }: Abortable,
): Promise<AgentProcess> {
  const ask: Ask<Began, AgentExit> = {
    request: requestBytes('attach', [['id', id]]),
    outputs: { 1: 'bytes', 2: 'bytes' },
    input: 'ends',
    first: readBegan,
    last: readExit,
    refused: idRefused(id),
  };
  const session = await open(ask, { signal });
  const began = await whileOpen(session, signal, () => session.first);
  return new SessionProcess(session, began, session.input);
}

class SessionProcess implements AgentProcess {
  readonly id: number;
  readonly pid: number;
  readonly dropped?: { readonly stdout: number; readonly stderr: number };
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<AgentExit>;
  readonly #session: ProcessSession;

  constructor(session: ProcessSession, { id, pid, dropped }: Began, stdin: Writable) {
    this.#session = session;
    this.id = id;
    this.pid = pid;
    if (dropped !== undefined) this.dropped = dropped;
    this.stdin = stdin;
    this.stdout = session.stdout;
    this.stderr = session.stderr;
    this.exited = session.last;
  }

  signal(number: number): void {
    checkSignal(number);
    this.#session.control(`signal=${number}`);
  }

  resize(rows: number, columns: number): void {
    checkSize(rows, columns);
    this.#session.control(`size=${rows}x${columns}`);
  }

  detach(): void {
    this.#session.close(new TsvmError('TSVM_STATE', `command ${this.id} was let go`));
  }
}

/** Command that nobody reads. */
function leftAlone({ id, pid }: Began): AgentProcess {
  const exited = Promise.reject(
    new TsvmError('TSVM_STATE', `nobody reads command ${id}, which was started detached`, {
      hint: 'attach to it to see its end',
    }),
  );
  exited.catch(() => {}); // nobody has to listen
  const stdout = Readable.from([]);
  const stderr = Readable.from([]);
  return {
    id,
    pid,
    stdin: noInput(),
    stdout,
    stderr,
    exited,
    signal: checkSignal,
    resize: checkSize,
    detach: () => {},
  };
}

/** Stream whose end was written already. */
function noInput(): Writable {
  const stream = new Writable();
  stream.on('error', () => {}); // who writes is told
  return stream.end();
}

/** Waits for the start; a command that is started after an abort is killed. */
async function untilStarted<T>(
  session: Session<unknown, unknown>,
  signal: AbortSignal | undefined,
  wait: () => Promise<T>,
): Promise<T> {
  const giveUp = (): void => {
    session.control(`signal=${SIGKILL}`);
    session.close(signal?.reason);
  };
  return await untilAborted(signal, wait, giveUp);
}

function checkSignal(number: number): void {
  if (number !== 0 && !isSignal(number)) throw new TsvmError('TSVM_CONFIG', `${number} is no signal`);
}

function checkSize(rows: number, columns: number): void {
  if (!isTerminalSide(rows) || !isTerminalSide(columns))
    throw new TsvmError('TSVM_CONFIG', `a terminal cannot have ${rows} rows and ${columns} columns`);
}

function readBegan(reply: Reply): Began {
  const began = { id: reply.number('id', MAX_ID), pid: reply.number('pid', MAX_PID) };
  if (!reply.has('dropped1')) return began;
  return { ...began, dropped: { stdout: reply.number('dropped1'), stderr: reply.number('dropped2') } };
}

/** Reads the end of a command. */
export function readExit(reply: Reply): AgentExit {
  const outOfMemory = reply.has('oom');
  if (!reply.has('signal')) return { exitCode: reply.number('exited', MAX_EXIT_CODE), outOfMemory };
  const signal = reply.number('signal', MAX_SIGNAL);
  return { exitCode: SIGNAL_BASE + signal, signal, outOfMemory };
}
