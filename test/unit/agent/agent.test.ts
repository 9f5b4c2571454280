/** The client of an agent: commands over a connection that it keeps. */
import { text } from 'node:stream/consumers';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Agent, agentOf } from '../../../src/agent/agent.js';
import { frame, number32 } from '../../../src/agent/frames.js';
import type { AgentProcess } from '../../../src/agent/process.js';
import { FRAME, MAX_PAYLOAD_BYTES, STREAM, WINDOW_BYTES } from '../../../src/agent/protocol.js';
import { eventually } from '../../support/eventually.js';
import { type ScriptedAgent, scriptedAgents } from '../../support/scripted-agent.js';

let agents: ScriptedAgent[];
let client: Agent;

beforeEach(() => {
  const scripted = scriptedAgents();
  agents = scripted.agents;
  client = agentOf(scripted.dial);
});

const only = (): ScriptedAgent => agents.at(-1) as ScriptedAgent;

/** Spawns a command that the agent says it has begun. */
async function spawned(session = 1): Promise<AgentProcess> {
  const spawning = client.spawn({ argv: ['cat'] });
  await eventually(() => agents.at(-1)?.requests.length ?? 0).toBe(session);
  only().reply(session, 'id=7 pid=12');
  return await spawning;
}

describe('commands', () => {
  test('has output, error, and an end', async () => {
    const command = await spawned();
    only().data(1, 'out');
    only().data(1, 'err', STREAM.ERROR);
    only().reply(1, 'exited=3', true);
    expect([command.id, command.pid]).toEqual([7, 12]);
    expect(await text(command.stdout)).toBe('out');
    expect(await text(command.stderr)).toBe('err');
    expect(await command.exited).toEqual({ exitCode: 3, outOfMemory: false });
  });

  test('one that a signal ended has its number', async () => {
    const command = await spawned();
    only().reply(1, 'signal=9 oom=1', true);
    expect(await command.exited).toEqual({ exitCode: 137, signal: 9, outOfMemory: true });
  });

  test('signals and sizes are sent while it runs, and not after', async () => {
    const command = await spawned();
    command.signal(15);
    command.resize(24, 80);
    only().reply(1, 'exited=0', true);
    await command.exited;
    command.signal(9);
    const controls = only().sent.filter(({ type }) => type === FRAME.CONTROL);
    expect(controls.map(({ payload }) => payload.toString())).toEqual(['signal=15\0', 'size=24x80\0']);
    expect(() => command.signal(65)).toThrow(expect.objectContaining({ code: 'TSVM_CONFIG' }));
  });

  test('a detached one is not read', async () => {
    const spawning = client.spawn({ argv: ['sleep', '9'], detached: true });
    await eventually(() => agents[0]?.requests.length ?? 0).toBe(1);
    only().reply(1, 'id=7 pid=12', true);
    const command = await spawning;
    expect([command.id, await text(command.stdout)]).toEqual([7, '']);
    await expect(command.exited).rejects.toMatchObject({ code: 'TSVM_STATE' });
  });

  test('one that is let go is closed, and goes on', async () => {
    const command = await spawned();
    command.detach();
    await expect(command.exited).rejects.toMatchObject({ code: 'TSVM_STATE' });
    expect(only().sent.at(-1)).toMatchObject({ type: FRAME.CLOSE, session: 1 });
  });

  test('an abort of its start kills it', async () => {
    const abort = new AbortController();
    const spawning = client.spawn({ argv: ['cat'] }, { signal: abort.signal });
    await eventually(() => agents[0]?.requests.length ?? 0).toBe(1);
    abort.abort(new Error('enough'));
    await expect(spawning).rejects.toThrow('enough');
    expect(only().sent.slice(-2)).toMatchObject([
      { type: FRAME.CONTROL, payload: Buffer.from('signal=9\0') },
      { type: FRAME.CLOSE },
    ]);
  });

  test.each([
    ['errno=2 what=exec', 'TSVM_COMMAND_NOT_FOUND', 'cat: not found'],
    ['errno=13 what=exec', 'TSVM_COMMAND', 'cat: it is not executable'],
    ['errno=8 what=exec', 'TSVM_COMMAND', 'cat: it has no format that can be executed'],
    [
      'errno=2 what=cwd',
      'TSVM_COMMAND',
      'cat: its working directory /gone cannot be entered: no such file or directory',
    ],
    [
      'errno=1 what=user',
      'TSVM_COMMAND',
      'cat: it cannot run as user 5 and group 6: operation not permitted',
    ],
    ['errno=22 what=novelty', 'TSVM_AGENT', 'the agent does not know novelty'],
  ])('refusal %s', async (reply, code, message) => {
    const spawning = client.spawn({ argv: ['cat'], cwd: '/gone', user: { uid: 5, gid: 6 } });
    await eventually(() => agents[0]?.requests.length ?? 0).toBe(1);
    only().reply(1, reply, true);
    await expect(spawning).rejects.toMatchObject({ code, message, hint: expect.any(String) });
  });

  test('lists commands', async () => {
    const listing = client.processes();
    await eventually(() => agents[0]?.requests.length ?? 0).toBe(1);
    only().data(
      1,
      '1\0' +
        '10\0running\0' +
        '5.250000000\0sh\0-c\0\0' +
        '2\0' +
        '11\0signal=9\0' +
        '6.000000000\0true\0\0',
    );
    only().reply(1, '', true);
    expect(await listing).toEqual([
      { id: 1, pid: 10, argv: ['sh', '-c'], started: new Date(5250) },
      { id: 2, pid: 11, argv: ['true'], started: new Date(6000), ended: { signal: 9 } },
    ]);
  });

  test.each([
    '1\0',
    '1\0x\0running\x005.000000000\0sh\0\0',
    '1\x002\0sleeping\x005.000000000\0sh\0\0',
    'cut',
  ])('a list with %j ends the connection', async (records) => {
    const listing = client.processes();
    await eventually(() => agents[0]?.requests.length ?? 0).toBe(1);
    only().data(1, records);
    only().reply(1, '', true);
    await expect(listing).rejects.toMatchObject({ code: 'TSVM_AGENT' });
  });
});

