/** The agent of a machine: dialled while it boots, in a restored one, in copies, and after it was killed. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { BootMarks } from '../../src/devices/pc/boot-marks.js';
import { OFFER, PROTOCOL_VERSION } from '../../src/guest/protocol.js';
import { createMachine, type Machine, type MachineConfig, openSavedMachine } from '../../src/index.js';
import { channelOf, textOf } from '../support/channel.js';
import { ConsoleLog, guestConfig, temporaryDirectory } from '../support/guest.js';
import { RawAgent } from '../support/raw-agent.js';

const root = temporaryDirectory();

async function booting(more: MachineConfig = {}): Promise<Machine> {
  const machine = await createMachine(await guestConfig({ agent: true, ...more }));
  new ConsoleLog(machine);
  await machine.start();
  return machine;
}

const dialled = async (machine: Machine): Promise<RawAgent> => new RawAgent(await machine.dialAgent());

async function forkOf(machine: Machine): Promise<Machine> {
  const [copy] = await machine.fork(1);
  if (copy === undefined) throw new Error('no fork');
  return copy;
}

describe('in a fork of a guest that is ready', () => {
  let template: Machine;

  beforeAll(async () => {
    template = await booting();
    const agent = await dialled(template);
    await agent.run(['true']);
    agent.duplex.destroy();
  });

  afterAll(async () => {
    await template?.kill();
  });

  test('commands run beside one another, each with its status and its streams', async () => {
    await using machine = await forkOf(template);
    const agent = await dialled(machine);
    const runs = Array.from({ length: 8 }, async (_, i) =>
      agent.run(['sh', '-c', `echo out ${i}; echo err ${i} >&2; exit ${i}`]),
    );
    const results = await Promise.all(runs);
    expect(results).toMatchObject(
      results.map((_, i) => ({ exited: `${i}`, out: `out ${i}\n`, err: `err ${i}\n` })),
    );
  });

  test('several clients have connections of their own, and the command of the channel goes on beside them', async () => {
    await using machine = await forkOf(template);
    const channel = channelOf(machine);
    const [one, other] = [await dialled(machine), await dialled(machine)];
    channel.send({ argv: ['sh', '-c', 'echo began; read line; echo "$line"; exit 3'], tty: false });
    expect(await one.run(['echo', 'one'])).toMatchObject({ exited: '0', out: 'one\n' });
    one.duplex.destroy();
    expect(await other.run(['echo', 'other'])).toMatchObject({ exited: '0', out: 'other\n' });
    const after = await dialled(machine);
    expect(await after.run(['echo', 'after'])).toMatchObject({ exited: '0', out: 'after\n' });
    channel.stdin.end('line\n');
    expect(await textOf(channel.stdout)).toBe('began\nline\n');
    expect(await channel.exited).toBe(3);
  });

  test('a command with 5,000 variables and 4,000 arguments has them all, over the agent and over the channel', async () => {
    await using machine = await forkOf(template);
    const names = Array.from({ length: 5000 }, (_, i) => `VARIABLE_${i}`);
    const words = Array.from({ length: 4000 }, (_, i) => `${i}`);
    const argv = ['sh', '-c', 'env | grep -c ^VARIABLE_; echo $#', 'sh', ...words];
    const agent = await dialled(machine);
    const result = await agent.run(
      argv,
      names.map((name) => ['env', `${name}=x`] as const),
    );
    expect(result).toMatchObject({ exited: '0', out: '5000\n4000\n' });
    const channel = channelOf(machine);
    channel.stdin.end();
    channel.send({ argv, env: Object.fromEntries(names.map((name) => [name, 'x'])), tty: false });
    expect(await textOf(channel.stdout)).toBe('5000\n4000\n');
  });

  test('the agent that was killed is started anew when it is asked for', async () => {
    await using machine = await forkOf(template);
    const agent = await dialled(machine);
    const { out } = await agent.run(['sh', '-c', 'echo $PPID']);
    agent.ask('exec', [['env', 'PATH=/bin']], ['kill', '-9', out.trim()]);
    await agent.lost;
    const again = await dialled(machine);
    const { out: other } = await again.run(['sh', '-c', 'echo $PPID']);
    expect(Number(other)).toBeGreaterThan(Number(out));
  });

  test('in a fork running commands go on and connections end; the original notices nothing', async () => {
    await using machine = await forkOf(template);
    const agent = await dialled(machine);
    const long = agent.ask(
      'exec',
      [['env', 'PATH=/bin']],
      ['sh', '-c', 'read line; echo "$line"; read line'],
    );
    const { id = '', pid = '' } = await long.first;
    await using copy = await forkOf(machine);
    const there = await dialled(copy);
    expect(await there.run(['kill', '-0', pid])).toMatchObject({ exited: '0' });
    const attached = there.ask('attach', [['id', id]]);
    expect(await attached.first).toMatchObject({ id, pid });
    there.ask('signal', [
      ['id', id],
      ['signal', 9],
    ]);
    expect(await attached.last).toMatchObject({ signal: '9' });
    expect(await agent.run(['kill', '-0', pid])).toMatchObject({ exited: '0' });
    // The copy's agent has seen the connections of the original end.
    const sockets = await there.run(['sh', '-c', 'ls -l /proc/$PPID/fd | grep -c socket']);
    expect(Number(sockets.out)).toBe(2);
  });

  test('a saved machine is dialled anew when it is restored', async () => {
    const directory = join(root, 'saved');
    await using machine = await forkOf(template);
    const agent = await dialled(machine);
    const { id = '' } = await agent.ask(
      'exec',
      [
        ['input', 0],
        ['env', 'PATH=/bin'],
      ],
      ['sleep', '1000'],
    ).first;
    await machine.snapshot(directory);
    expect(await agent.run(['echo', 'still here'])).toMatchObject({ out: 'still here\n' });
    await using saved = await openSavedMachine(directory);
    await using restored = await saved.restore();
    await restored.start();
    const there = await dialled(restored);
    expect(await there.ask('attach', [['id', id]]).first).toMatchObject({ id });
    expect(await there.run(['hostname'])).toMatchObject({ exited: '0' });
  });
});

test('a guest whose init knows no agent says so', async () => {
  // Its ports are an older machine's.
  vi.spyOn(BootMarks.prototype, 'read').mockImplementation((offset, data) => {
    for (let i = 0; i < data.length; i++) data[i] = [OFFER.CHANNEL, PROTOCOL_VERSION][offset + i] ?? 0xff;
  });
  await using machine = await booting();
  await expect(machine.dialAgent()).rejects.toThrow('the guest of this machine has no agent');
  vi.restoreAllMocks();
});

test('a machine without one, one that has not started, and one that has ended say so', async () => {
  await using machine = await createMachine(await guestConfig({ channel: true }));
  await expect(machine.dialAgent()).rejects.toThrow('this machine has no agent');
  await using other = await createMachine(await guestConfig({ agent: true }));
  await expect(other.dialAgent()).rejects.toThrow(/reach the agent of/);
  await other.start();
  const call = expect(other.dialAgent()).rejects.toThrow(/has ended/);
  await other.kill();
  await call;
});
