/** List of the commands that an agent has. */
import type { Abortable } from '../util/abort.js';
import { askAgent, type OpenSession, whileOpen } from './ask-agent.js';
import { askRefused, idRefused } from './command-errors.js';
import { MAX_PROCESSES } from './protocol.js';
import type { Ask } from './session.js';
import { decimal, requestBytes, StringSplitter } from './strings.js';
import { Violation } from './violation.js';

/** Bounds of a record: its longest string, and how many there are. */
const MAX_STRING_BYTES = 8192;
const MAX_STRINGS = 8192;
const MAX_ID = 0xffff_ffff;
const MAX_PID = 0x7fff_ffff;
const MAX_EXIT_CODE = 255;
const MAX_SIGNAL = 64;
/** Numbers and state, before the arguments. */
const FIXED_STRINGS = 4;
const MS_PER_SECOND = 1000;
/** Latest time that a Date has, in seconds. */
const MAX_SECONDS = 8_640_000_000_000;

/** Command that an agent has: it runs, or has ended and is kept to be found. */
export interface AgentProcessFacts {
  readonly id: number;
  readonly pid: number;
  /** Program and arguments; of very long ones the first, and `''` for an empty one. What is no UTF-8 in them is replaced. */
  readonly argv: readonly string[];
  readonly started: Date;
  /** Absent while it runs. */
  readonly ended?: { readonly exitCode: number } | { readonly signal: number };
}

/** Lists the commands, those that began first first. */
export async function listProcesses(
  open: OpenSession,
  { signal }: Abortable,
): Promise<readonly AgentProcessFacts[]> {
  const ask: Ask<void, void> = {
    request: requestBytes('processes'),
    outputs: { 1: 'bytes' },
    last: () => {},
    refused: askRefused,
  };
  const session = await open(ask, { signal });
  return await whileOpen(session, signal, async () => {
    const facts = await readRecords(session.stdout as AsyncIterable<Buffer>);
    await session.last;
    return facts;
  });
}

/** Forgets a command that has ended. */
export async function forgetProcess(open: OpenSession, id: number): Promise<void> {
  await askAgent(open, {
    request: requestBytes('forget', [['id', id]]),
    last: () => {},
    refused: idRefused(id),
  });
}

async function readRecords(bytes: AsyncIterable<Buffer>): Promise<AgentProcessFacts[]> {
  const splitter = new StringSplitter(MAX_STRING_BYTES);
  const processes: AgentProcessFacts[] = [];
  let strings: string[] = [];
  for await (const piece of bytes)
    for (const string of splitter.push(piece)) {
      strings.push(string.toString());
      if (strings.length > MAX_STRINGS) throw new Violation('a command with too many arguments');
      if (!isWhole(strings)) continue;
      if (processes.length === MAX_PROCESSES) throw new Violation('more commands than an agent has');
      processes.push(factsOf(strings));
      strings = [];
    }
  splitter.end();
  if (strings.length > 0) throw new Violation('a record that is cut off');
  return processes;
}

function isWhole(strings: readonly string[]): boolean {
  return strings.length > FIXED_STRINGS && strings.at(-1) === '';
}

function factsOf([
  id = '',
  pid = '',
  state = '',
  started = '',
  ...rest
]: readonly string[]): AgentProcessFacts {
  const ended = endOf(state);
  return {
    id: decimal(id, 'id', MAX_ID),
    pid: decimal(pid, 'pid', MAX_PID),
    argv: rest.slice(0, -1),
    started: timeOf(started),
    ...(ended === undefined ? {} : { ended }),
  };
}

function endOf(state: string): AgentProcessFacts['ended'] {
  if (state === 'running') return undefined;
  const [kind, number = ''] = state.split('=', 2);
  if (kind === 'exited') return { exitCode: decimal(number, 'exited', MAX_EXIT_CODE) };
  if (kind === 'signal') return { signal: decimal(number, 'signal', MAX_SIGNAL) };
  throw new Violation('a state of a command that is none');
}

function timeOf(text: string): Date {
  const [, seconds = '', milliseconds = ''] = /^(\d{1,13})\.(\d{3})\d{6}$/.exec(text) ?? [];
  return new Date(decimal(seconds, 'started', MAX_SECONDS) * MS_PER_SECOND + Number(milliseconds));
}
