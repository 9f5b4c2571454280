/** `tsvm run -d --name --isolation container`, and the commands for what has a name. */
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { RemoteMachine } from '../../src/control/client/connect.js';
import { dialAgent } from '../../src/control/client/dial-agent.js';
import { cliProblem, tsvm } from '../support/cli.js';
import { makeBusyboxRoot, traces, until } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';
import { RawAgent } from '../support/raw-agent.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
const runs = temporaryDirectory();
const env = { TSVM_RUN_DIR: runs };

beforeAll(() => {
  const problem = cliProblem();
  if (problem !== undefined) throw new Error(problem);
  makeBusyboxRoot(root);
});

const cli = async (...args: string[]): Promise<{ status: number | null; said: string }> => {
  const { status, stdout, stderr } = await tsvm(args, { env });
  return { status, said: `${stdout}${stderr}`.trim() };
};
const start = (name: string, script: string, ...options: string[]) =>
  cli(
    ...['run', '-d', '--name', name, '--isolation', 'container', '--image', root, ...options],
    ...['--', 'sh', '-c', script],
  );
interface Record {
  readonly name: string;
  readonly pid: number;
  readonly state: string;
  readonly isolation: string;
}
const machines = async (...args: string[]): Promise<Record[]> =>
  JSON.parse((await cli('ps', '--json', ...args)).said) as Record[];

afterEach(async () => {
  const names = (await machines('-a')).map(({ name }) => name);
  if (names.length > 0) await cli('rm', '-f', ...names);
});

describe('a container with a name', () => {
  test('is listed, logged, typed to, stopped, waited for and forgotten', async () => {
    const options = [
      '--memory',
      '64M',
      '--cpus',
      '0.5',
      '--pids',
      '50',
      '-e',
      'X=1',
      '-w',
      '/tmp',
      '-l',
      'team=a',
    ];
    const script = 'echo $X $(hostname) $PWD; while read line; do echo got $line; done; exec sleep 1000';
    expect(await start('web', script, ...options)).toEqual({ status: 0, said: 'web' });
    expect((await cli('ps')).said).toMatch(/\nweb +Running +container +0.5 +64 MiB +\d+ s +\d+ +sh -c /);
    expect((await cli('ps', '-q', '--filter', 'label=team=a')).said).toBe('web');
    expect((await cli('ps', '-q', '--filter', 'label=team=b')).said).toBe('');
    await tsvm(['attach', 'web'], { env, input: 'typed\n' });
    expect((await cli('logs', 'web')).said).toBe('1 web /tmp\ngot typed');
    expect((await cli('stats', '--no-stream', 'web')).said).toMatch(/\nweb +Running /);
    expect(JSON.parse((await cli('inspect', 'web')).said)).toMatchObject({
      record: { isolation: 'container', memoryBytes: 64 << 20, cpus: 0.5 },
      machine: { isolation: 'container', has_terminal: false, state: 'Running' },
    });
    expect((await cli('top', '--once')).said).toMatch(/\nweb +Running /);
    expect(await cli('rm', 'web')).toMatchObject({ status: 2, said: expect.stringContaining('web runs') });
    expect(await cli('stop', 'web')).toEqual({ status: 0, said: '' });
    expect((await cli('wait', 'web')).status).toBe(143);
    expect((await cli('ps', '-a')).said).toMatch(/\nweb +Ended, exit status 143 +container /);
    expect(await cli('rm', 'web')).toEqual({ status: 0, said: '' });
    expect(await machines('-a')).toEqual([]);
  });

  test('has the status of its command, and with --rm nothing else stays', async () => {
    await start('job', 'sleep 0.3; exit 5');
    expect((await cli('wait', 'job')).status).toBe(5);
    await start('gone', 'true', '--rm');
    await expect.poll(async () => (await machines('-a')).map(({ name }) => name)).toEqual(['job']);
  });

  test('is ended by stop though its command hears no SIGTERM, and at once by kill', async () => {
    await start('deaf', "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    await expect.poll(async () => (await cli('logs', 'deaf')).said).toBe('ready');
    expect((await cli('stop', '--timeout', '300ms', 'deaf')).status).toBe(0);
    expect((await cli('wait', 'deaf')).status).toBe(137);
    await start('killed', 'sleep 1000');
    expect((await cli('kill', 'killed')).status).toBe(0);
    expect((await cli('wait', 'killed')).status).toBe(137);
  });

  test('says that its memory was not enough', async () => {
    await start('large', 'head -c 200000000 /dev/zero | tail', '--memory', '16M');
    await cli('wait', 'large');
    expect((await cli('ps', '-a')).said).toMatch(/large +Ended, exit status \d+, out of memory: 16 MiB/);
  });

  test('is not started twice, not even at once', async () => {
    const both = await Promise.all([start('one', 'sleep 1000'), start('one', 'sleep 1000')]);
    expect(both.map(({ status }) => status).sort()).toEqual([0, 2]);
    expect(both.find(({ status }) => status === 2)?.said).toContain('a machine of that name runs already');
    expect(await machines()).toHaveLength(1);
    expect((await start('one', 'true')).said).toContain('a machine of that name runs already');
  });

  test('leaves no name if it does not start', async () => {
    const result = await cli(
      ...['run', '-d', '--name', 'none', '--isolation', 'container', '--image', root, '--', 'nothing'],
    );
    expect(result).toEqual({ status: 127, said: 'tsvm: nothing: not found in the container' });
    expect(await machines('-a')).toEqual([]);
  });

  test('is gone with its process, and said to be', async () => {
    const before = traces();
    await start('lost', 'sleep 1000 & sleep 1000');
    const [{ pid } = { pid: 0 }] = await machines();
    process.kill(pid, 'SIGKILL');
    await until('nothing is left', () => JSON.stringify(traces()) === JSON.stringify(before));
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith(`tsvm-agent-${pid}-`))).toEqual([]);
    expect((await cli('ps', '-a')).said).toMatch(
      /lost +Ended, its process was killed, or crashed +container/,
    );
    expect((await start('lost', 'sleep 1000')).status).toBe(0);
  });

  test('in the foreground has this terminal or these streams', async () => {
    const args = ['run', '--name', 'here', '--isolation', 'container', '--image', root];
    const { stdout, status } = await tsvm([...args, '--', 'sh', '-c', 'cat; exit 3'], { env, input: 'in' });
    expect([`${stdout}`, status]).toEqual(['in', 3]);
    expect((await cli('ps', '-a')).said).toMatch(/here +Ended, exit status 3 +container/);
  });
});

