/** The agent's program under sanitizers, with a host that does not keep to the protocol. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { frame, number32 } from '../../src/agent/frames.js';
import {
  AGENT_SESSION,
  AGENT_VERSION,
  FRAME,
  KEPT_ENDED,
  MAX_PAYLOAD_BYTES,
  MAX_SESSIONS,
  WINDOW_BYTES,
} from '../../src/agent/protocol.js';
import type { RequestOption } from '../../src/agent/strings.js';
import { type AgentProgram, compileSanitized, startAgent } from '../support/agent-program.js';
import { eventually } from '../support/eventually.js';
import { budget, patience } from '../support/fuzz.js';
import { HELLO, RawHost, request } from '../support/raw-host.js';

const COMPILE_MS = 180_000;

let folder: string;
let agent: AgentProgram;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsvm-agent-hostile-'));
  const program = join(folder, 'agent');
  compileSanitized(program);
  // Its parent's sanitizers, and leaks of a program that is killed, are not the matter.
  agent = await startAgent(program, { PATH: '/usr/bin:/bin', ASAN_OPTIONS: 'detect_leaks=0' });
}, COMPILE_MS);

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const CAT = request(1, 'exec', [], ['cat']);

async function dial(): Promise<RawHost> {
  return new RawHost(await agent.dial());
}

/** It serves others whatever one has done. */
async function serves(): Promise<void> {
  const host = (await dial()).send(HELLO, request(1, 'exec', [['input', 0]], ['sh', '-c', 'echo it serves']));
  await eventually(() => [host.received.includes('it serves'), agent.complaints]).toEqual([true, '']);
  host.close();
}

/** Signals to all commands that are there. */
async function killAll(): Promise<void> {
  const host = (await dial()).send(HELLO, request(1, 'processes'));
  await eventually(() => [host.received.at(-4), host.received.at(-3)]).toEqual([FRAME.REPLY, 1]);
  const ids = [...host.received.toString('latin1').matchAll(/(\d+)\0\d+\0running\0/g)].map(([, id]) =>
    Number(id),
  );
  host.send(
    ...ids.map((id, i) =>
      request(i + 2, 'signal', [
        ['id', id],
        ['signal', 9],
      ]),
    ),
  );
  // The last reply of the last session; one that has ended meanwhile is refused.
  const last = Buffer.of(0, 0, 0, 0, FRAME.REPLY, 1, 0, 0);
  last.writeUInt32LE(ids.length + 1);
  await eventually(() => host.received.includes(last)).toBe(true);
  host.close();
}

test.each<[name: string, ...frames: Uint8Array[]]>([
  ['no greeting', CAT],
  ['another version', frame(FRAME.HELLO, 0, 0, number32(AGENT_VERSION + 1))],
  ['a greeting of another length', frame(FRAME.HELLO, 0, 0, Buffer.alloc(5))],
  ['a second greeting', HELLO, HELLO],
  ['a session 0', HELLO, request(0, 'processes')],
  ['a session of the agent’s', HELLO, request(AGENT_SESSION + 1, 'processes')],
  ['a session number that goes back', HELLO, request(2, 'processes'), request(1, 'processes')],
  ['a session that never was', HELLO, frame(FRAME.CLOSE, 9, 0)],
  ['a reply to its own request', HELLO, CAT, frame(FRAME.REPLY, 1, 1)],
  ['an unknown type', HELLO, CAT, frame(200, 1, 0)],
  ['a length beyond the bound', HELLO, number32(MAX_PAYLOAD_BYTES + 1), Buffer.alloc(8)],
  ['bytes that must be 0', HELLO, number32(0), number32(1), Buffer.from([FRAME.CLOSE, 0, 1, 0])],
  ['a request without its NUL', HELLO, frame(FRAME.REQUEST, 1, 1, Buffer.from('processes'))],
  ['a request without its empty string', HELLO, frame(FRAME.REQUEST, 1, 1, Buffer.from('processes\0'))],
  ['an empty request', HELLO, frame(FRAME.REQUEST, 1, 1)],
  [
    'a request amid another',
    HELLO,
    frame(FRAME.REQUEST, 1, 0, Buffer.from('exec\0')),
    request(2, 'processes'),
  ],
  [
    'an endless request',
    HELLO,
    ...Array.from({ length: 65 }, () => frame(FRAME.REQUEST, 1, 0, Buffer.alloc(65_536, 1))),
  ],
  ['empty data', HELLO, CAT, frame(FRAME.DATA, 1, 0)],
  ['data of another stream', HELLO, CAT, frame(FRAME.DATA, 1, 1, Buffer.alloc(1))],
  ['data after the end', HELLO, CAT, frame(FRAME.END, 1, 0), frame(FRAME.DATA, 1, 0, Buffer.alloc(1))],
  ['two ends', HELLO, CAT, frame(FRAME.END, 1, 0), frame(FRAME.END, 1, 0)],
  [
    'data where there is no input',
    HELLO,
    request(1, 'exec', [], ['cat']),
    frame(FRAME.HOLE, 1, 0, Buffer.alloc(8, 1)),
  ],
  ['a credit of 0', HELLO, CAT, frame(FRAME.CREDIT, 1, 1, number32(0))],
  ['a credit for its own stream', HELLO, CAT, frame(FRAME.CREDIT, 1, 0, number32(1))],
  ['a credit beyond 4 GiB', HELLO, CAT, frame(FRAME.CREDIT, 1, 1, number32(0xffff_ffff))],
  ['a control without its NUL', HELLO, CAT, frame(FRAME.CONTROL, 1, 0, Buffer.from('signal=9'))],
])('%s ends the connection, and nothing else', async (_name, ...frames) => {
  const host = (await dial()).send(...frames);
  await eventually(() => [host.isClosed, agent.complaints]).toEqual([true, '']);
  await serves();
});

