/** Commands by the agent's protocol alone, for tests of its program. */
import { buffer } from 'node:stream/consumers';
import type { Connection } from '../../src/agent/connection.js';
import type { Ask, Session } from '../../src/agent/session.js';
import { type Operand, type Reply, type RequestOption, requestBytes } from '../../src/agent/strings.js';
import { TsvmError } from '../../src/errors.js';

const fieldsOf = (reply: Reply, names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.filter((name) => reply.has(name)).map((name) => [name, reply.text(name)]));

const FIRST = ['id', 'pid', 'dropped1', 'dropped2'];
const LAST = ['id', 'pid', 'exited', 'signal', 'oom'];
const FACTS = ['load', 'uptime', 'memory', 'available', 'swap', 'swapfree', 'disk', 'diskfree', 'processes'];

type Fields = Record<string, string>;
export type CommandSession = Session<Fields, Fields>;

const refused: Ask<unknown, unknown>['refused'] = ({ errno, what }) =>
  new TsvmError('TSVM_AGENT', `${errno} ${what}`);

/** Operation on one command: `exec` or `attach`. */
export function askCommand(
  connection: Connection,
  options: readonly RequestOption[],
  operands: readonly Operand[] = [],
  operation: 'exec' | 'attach' = 'exec',
): CommandSession {
  return connection.open<Fields, Fields>({
    request: requestBytes(operation, options, operands),
    outputs: { 1: 'bytes', 2: 'bytes' },
    input: 'ends',
    first: (reply) => fieldsOf(reply, FIRST),
    last: (reply) => fieldsOf(reply, LAST),
    refused,
  });
}

/** Result of a command that has ended. */
export interface Ran {
  readonly first: Fields;
  readonly last: Fields;
  readonly stdout: string;
  readonly stderr: string;
}

/** Reads all that a command writes, until it has ended. */
export async function finished(session: CommandSession): Promise<Ran> {
  const [first, last, stdout, stderr] = await Promise.all([
    session.first,
    session.last,
    buffer(session.stdout),
    buffer(session.stderr),
  ]);
  return { first, last, stdout: stdout.toString('latin1'), stderr: stderr.toString('latin1') };
}

/** Runs a command to its end. */
export async function runCommand(
  connection: Connection,
  argv: readonly string[],
  options: readonly RequestOption[] = [],
  input?: string | Uint8Array,
): Promise<Ran> {
  const session = askCommand(connection, input === undefined ? [['input', 0], ...options] : options, argv);
  // It need not read all of it.
  session.input.on('error', () => {});
  if (input !== undefined) session.input.end(input);
  return await finished(session);
}

/** Operation with nothing but a last reply, or output of its own on stream 1. */
export async function ask(
  connection: Connection,
  operation: string,
  options: readonly RequestOption[] = [],
  operands: readonly Operand[] = [],
): Promise<{ readonly reply: Fields; readonly records: string }> {
  const session = connection.open<void, Fields>({
    request: requestBytes(operation, options, operands),
    outputs: { 1: 'bytes' },
    last: (reply) => fieldsOf(reply, [...LAST, ...FACTS]),
    refused,
  });
  const [reply, records] = await Promise.all([session.last, buffer(session.stdout)]);
  return { reply, records: records.toString('latin1') };
}

/** Commands that the agent has, by their numbers. */
export async function listed(connection: Connection): Promise<ReadonlyMap<string, readonly string[]>> {
  const { records } = await ask(connection, 'processes');
  const rows = records.split('\0\0').filter((row) => row !== '');
  return new Map(rows.map((row) => row.split('\0')).map(([id = '', ...rest]) => [id, rest]));
}