describe('the control API of a container', () => {
  const socket = join(runs, 'api/api.sock');

  test('has an agent, which is in the container', async () => {
    await start('api', 'exec sleep 1000');
    const agents = await Promise.all([1, 2].map(async () => new RawAgent(await dialAgent(socket, 'api')())));
    for (const agent of agents) {
      const { out } = await agent.run(['sh', '-c', 'hostname; tr "\\0" " " </proc/2/cmdline']);
      expect(out).toBe('api\nsleep 1000 ');
      agent.duplex.destroy();
    }
  });

  test.each([
    ['pause', ['pause', 'api']],
    ['fork', ['fork', 'api', 'copy']],
    ['save', ['snapshot', '--machine', 'api', join(folder, 'saved')]],
  ])('refuses to %s it, in one line', async (_, args) => {
    await start('api', 'exec sleep 1000');
    const { status, said } = await cli(...args);
    expect(status).not.toBe(0);
    expect(said.split('\n')).toHaveLength(1);
    expect(said).toContain('api: This is a container');
  });

  test.each([
    ['PUT', '/actions', { action_type: 'InstanceStart' }],
    ['PUT', '/boot-source', { kernel_image_path: '/x' }],
    ['PUT', '/machine-config', { vcpu_count: 1, mem_size_mib: 1 }],
    ['PUT', '/tsvm/snapshot', { directory: '/x' }],
    ['GET', '/tsvm/metrics', undefined],
    ['GET', '/tsvm/timeline', undefined],
    ['GET', '/vm/config', undefined],
  ] as const)('refuses %s %s', async (method, path, body) => {
    await start('api', 'exec sleep 1000');
    const machine = new RemoteMachine('api', socket);
    await expect(machine.call(method, path, body as object)).rejects.toThrow('This is a container');
    expect(readFileSync(join(runs, 'api/machine.json'), 'utf8')).toContain('"isolation": "container"');
  });
});
