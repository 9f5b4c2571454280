/** Files and ports of the agent's program under sanitizers, with a host that does everything at once and gives up at any moment. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { frame, number32, number64 } from '../../src/agent/frames.js';
import { AGENT_SESSION, FRAME } from '../../src/agent/protocol.js';
import type { RequestOption } from '../../src/agent/strings.js';
import { type AgentProgram, compileSanitized, startAgent } from '../support/agent-program.js';
import { eventually } from '../support/eventually.js';
import { budget, patience } from '../support/fuzz.js';
import { HELLO, RawHost, request } from '../support/raw-host.js';

const COMPILE_MS = 180_000;

let folder: string;
let agent: AgentProgram;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsvm-agent-hostile-files-'));
  mkdirSync(join(folder, 'tree'));
  const program = join(folder, 'agent');
  compileSanitized(program);
  agent = await startAgent(program, { PATH: '/usr/bin:/bin', ASAN_OPTIONS: 'detect_leaks=0' });
}, COMPILE_MS);

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** Options of each operation, and how many paths in the tree it takes. */
const OPERATIONS: readonly (readonly [name: string, options: string, paths: number])[] = [
  ['read', 'offset=5 offset=1099511627776 length=0 length=100000', 1],
  ['write', 'mode=420 mode=1048576 append=1 exclusive=1 offset=70000 offset=4611686018427387904 atomic=1', 1],
  ['write', 'atomic=1', 1],
  ['write', '', 1],
  ['stat', 'follow=0', 1],
  ['list', 'depth=0 depth=5 depth=1000000', 1],
  ['mkdir', 'parents=1 mode=448', 1],
  ['remove', 'recursive=1 force=1', 1],
  ['rename', '', 2],
  ['link', '', 2],
  ['symlink', '', 2],
  ['chmod', 'mode=511 mode=0', 1],
  ['utimes', 'mtime=1.5 mtime=-3.1 mtime=x mtime=99999999999.999999999 follow=0', 1],
  ['truncate', 'size=100 size=1073741824', 1],
  ['mknod', 'mode=4516 mode=33188', 1],
  ['statfs', '', 1],
  ['watch', 'recursive=1', 1],
  ['ports', '', 0],
];

/** Path in the tree: short names, so that they meet. */
const path = fc
  .array(fc.constantFrom('a', 'b', 'c'), { maxLength: 3 })
  .map((parts) => join('tree', ...parts));

const asked = fc.constantFrom(...OPERATIONS).chain(([name, words, count]) =>
  fc.record({
    name: fc.constant(name),
    options: fc
      .subarray(words.split(' ').filter((word) => word !== ''))
      .map((picked) => picked.map((word) => word.split('=') as [string, string])),
    paths: fc.array(path, { minLength: count, maxLength: count }),
  }),
);

/** Ports by a Unix socket in the tree. */
const ports = fc
  .constantFrom('dial', 'offer')
  .map((name) => ({ name, options: [], paths: [], isPort: true }));

type Parts = readonly [type: number, detail: number, payload: Buffer];

const sent = fc.record({
  back: fc.integer({ min: 0, max: 6 }),
  ofAgent: fc.boolean(),
  frame: fc.oneof(
    fc.constantFrom(1, 100, 5000, 65_536).map((size): Parts => [FRAME.DATA, 0, Buffer.alloc(size, 'q')]),
    fc.constantFrom(1, 4096, 2 ** 33).map((size): Parts => [FRAME.HOLE, 0, number64(size)]),
    fc.constantFrom(1, 65_536).map((size): Parts => [FRAME.CREDIT, 1, number32(size)]),
    fc.constant<Parts>([FRAME.END, 0, Buffer.alloc(0)]),
    fc.constant<Parts>([FRAME.CLOSE, 0, Buffer.alloc(0)]),
    fc.constantFrom('', 'errno=111\0').map((text): Parts => [FRAME.REPLY, 1, Buffer.from(text)]),
  ),
});

const deed = fc.oneof(
  { weight: 8, arbitrary: asked },
  { weight: 4, arbitrary: ports },
  { weight: 12, arbitrary: sent },
);

/** Which frames a session of this operation takes: others end the connection, and nothing more is tried. */
function fits(type: number, operation: string | undefined): boolean {
  if (type === FRAME.DATA) return ['write', 'dial', 'accepted'].includes(operation ?? '');
  if (type === FRAME.HOLE) return operation === 'write';
  if (type === FRAME.REPLY) return operation === 'accepted';
  return type !== FRAME.CLOSE || operation !== 'accepted';
}

test(
  'whatever comes amid files and ports, it goes on and keeps nothing',
  async () => {
    const first = new RawHost(await agent.dial());
    await eventually(() => first.received.length).toBe(HELLO.length);
    const descriptors = agent.descriptors() - 1;
    first.close();
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { minLength: 20, maxLength: 100, size: 'max' }), async (deeds) => {
        const host = new RawHost(await agent.dial()).send(HELLO);
        const operations: string[] = [];
        const ended = new Set<number>();
        for (const one of deeds) {
          if ('frame' in one) {
            const [type, detail, payload] = one.frame;
            const session = one.ofAgent ? AGENT_SESSION + 1 : Math.max(1, operations.length - one.back);
            const isThere = !one.ofAgent || host.received.includes('accepted\0');
            if (
              !isThere ||
              !fits(type, one.ofAgent ? 'accepted' : operations[session - 1]) ||
              ended.has(session)
            )
              continue;
            if (type === FRAME.END) ended.add(session);
            host.send(frame(type, session, detail, payload));
          } else {
            operations.push(one.name);
            const options: RequestOption[] =
              'isPort' in one ? [['path', join(folder, 'socket')]] : [...one.options];
            const operands = one.paths.map((name) => join(folder, name));
            host.send(request(operations.length, one.name, options, operands));
            if ('isPort' in one) await new Promise((resolve) => setTimeout(resolve, 1));
          }
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
        host.close();
        expect([agent.isAlive, agent.complaints]).toEqual([true, '']);
      }),
      budget(200, 11),
    );
    await eventually(() => [agent.complaints, agent.descriptors()]).toEqual(['', descriptors]);
  },
  patience(120_000),
);