test('data beyond its window ends the connection', async () => {
  const host = (await dial()).send(HELLO, request(1, 'exec', [], ['sleep', '1000']));
  const piece = frame(FRAME.DATA, 1, 0, Buffer.alloc(MAX_PAYLOAD_BYTES));
  // A pipe takes a piece, for which there is credit.
  for (let bytes = 0; bytes <= WINDOW_BYTES * 2; bytes += MAX_PAYLOAD_BYTES) host.send(piece);
  await eventually(() => [host.isClosed, agent.complaints]).toEqual([true, '']);
  await serves();
  await killAll();
});

test('sessions beyond their bound are refused', async () => {
  const ids = Array.from({ length: MAX_SESSIONS + 1 }, (_, i) => i + 1);
  const host = (await dial()).send(HELLO, ...ids.map((id) => request(id, 'exec', [], ['cat'])));
  await eventually(() => host.received.includes('errno=11\0what=sessions\0')).toBe(true);
  host.close();
  await serves();
  await killAll();
}, 120_000);

const COMMANDS = [
  ['true'],
  ['cat'],
  ['head', '-c', '300000', '/dev/zero'],
  ['sh', '-c', 'echo a; echo b >&2; cat > /dev/null'],
  ['sleep', '0.05'],
  ['yes'],
  ['no-such-program'],
  [''],
  ['sh', '-c', '(sleep 0.2; echo late) & exit 3'],
];
const WORDS =
  'tty=1 tty=2 rows=5 cols=99999 input=0 detached=1 env=A=B cwd=/tmp cwd=/x uid=-1 groups=1,,2 groups= rlimit=7:100:100 rlimit=3 rlimit=99:1:1 id=1 signal=9 x';
const option = fc
  .constantFrom(...WORDS.split(' '))
  .map((word): RequestOption => [word.split('=')[0] ?? '', word.slice(word.indexOf('=') + 1)]);
const id = fc.integer({ min: 0, max: 60 }).map((value): RequestOption => ['id', value]);

/** One thing that a host sends: to one of its last sessions, mostly. */
const deed = fc.oneof(
  {
    weight: 30,
    arbitrary: fc.record({
      exec: fc.constantFrom(...COMMANDS),
      options: fc.oneof(
        fc.array(fc.constantFrom<RequestOption>(['tty', 1], ['input', 0], ['detached', 1]), { maxLength: 2 }),
        fc.array(option, { maxLength: 4 }),
      ),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      operation: fc.constantFrom('attach', 'forget', 'processes', 'facts', 'signal', 'accepted'),
      options: fc.oneof(
        fc.tuple(id),
        fc.tuple(id, fc.constantFrom<RequestOption>(['signal', 9], ['signal', 99])),
        fc.constant([]),
      ),
    }),
  },
  {
    weight: 60,
    arbitrary: fc.record({
      back: fc.integer({ min: 0, max: 4 }),
      frame: fc.oneof(
        fc
          .constantFrom(1, 10, 5000, MAX_PAYLOAD_BYTES)
          .map((size) => [FRAME.DATA, 0, Buffer.alloc(size, 'x\n')] as const),
        fc
          .tuple(fc.constantFrom(1, 2), fc.constantFrom(1, 65_536, 1 << 20))
          .map(([stream, bytes]) => [FRAME.CREDIT, stream, number32(bytes)] as const),
        fc
          .constantFrom('signal=9', 'signal=15', 'size=3x4', 'size=99999x4\0size=1x1', 'q', 'signal=', '')
          .map((text) => [FRAME.CONTROL, 0, Buffer.from(`${text}\0`)] as const),
        fc.constant([FRAME.CLOSE, 0, Buffer.alloc(0)] as const),
        fc.constant([FRAME.END, 0, Buffer.alloc(0)] as const),
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ garbage: fc.uint8Array({ maxLength: 200 }) }) },
  { weight: 1, arbitrary: fc.record({ pause: fc.constant(true) }) },
);

test(
  'whatever frames come, it goes on and keeps nothing but what it should',
  async () => {
    await killAll();
    await serves();
    const descriptors = agent.descriptors();
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { minLength: 20, maxLength: 120, size: 'max' }), async (deeds) => {
        const host = (await dial()).send(HELLO);
        let last = 0;
        for (const one of deeds) {
          if ('exec' in one) host.send(request(++last, 'exec', one.options, one.exec));
          else if ('operation' in one) host.send(request(++last, one.operation, [...one.options]));
          else if ('garbage' in one) host.send(one.garbage);
          else if ('pause' in one) await new Promise((resolve) => setTimeout(resolve, 5));
          else host.send(frame(one.frame[0], Math.max(1, last - one.back), one.frame[1], one.frame[2]));
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
        host.close();
        expect([agent.isAlive, agent.complaints]).toEqual([true, '']);
      }),
      budget(150, 7),
    );
    await killAll();
    // Those that have ended are kept, without descriptors of their own.
    await eventually(() => agent.descriptors()).toBeLessThanOrEqual(descriptors + KEPT_ENDED / 8);
    await serves();
  },
  patience(120_000),
);
