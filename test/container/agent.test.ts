/** The agent in containers: it is in them, nothing of it is in their roots, and it goes with them. */
import { readdirSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { NAMESPACES } from '../../src/container/config.js';
import { type Container, startContainer } from '../../src/container/container.js';
import { SIGKILL } from '../../src/container/linux.js';
import { commandLines, makeBusyboxRoot, traces, until } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';
import { RawAgent } from '../support/raw-agent.js';

const root = join(temporaryDirectory(), 'root');
beforeAll(() => void makeBusyboxRoot(root));

type Config = Partial<Parameters<typeof startContainer>[0]>;
const start = (config: Config = {}): Promise<Container> =>
  startContainer({ layers: [root], argv: [], agent: true, ...config });

const sh = async (container: Container, script: string): Promise<string> => {
  const agent = new RawAgent(await container.dialAgent());
  const session = agent.ask('exec', [['input', 0]], ['sh', '-c', script]);
  const last = await session.last;
  agent.duplex.destroy();
  expect({ last, error: session.text[2] }).toEqual({ last: { exited: '0' }, error: '' });
  return session.text[1].trim();
};

const agentFolders = (): string[] =>
  readdirSync(tmpdir()).filter((name) => name.startsWith(`tsvm-agent-${process.pid}-`));

describe('a container without a command', () => {
  test('does what its agent is asked to, from many connections, and nothing is left of it', async () => {
    const before = traces();
    {
      await using container = await start();
      const agents = await Promise.all([1, 2, 3].map(async () => new RawAgent(await container.dialAgent())));
      const outputs = await Promise.all(agents.map((agent, i) => agent.run(['echo', `${i}`])));
      expect(outputs.map(({ out }) => out)).toEqual(['0\n', '1\n', '2\n']);
      expect(agentFolders()).toHaveLength(1);
    }
    expect(traces()).toEqual(before);
    expect(agentFolders()).toEqual([]);
  });

  test('has no process but process 1, the agent and what that runs', async () => {
    await using container = await start();
    const processes = await sh(
      container,
      'for p in /proc/[0-9]*; do tr "\\0" "\\n" <$p/cmdline | head -n 1; done',
    );
    expect(processes.split('\n')).toEqual(['init', 'agent', 'sh']);
    expect(await sh(container, 'cat /proc/1/cmdline; ls / /root /tmp')).not.toContain('agent');
  });

  test('ends when its agent does, and is not dialled then', async () => {
    await using container = await start();
    await sh(container, 'true');
    const agent = new RawAgent(await container.dialAgent());
    agent.ask('exec', [], ['sh', '-c', 'kill -9 $PPID']);
    expect((await container.wait()).status).toEqual({ kind: 'killed', signal: SIGKILL });
    await expect(container.dialAgent()).rejects.toMatchObject({
      code: 'TSVM_STATE',
      message: 'the agent of this container has ended',
    });
  });
});

describe('commands of the agent', () => {
  const FACTS = [
    `for n in ${['mnt', ...NAMESPACES].join(' ')}; do readlink /proc/self/ns/$n; done`,
    'cat /proc/self/cgroup',
    "grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status",
    'readlink /proc/self/root; readlink /proc/self/cwd',
    'env | grep -v SHLVL | sort',
  ].join('; ');

  test.each<[string, Config]>([
    ['as it is made', {}],
    ['with few capabilities', { capabilities: ['CHOWN', 'SETUID', 'SETGID'] }],
    ['that is privileged', { privileged: true }],
    ['that shares namespaces', { share: ['pid', 'uts'] }],
    ['with an environment', { env: { PATH: '/bin', X: 'a b' } }],
    ['whose root is read-only', { readOnly: true }],
  ])('have what the command has, in a container %s', async (_, config) => {
    await using container = await start({ argv: ['sh', '-c', `${FACTS}; exec sleep 1000`], ...config });
    let said = '';
    container.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await until('the command says it', () => said.includes('PATH='));
    expect(await sh(container, FACTS)).toBe(said.trim());
    expect(await sh(container, 'readlink /proc/self/ns/net')).not.toBe(readlinkSync('/proc/self/ns/net'));
  });

  test('are counted by the container’s limits', async () => {
    await using container = await start({ limits: { pids: 8 } });
    const agent = new RawAgent(await container.dialAgent());
    const { err } = await agent.run(['sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done']);
    expect(err).toContain("can't fork");
  });

  test('see their agent as a file in memory that cannot be written', async () => {
    await using container = await start();
    const script =
      'readlink /proc/$PPID/exe; (echo x >> /proc/$PPID/exe) 2>&1 | grep -o "[A-Z].*"; cat /proc/$PPID/status | grep ^CapEff';
    const [exe, error] = (await sh(container, script)).split('\n');
    expect(exe).toBe('/memfd:agent (deleted)');
    expect(error).toMatch(/Text file busy|Operation not permitted/);
  });
});

describe('an agent beside a command', () => {
  test('has none of its streams, and goes with it', async () => {
    const before = traces();
    await using container = await start({ argv: ['sh', '-c', 'read line; echo $line; exit 7'] });
    const agent = new RawAgent(await container.dialAgent());
    const sleeper = agent.ask('exec', [], ['sleep', '1000']);
    await sleeper.first;
    container.stdin?.end('hello\n');
    let said = '';
    for await (const text of container.stdout?.setEncoding('utf8') ?? []) said += text;
    expect(said).toBe('hello\n');
    expect((await container.wait()).status).toEqual({ kind: 'exited', code: 7 });
    await agent.lost;
    expect(traces()).toEqual(before);
    expect(agentFolders()).toEqual([]);
  });

  test('leaves nothing that it ran in the PID namespace of the host either', async () => {
    const before = traces();
    await using container = await start({ argv: ['sh', '-c', 'read line'], share: ['pid'] });
    const agent = new RawAgent(await container.dialAgent());
    await agent.ask('exec', [], ['sleep', '98765']).first;
    expect(commandLines()).toContain('sleep 98765');
    container.stdin?.end('\n');
    await container.wait();
    await agent.lost;
    expect(commandLines()).not.toContain('sleep 98765');
    expect(traces()).toEqual(before);
  });

  test('is the superuser of the container when the command is not, and is out of its reach', async () => {
    await using container = await start({
      argv: ['sh', '-c', 'sleep 0.3; kill -9 3 2>&1; id -u; sleep 1000'],
      user: { uid: 1000, gid: 1000 },
    });
    let said = '';
    container.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await until('the command says it', () => said.includes('1000'));
    expect(said).toContain('not permitted');
    expect(await sh(container, 'id -u')).toBe('0');
  });

  test('can be killed, and the command goes on; nobody answers then', async () => {
    await using container = await start({ argv: ['sh', '-c', 'read line; exit 3'] });
    const agent = new RawAgent(await container.dialAgent());
    agent.ask('exec', [], ['sh', '-c', 'kill -9 $PPID']);
    await agent.lost;
    await expect(container.dialAgent()).rejects.toMatchObject({ code: 'TSVM_STATE' });
    container.stdin?.end('\n');
    expect((await container.wait()).status).toEqual({ kind: 'exited', code: 3 });
  });
});

describe('what cannot be', () => {
  test('a container without an agent is not dialled', async () => {
    await using container = await startContainer({ layers: [root], argv: ['sleep', '1000'] });
    await expect(container.dialAgent()).rejects.toMatchObject({
      message: 'this container has no agent',
      hint: 'start it with `agent: true`',
    });
  });

  test('neither a command nor an agent is nothing to run', async () => {
    await expect(startContainer({ layers: [root], argv: [] })).rejects.toThrow('there is no command');
  });

  test('a terminal without a command', async () => {
    await expect(start({ terminal: { rows: 24, columns: 80 } })).rejects.toThrow('a terminal is a command’s');
  });

  test('a command that is not there ends all of it', async () => {
    const before = traces();
    await expect(start({ argv: ['nothing'] })).rejects.toThrow('nothing: not found in the container');
    expect(traces()).toEqual(before);
    expect(agentFolders()).toEqual([]);
  });
});
