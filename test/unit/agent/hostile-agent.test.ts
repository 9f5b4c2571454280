/** Agents that break the protocol: the connection ends with one error, and nothing else happens. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Connection, openConnection } from '../../../src/agent/connection.js';
import { frame, number32 } from '../../../src/agent/frames.js';
import {
  AGENT_SESSION,
  FRAME,
  LAST,
  MAX_PAYLOAD_BYTES,
  STREAM,
  WINDOW_BYTES,
} from '../../../src/agent/protocol.js';
import type { Ask, Session } from '../../../src/agent/session.js';
import { type Reply, requestBytes } from '../../../src/agent/strings.js';
import { TsvmError } from '../../../src/errors.js';
import { replyFrame, ScriptedAgent } from '../../support/scripted-agent.js';

const ASK: Ask<Reply, Reply> = {
  request: requestBytes('exec', [], ['cat']),
  outputs: { 1: 'bytes', 2: 'bytes' },
  input: 'ends',
  first: (reply) => reply,
  last: (reply) => reply,
  refused: ({ error }) => new TsvmError('TSVM_COMMAND', error.message),
};

const DATA = (bytes: number, session = 1, stream: number = STREAM.OUT): Buffer =>
  frame(FRAME.DATA, session, stream, Buffer.alloc(bytes, 1));
const HOLE = (length: bigint): Buffer => {
  const payload = Buffer.alloc(8);
  payload.writeBigUInt64LE(length);
  return frame(FRAME.HOLE, 1, STREAM.OUT, payload);
};
const head = (length: number, type: number, detail = 0, zero = 0): Buffer => {
  const bytes = frame(type, 1, detail);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt16LE(zero, 10);
  return bytes;
};
const accepted = (id: number, offer: string): Buffer =>
  frame(FRAME.REQUEST, AGENT_SESSION + id, LAST, Buffer.from(`accepted\0offer=${offer}\0\0`));

let agent: ScriptedAgent;
let connection: Connection;
let session: Session<Reply, Reply>;

beforeEach(async () => {
  agent = new ScriptedAgent();
  agent.greet();
  connection = await openConnection(async () => agent.near);
  session = connection.open(ASK);
});

afterEach(() => {
  vi.useRealTimers();
});

const VIOLATIONS: readonly (readonly [name: string, frames: readonly Buffer[]])[] = [
  ['a type that is none', [head(0, 99)]],
  ['type 0', [head(0, 0)]],
  ['a control, which is the host’s', [head(0, FRAME.CONTROL)]],
  ['a payload above the bound', [head(MAX_PAYLOAD_BYTES + 1, FRAME.DATA, STREAM.OUT)]],
  ['a payload of 4 GiB', [head(0xffff_ffff, FRAME.REPLY)]],
  ['empty data', [head(0, FRAME.DATA, STREAM.OUT)]],
  ['an end with a payload', [head(1, FRAME.END, STREAM.OUT)]],
  ['a credit of another length', [head(3, FRAME.CREDIT)]],
  ['a head with bits that are none', [head(0, FRAME.END, STREAM.OUT, 1)]],
  ['a stream that is none', [head(0, FRAME.END, 3)]],
  ['data on the stream to the agent', [DATA(1, 1, STREAM.IN)]],
  ['a second greeting', [frame(FRAME.HELLO, 0, 0, number32(1))]],
  ['a session that never was', [DATA(1, 2)]],
  ['session 0', [DATA(1, 0)]],
  ['a session of the agent’s that never was', [DATA(1, AGENT_SESSION + 1)]],
  ['a session of the agent’s without a number', [DATA(1, AGENT_SESSION)]],
  [
    'data beyond the window',
    Array.from({ length: WINDOW_BYTES / MAX_PAYLOAD_BYTES + 1 }, () => DATA(MAX_PAYLOAD_BYTES)),
  ],
  ['data after the end', [frame(FRAME.END, 1, STREAM.OUT), DATA(1)]],
  ['two ends', [frame(FRAME.END, 1, STREAM.OUT), frame(FRAME.END, 1, STREAM.OUT)]],
  ['a credit of 0', [frame(FRAME.CREDIT, 1, STREAM.IN, number32(0))]],
  ['credits above 4 GiB', [frame(FRAME.CREDIT, 1, STREAM.IN, number32(0xffff_ffff))]],
  ['a hole in a stream of bytes', [HOLE(1n)]],
  ['a hole of 0', [HOLE(0n)]],
  ['a hole of 2^64 - 1', [HOLE(2n ** 64n - 1n)]],
  ['a last reply before the first', [replyFrame(1, 'exited=0', true)]],
  ['two first replies', [replyFrame(1, 'id=1'), replyFrame(1, 'id=1')]],
  ['a refusal that is not the last', [replyFrame(1, 'errno=2')]],
  ['an errno that is none', [replyFrame(1, 'errno=99999', true)]],
  ['a reply without NUL', [frame(FRAME.REPLY, 1, 0, Buffer.from('id=1'))]],
  ['a reply with a field twice', [replyFrame(1, 'id=1 id=2')]],
  ['a reply with a field without a name', [replyFrame(1, '=1')]],
  ['a reply with too many fields', [frame(FRAME.REPLY, 1, 0, Buffer.alloc(MAX_PAYLOAD_BYTES))]],
  ['a close, which is the host’s', [frame(FRAME.CLOSE, 1)]],
  ['a session for one that offers nothing', [accepted(1, '1')]],
  ['a session for an offer that never was', [accepted(1, '9')]],
  ['a request that is none', [frame(FRAME.REQUEST, AGENT_SESSION + 1, LAST, Buffer.from('exec\0\0sh\0'))]],
  ['a request in pieces', [frame(FRAME.REQUEST, AGENT_SESSION + 1, 0, Buffer.from('accepted\0'))]],
  [
    'a request with a number of the host’s',
    [frame(FRAME.REQUEST, 5, LAST, Buffer.from('accepted\0offer=1\0\0'))],
  ],
];

describe.each([undefined, 1, 7])('in pieces of %s bytes', (pieceBytes) => {
  test.each(VIOLATIONS)('%s', async (_name, frames) => {
    agent.pieceBytes = pieceBytes;
    agent.say(...frames);
    await expect(session.last).rejects.toMatchObject({
      code: 'TSVM_AGENT',
      message: expect.stringMatching(/^the agent broke its protocol: [^\n]+$/),
    });
    expect(connection.isUsable).toBe(false);
    expect(agent.near.destroyed).toBe(true);
    expect(session.stdout.destroyed).toBe(true);
  });
});

test('frames of a session that is over are ignored', async () => {
  session.close();
  agent.say(DATA(5), replyFrame(1, 'id=1'), frame(FRAME.CLOSE, 1));
  await new Promise(setImmediate);
  expect(connection.isUsable).toBe(true);
});

test('half a frame is waited for, and its end of the connection is one error', async () => {
  agent.say(head(100, FRAME.REPLY), Buffer.alloc(50));
  agent.near.push(null);
  await expect(session.first).rejects.toMatchObject({ message: 'the connection to the agent was lost' });
});

test('no greeting: given up after its time', async () => {
  vi.useFakeTimers();
  const silent = new ScriptedAgent();
  const opening = openConnection(async () => silent.near);
  const refused = expect(opening).rejects.toMatchObject({
    code: 'TSVM_AGENT',
    message: 'no agent answered within 30 s',
  });
  await vi.advanceTimersByTimeAsync(30_000);
  await refused;
  expect(silent.near.destroyed).toBe(true);
});

test.each([
  [0, 'the agent is older'],
  [2, 'this tsvm is older'],
])('version %i: says which side is older', async (version, hint) => {
  const other = new ScriptedAgent();
  other.greet(version);
  await expect(openConnection(async () => other.near)).rejects.toMatchObject({
    code: 'TSVM_AGENT',
    hint: expect.stringContaining(hint),
  });
});

test('another program than an agent is told as such', async () => {
  const other = new ScriptedAgent();
  other.say(Buffer.from('SSH-2.0-OpenSSH_9.7\r\n'));
  await expect(openConnection(async () => other.near)).rejects.toMatchObject({ code: 'TSVM_AGENT' });
});

test('a flood of sessions of the agent’s: those above the bound are refused', async () => {
  const taken: Session<void, void>[] = [];
  connection.open({ ...ASK, accepted: (one) => void taken.push(one) });
  for (let id = 1; id <= 1100; id++) agent.say(accepted(id, '2'));
  await new Promise(setImmediate);
  expect(taken).toHaveLength(1024);
  expect(agent.sent.filter(({ type }) => type === FRAME.REPLY)).toHaveLength(1100 - 1024);
  expect(connection.isUsable).toBe(true);
});

test('answers that the agent does not read are bounded', async () => {
  connection.open({ ...ASK, accepted: () => {} });
  agent.reads = false;
  for (let id = 1; id < 70_000; id++) agent.say(accepted(id, '2'));
  await expect(session.last).rejects.toMatchObject({ code: 'TSVM_AGENT' });
});

test('small frames within the window take no more memory than their bytes', async () => {
  for (let count = 0; count < WINDOW_BYTES; count += 64) agent.say(DATA(64));
  await new Promise(setImmediate);
  expect(connection.isUsable).toBe(true);
  let read = 0;
  for await (const piece of session.stdout) {
    read += (piece as Buffer).length;
    if (read === WINDOW_BYTES) break;
  }
  expect(read).toBe(WINDOW_BYTES);
});

test('any bytes: the connection goes on, or ends with TSVM_AGENT', async () => {
  const anyFrame = fc
    .tuple(
      fc.integer({ min: 0, max: 10 }),
      fc.constantFrom(0, 1, 2, AGENT_SESSION, AGENT_SESSION + 1),
      fc.nat(3),
      fc.uint8Array({ maxLength: 20 }),
    )
    .map(([type, id, detail, payload]) => frame(type, id, detail, payload));
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyFrame, { maxLength: 8 }),
      fc.integer({ min: 1, max: 30 }),
      async (frames, pieceBytes) => {
        const scripted = new ScriptedAgent();
        scripted.greet();
        const opened = await openConnection(async () => scripted.near);
        const one = opened.open(ASK);
        scripted.pieceBytes = pieceBytes;
        scripted.say(...frames);
        await new Promise(setImmediate);
        if (!opened.isUsable) await expect(one.last.catch((error: unknown) => error)).resolves.toBeDefined();
        opened.lose(new TsvmError('TSVM_AGENT', 'done'));
        expect(scripted.near.destroyed).toBe(true);
      },
    ),
  );
});