describe('streams', () => {
  test('a reader who does not read gives no credit, one who reads does', async () => {
    const command = await spawned();
    const piece = Buffer.alloc(MAX_PAYLOAD_BYTES, 1);
    const credits = (): number =>
      only()
        .sent.filter(({ type }) => type === FRAME.CREDIT)
        .reduce((sum, { payload }) => sum + payload.readUInt32LE(), 0);
    for (let sent = 0; sent < WINDOW_BYTES; sent += piece.length) only().data(1, piece);
    await new Promise(setImmediate);
    expect(credits()).toBeLessThanOrEqual(piece.length);
    command.stdout.resume();
    await eventually(credits).toBe(WINDOW_BYTES);
  });

  test('a writer waits for credit', async () => {
    const command = await spawned();
    const bytes = Buffer.alloc(WINDOW_BYTES + 100, 'x');
    const got = (): number =>
      only()
        .sent.filter(({ type }) => type === FRAME.DATA)
        .reduce((sum, { payload }) => sum + payload.length, 0);
    let isWritten = false;
    command.stdin.write(bytes, () => {
      isWritten = true;
    });
    await eventually(got).toBe(WINDOW_BYTES);
    expect(isWritten).toBe(false);
    only().say(frame(FRAME.CREDIT, 1, STREAM.IN, number32(100)));
    await eventually(() => isWritten).toBe(true);
    expect(got()).toBe(bytes.length);
    command.stdin.end();
    await eventually(() => only().sent.at(-1)?.type).toBe(FRAME.END);
  });

  test('a write that waits fails when the command ends', async () => {
    const command = await spawned();
    const failed = new Promise((resolve) => {
      command.stdin.write(Buffer.alloc(WINDOW_BYTES + 1), resolve);
    });
    only().reply(1, 'exited=0', true);
    expect(await failed).toMatchObject({ code: 'EPIPE' });
  });

  test('output that came before a lost connection is followed by its error', async () => {
    const command = await spawned();
    only().near.destroy();
    await expect(text(command.stdout)).rejects.toMatchObject({ code: 'TSVM_AGENT' });
    await expect(command.exited).rejects.toMatchObject({ message: 'the connection to the agent was lost' });
  });
});

describe('connection', () => {
  test('one serves all, and is made anew when it was lost', async () => {
    await spawned(1);
    await spawned(2);
    expect(agents).toHaveLength(1);
    only().near.destroy();
    const spawning = client.spawn({ argv: ['cat'] });
    await eventually(() => agents.length).toBe(2);
    await only().asked();
    only().reply(1, 'id=1 pid=1');
    expect((await spawning).id).toBe(1);
  });

  test('two who ask at once share one', async () => {
    const both = Promise.all([client.spawn({ argv: ['a'] }), client.spawn({ argv: ['b'] })]);
    await eventually(() => agents[0]?.requests.length ?? 0).toBe(2);
    only().reply(1, 'id=1 pid=1');
    only().reply(2, 'id=2 pid=2');
    expect((await both).map(({ id }) => id)).toEqual([1, 2]);
    expect(agents).toHaveLength(1);
  });

  test('dialling ends when the last one who waits gives up', async () => {
    let given: AbortSignal | undefined;
    const waiting = agentOf(({ signal } = {}) => {
      given = signal;
      return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
    });
    const [first, second] = [new AbortController(), new AbortController()];
    const calls = [first, second].map(({ signal }) =>
      waiting.facts({ signal }).catch((error: Error) => error.message),
    );
    first.abort(new Error('one'));
    await eventually(() => given?.aborted).toBe(false);
    second.abort(new Error('two'));
    expect(await Promise.all(calls)).toEqual(['one', 'two']);
    expect(given?.aborted).toBe(true);
  });

  test('a dial that is refused is told', async () => {
    const refused = agentOf(() =>
      Promise.reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED', errno: -111 })),
    );
    await expect(refused.facts()).rejects.toMatchObject({ code: 'TSVM_AGENT' });
  });

  test('a closed client asks nothing', async () => {
    const command = await spawned();
    client.close();
    await expect(command.exited).rejects.toMatchObject({ code: 'TSVM_STATE' });
    await expect(client.facts()).rejects.toMatchObject({ code: 'TSVM_STATE' });
  });
});
