/** The client of an agent with the agent's program, which runs here, beside the tests. */

import type { Duplex } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Agent, agentOf } from '../../src/agent/agent.js';
import { type AgentProgram, startAgent } from '../support/agent-program.js';
import { eventually } from '../support/eventually.js';

let program: AgentProgram;
let client: Agent;
let dialled: Duplex[];

beforeEach(async () => {
  program = await startAgent();
  dialled = [];
  client = agentOf(async () => {
    const connection = await program.dial();
    dialled.push(connection);
    return connection;
  });
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await program[Symbol.asyncDispose]();
});

async function run(argv: readonly string[], input?: string): Promise<readonly [string, string, number]> {
  const command = await client.spawn({ argv, hasInput: input !== undefined });
  if (input !== undefined) command.stdin.end(input);
  const [stdout, stderr, { exitCode }] = await Promise.all([
    text(command.stdout),
    text(command.stderr),
    command.exited,
  ]);
  return [stdout, stderr, exitCode];
}

test('has input, output, error and status', async () => {
  expect(await run(['sh', '-c', 'cat; echo no >&2; exit 3'], 'yes\n')).toEqual(['yes\n', 'no\n', 3]);
});

test.each([
  ['no-such-program', 'TSVM_COMMAND_NOT_FOUND'],
  ['/no/such/program', 'TSVM_COMMAND_NOT_FOUND'],
  ['/etc', 'TSVM_COMMAND'],
  ['/etc/passwd', 'TSVM_COMMAND'],
])('%s: %s', async (name, code) => {
  await expect(client.spawn({ argv: [name] })).rejects.toMatchObject({ code, hint: expect.any(String) });
});

test('a working directory that is missing is told', async () => {
  await expect(client.spawn({ argv: ['true'], cwd: '/no/such' })).rejects.toMatchObject({
    code: 'TSVM_COMMAND',
    message: expect.stringContaining('/no/such'),
  });
});

test('a terminal has the size that it is told', async () => {
  const command = await client.spawn({
    argv: ['sh', '-c', 'read x; stty size'],
    tty: true,
    rows: 10,
    columns: 20,
  });
  command.resize(33, 77);
  command.stdin.write('\n');
  expect(await text(command.stdout)).toContain('33 77');
});

test('200 commands at once', async () => {
  const all = await Promise.all(Array.from({ length: 200 }, (_, n) => run(['echo', `${n}`])));
  expect(all.map(([stdout]) => stdout)).toEqual(all.map((_, n) => `${n}\n`));
  expect(dialled).toHaveLength(1);
}, 60_000);

test('many commands one after another leave nothing on this side', async () => {
  for (let n = 0; n < 20; n++) await run(['true']);
  const listeners = (): number =>
    dialled[0]?.eventNames().reduce((sum, name) => sum + (dialled[0]?.listenerCount(name) ?? 0), 0) ?? 0;
  const before = listeners();
  for (let n = 0; n < 1000; n++) await run(['true']);
  expect(listeners()).toBe(before);
  expect(dialled).toHaveLength(1);
  expect((await client.processes()).length).toBeLessThanOrEqual(64);
}, 60_000);

test('attach takes the streams over from who had them', async () => {
  const { id, ...started } = await client.spawn({
    argv: ['sh', '-c', 'read x; sleep 0.2; echo $x; echo end'],
  });
  started.stdin.write('word\n');
  await eventually(() => started.stdin.writableLength).toBe(0);
  const command = await client.attach(id);
  await expect(started.exited).rejects.toMatchObject({ code: 'TSVM_STATE' });
  expect(await text(command.stdout)).toBe('word\nend\n');
  expect(await command.exited).toMatchObject({ exitCode: 0 });
  await client.forget(id);
  await expect(client.attach(id)).rejects.toMatchObject({ code: 'TSVM_STATE' });
});

test('commands are listed', async () => {
  await run(['true', '', 'x']);
  const command = await client.spawn({ argv: ['sleep', '60'] });
  expect((await client.processes()).map(({ argv }) => argv)).toContainEqual(['true', "''", 'x']);
  expect(await client.processes()).toContainEqual(
    expect.objectContaining({ id: command.id, pid: command.pid, argv: ['sleep', '60'] }),
  );
  command.signal(15);
  expect(await command.exited).toEqual({ exitCode: 143, signal: 15, outOfMemory: false });
});

test('facts are those of the machine', async () => {
  const facts = await client.facts();
  expect(facts.memoryBytes).toBeGreaterThan(facts.availableMemoryBytes);
  expect(facts.load).toHaveLength(3);
});

test('100 MB come through, each way', async () => {
  const bytes = 100_000_000;
  const command = await client.spawn({ argv: ['head', '-c', `${bytes}`, '/dev/zero'], hasInput: false });
  expect((await buffer(command.stdout)).length).toBe(bytes);
  const counted = await client.spawn({ argv: ['wc', '-c'] });
  counted.stdin.end(Buffer.alloc(bytes));
  expect((await text(counted.stdout)).trim()).toBe(`${bytes}`);
}, 60_000);

test('a reader who stops makes the command wait', async () => {
  const command = await client.spawn({
    argv: ['sh', '-c', 'head -c 20000000 /dev/zero; echo done >&2'],
    hasInput: false,
  });
  command.stdout.pause();
  let told = '';
  command.stderr.on('data', (bytes: Buffer) => {
    told += bytes;
  });
  await sleep(200);
  expect(told).toBe('');
  command.stdout.resume();
  await eventually(() => told).toBe('done\n');
});

test('an agent that is killed fails all that is under way, with one error', async () => {
  const commands = await Promise.all(
    Array.from({ length: 10 }, () => client.spawn({ argv: ['sleep', '60'] })),
  );
  process.kill(program.pid, 'SIGKILL');
  const ends = await Promise.allSettled(commands.map(({ exited }) => exited));
  expect(new Set(ends.map((end) => (end.status === 'rejected' ? end.reason : undefined))).size).toBe(1);
  expect(ends[0]).toMatchObject({ reason: { code: 'TSVM_AGENT' } });
  for (const { pid } of commands) process.kill(-pid, 'SIGKILL');
});
