/** Machines with a name: in the background, seen and steered by other commands. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ControlClient } from '../../src/control/client/client.js';
import type { MachineRecord } from '../../src/control/machine-store.js';
import type { MachineStats } from '../../src/control/stats/stats.js';
import { type CliOptions, type CliResult, tsvm as plain, run, TSVM } from '../support/cli.js';
import { tsvmHere } from '../support/cli-here.js';
import { until } from '../support/container.js';
import { temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const machines = join(folder, 'run');
const env = { TSVM_RUN_DIR: machines, TSVM_TEMPLATE_DIR: join(folder, 'templates') };
const MEMORY = ['--memory', '64M'];
/** Machines at once. */
const FEW = 3;

const tsvm = (args: readonly string[], options: CliOptions = {}): Promise<CliResult> =>
  plain(args, { ...options, env });
/** Runs commands that ask the process of a machine, which is another one anyway. */
const ask = (...args: string[]) => tsvmHere(args, env);
const inBackground = (name: string, script: string): Promise<CliResult> =>
  tsvm(['run', ...MEMORY, '-d', '--name', name, '--', 'sh', '-c', script], { timeoutMs: 280_000 });
const list = async (): Promise<(MachineRecord & { state: string })[]> =>
  JSON.parse((await ask('ps', '-a', '--json')).stdout.toString());
const find = async (name: string) => (await list()).find((machine) => machine.name === name);
const logs = async (name: string): Promise<string> => (await ask('logs', name)).stdout.toString();
const said = async (name: string, text: string | RegExp): Promise<void> => {
  await expect.poll(() => logs(name), { timeout: 100_000, interval: 200 }).toMatch(text);
};

beforeAll(async () => {
  // A template for the whole file: that of machines with a name, which have the agent.
  const warm = ['run', ...MEMORY, '--name', 'warm', '--rm', '--', 'true'];
  expect((await tsvm(warm, { timeoutMs: 280_000 })).status).toBe(0);
}, 300_000);

afterAll(async () => {
  for (const { pid, end } of await list()) if (end === undefined) process.kill(pid, 'SIGKILL');
}, 60_000);

describe('a command in the background', () => {
  test('says what it says to the log, and its status to who waits', async () => {
    const started = await inBackground('job', 'echo out; echo err >&2; cat; exit 7');
    expect([started.status, started.stdout.toString(), started.stderr]).toEqual([0, 'job\n', '']);
    await said('job', /out\n(.*\n)*err\n|err\n(.*\n)*out\n/);
    expect(await find('job')).toMatchObject({ state: 'Running', memoryBytes: 64 << 20, cpus: 1 });
    // Input by whoever attaches; its end is that one's, not the command's.
    const attached = await tsvm(['attach', 'job'], { input: 'typed\n' });
    expect(attached.status).toBe(0);
    expect(attached.stdout.toString()).toContain('out\n');
    await said('job', 'typed\n');
    const waiting = tsvm(['wait', 'job']);
    await sleep(300);
    expect((await ask('kill', 'job')).status).toBe(0);
    expect(await find('job')).toMatchObject({ state: 'Ended', end: { kind: 'stopped' } }); // at once
    expect((await waiting).status).toBe(130);
    const again = await tsvm(['attach', 'job']);
    expect([again.status, again.stderr]).toEqual([2, expect.stringContaining('job has ended (stopped)')]);
    expect((await ask('rm', 'job')).status).toBe(0);
    expect(await find('job')).toBeUndefined();
  });

  test('is started again by the command line that made it, and by another name', async () => {
    await inBackground('again', 'echo up; sleep 1000');
    expect(await ask('start', 'again')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('tsvm restart'),
    });
    expect((await ask('stop', 'again')).status).toBe(0);
    const { createdMs = 0 } = (await find('again')) ?? {};
    expect((await ask('rename', 'again', 'other')).status).toBe(0);
    const started = await tsvm(['start', 'other'], { timeoutMs: 100_000 });
    expect([started.status, started.stdout.toString()]).toEqual([0, 'other\n']);
    await said('other', 'up\n');
    expect((await find('other'))?.createdMs).toBeGreaterThan(createdMs);
    expect((await tsvm(['restart', 'other'], { timeoutMs: 100_000 })).status).toBe(0);
    await said('other', 'up\n');
    expect((await ask('rm', '-f', 'other')).status).toBe(0);
    expect(await find('again')).toBeUndefined();
  }, 300_000);

  test('gets SIGTERM when it is to stop, and its own status counts', async () => {
    await inBackground('polite', 'trap "echo goodbye; exit 5" TERM; echo up; while :; do sleep 0.1; done');
    await said('polite', 'up\n');
    expect((await ask('stop', 'polite')).status).toBe(0);
    expect((await ask('wait', 'polite')).status).toBe(5);
    expect(await logs('polite')).toContain('goodbye\n');
    await inBackground('rude', 'trap "" TERM; echo up; while :; do sleep 0.1; done');
    await said('rude', 'up\n');
    expect((await ask('stop', '--timeout', '500ms', 'rude')).status).toBe(0);
    expect(await find('rude')).toMatchObject({ state: 'Ended' });
  });

  test('with --rm leaves nothing', async () => {
    const { status } = await tsvm(['run', ...MEMORY, '-d', '--rm', '--name', 'brief', '--', 'true']);
    expect(status).toBe(0);
    await expect.poll(() => readdirSync(machines), { timeout: 60_000 }).not.toContain('brief');
  });

  test('says what went wrong where it was started', async () => {
    const result = await tsvm(['run', '-d', '--kernel', '/nope', '--', 'true']);
    expect([result.status, result.stdout.toString()]).toEqual([2, '']);
    expect(result.stderr).toMatch(/^tsvm: cannot read kernel \/nope: no such file\n/);
  });

  test('whose process is killed is seen as lost, and its name is free', async () => {
    await inBackground('fragile', 'echo up; sleep 1000');
    const pid = (await find('fragile'))?.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    await expect.poll(async () => (await find('fragile'))?.end?.kind, { timeout: 20_000 }).toBe('lost');
    expect(existsSync(join(machines, 'fragile/api.sock'))).toBe(false);
    expect((await ask('wait', 'fragile')).status).toBe(137);
    expect((await inBackground('fragile', 'true')).status).toBe(0);
  });
});

test('of several that want one name at once, one gets it', async () => {
  const several = Array.from({ length: FEW }, () => inBackground('same', 'sleep 1000'));
  const results = await Promise.all(several);
  expect(results.map(({ status }) => status).sort()).toEqual([0, ...Array(FEW - 1).fill(2)]);
  for (const { status, stderr } of results)
    if (status !== 0) expect(stderr).toMatch(/^tsvm: --name same: a machine of that name runs already\n/);
  expect((await ask('rm', 'same')).stderr).toMatch(/^tsvm: same runs\n/);
  expect((await ask('rm', '-f', 'same')).status).toBe(0);
  expect(await find('same')).toBeUndefined();
});

test('forks go on by themselves, each with its name, and each with its end', async () => {
  await inBackground(
    'warm',
    'echo up; n=0; while [ ! -e /stop ] && [ $n -lt 1000 ]; do read line && echo "$line" && exit 3; done',
  );
  await said('warm', 'up\n');
  expect((await ask('fork', 'warm', 'a', 'b')).status).toBe(0);
  expect((await ask('fork', 'warm', 'c', 'c')).stderr).toMatch(/Each needs a name of its own/);
  await tsvm(['attach', 'a'], { input: 'first\n' });
  await said('a', 'first\n');
  expect((await ask('wait', 'a')).status).toBe(3);
  expect(await logs('b')).not.toContain('first');
  expect(await find('b')).toMatchObject({ state: 'Running' });
  await ask('kill', 'warm', 'b');
  await expect.poll(async () => (await find('b'))?.end?.kind, { timeout: 20_000 }).toBe('stopped');
});

test('a fork is asked to stop as its parent would be', async () => {
  await inBackground('asked', 'trap "echo goodbye; exit 5" TERM; echo up; while :; do sleep 0.1; done');
  await said('asked', 'up\n');
  expect((await ask('fork', 'asked', 'copy')).status).toBe(0);
  expect((await ask('stop', 'copy')).status).toBe(0);
  expect(await find('copy')).toMatchObject({ end: { kind: 'power-off', exitCode: 5 } });
  expect(await find('asked')).toMatchObject({ state: 'Running' });
  await ask('kill', 'asked');
});

test('a machine that boots has a console for whoever attaches; it is paused, looked at, saved, ended', async () => {
  expect((await tsvm(['boot', ...MEMORY, '-d', '--name', 'shell'])).status).toBe(0);
  await said('shell', '/ # ');
  const attached = await tsvm(['attach', 'shell'], { input: 'echo $((40 + 2))\n' });
  expect(attached.stdout.toString()).toContain('BusyBox');
  await said('shell', /\b42\r?\n/);
  expect((await ask('pause', 'shell')).status).toBe(0);
  expect(await find('shell')).toMatchObject({ state: 'Paused' });
  expect((await ask('resume', 'shell')).status).toBe(0);
  const stats = JSON.parse((await ask('stats', 'shell', '--json')).stdout.toString()) as MachineStats[];
  expect(stats[0]).toMatchObject({ name: 'shell', state: 'Running', memoryBytes: 64 << 20 });
  expect(stats[0]?.vcpus[0]?.cpuMs).toBeGreaterThan(0);
  expect(stats[0]?.process.proportionalBytes).toBeGreaterThan(1 << 20);
  expect((await ask('stats', '--no-stream')).stdout.toString()).toMatch(
    /^NAME +STATE .*\n(.*\n)*shell +Running/,
  );
  const inspected = JSON.parse((await ask('inspect', 'shell')).stdout.toString());
  expect(inspected).toMatchObject({ record: { name: 'shell' }, machine: { state: 'Running', cpus: 1 } });
  const saved = join(folder, 'saved');
  expect((await ask('snapshot', '--machine', 'shell', saved)).status).toBe(0);
  expect(existsSync(join(saved, 'machine.json'))).toBe(true);
  expect((await ask('stop', 'shell')).status).toBe(0);
  expect((await tsvm(['restore', saved, '-d', '--name', 'shell'])).status).toBe(0);
  await tsvm(['attach', 'shell'], { input: 'echo again $((1 + 1))\n' });
  await said('shell', /again 2\r?\n/);
  await ask('kill', 'shell');
});

describe('a command that runs when its machine is saved', () => {
  const piped = join(folder, 'piped');
  const onTerminal = join(folder, 'on-terminal');

  beforeAll(async () => {
    const script = 'trap "exit 9" TERM; echo up; read line; echo "got $line"; echo err >&2; exit 7';
    await inBackground('piped', script);
    const terminal = ['-t', '--', 'sh', '-c', 'stty -echo; echo up; read line; echo "got $line"; exit 5'];
    await tsvm(['run', ...MEMORY, '-d', '--name', 'on-terminal', ...terminal], { timeoutMs: 280_000 });
    for (const [name, saved] of Object.entries({ piped, 'on-terminal': onTerminal })) {
      while (!(await logs(name)).includes('up')) await sleep(200);
      expect((await ask('snapshot', '--machine', name, saved)).status).toBe(0);
    }
    await ask('kill', 'piped', 'on-terminal');
  }, 300_000);

  test('has the streams of tsvm restore, each by itself, and its status is that of tsvm restore', async () => {
    const { status, stdout, stderr } = await tsvm(['restore', piped], { input: 'typed here\n' });
    expect([status, stdout.toString(), stderr]).toEqual([7, 'got typed here\n', 'err\n']);
    expect(await tsvm(['restore', piped], { input: '' })).toMatchObject({ status: 7, stderr: 'err\n' });
  });

  test('has its signals', async () => {
    const name = ['--name', 'signalled'];
    const result = await tsvm(['restore', piped, ...name], {
      onStart: async (child) => {
        await expect.poll(async () => (await find('signalled'))?.state, { timeout: 60_000 }).toBe('Running');
        child.kill('SIGTERM');
      },
      onOutput: () => {}, // and so an input that does not end
    });
    expect([result.status, result.stderr]).toEqual([9, '']);
    expect(await find('signalled')).toMatchObject({ end: { kind: 'power-off', exitCode: 9 } });
  });

  test('has its terminal, if it was run on one', async () => {
    const { status, stdout, stderr } = await tsvm(['restore', onTerminal], { input: 'typed\n' });
    expect([status, stdout.toString(), stderr]).toEqual([5, 'got typed\r\n', '']);
  });

  test('goes on in the background: it is typed to and logged as before', async () => {
    for (const [name, saved, status] of [
      ['copy', piped, 7],
      ['tty-copy', onTerminal, 5],
    ] as const) {
      expect((await tsvm(['restore', saved, '-d', '--name', name])).status).toBe(0);
      await tsvm(['attach', name], { input: 'typed\n' });
      expect((await ask('wait', name)).status).toBe(status);
      expect(await logs(name)).toContain('got typed');
    }
  });

  test('has the streams of the tsvm api that loads it', async () => {
    const path = join(folder, 'api.sock');
    const body = { snapshot_path: piped, mem_file_path: piped, resume_vm: true };
    const { status, stdout, stderr } = await tsvm(['api', '--api-sock', path], {
      input: 'typed\n',
      onStart: async () => {
        await until('there is a socket', () => existsSync(path), 60_000);
        await new ControlClient(path, 'api').call('PUT', '/snapshot/load', { body });
      },
    });
    expect([status, stdout.toString(), stderr]).toEqual([7, 'got typed\n', 'err\n']);
  });

  test('and a machine that waits for one is refused', async () => {
    const templates = JSON.parse((await ask('template', 'list', '--json')).stdout.toString());
    const { status, stderr } = await ask('restore', templates[0].directory);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^tsvm: the machine saved in \S+ waits for a command\nhint: .*tsvm make /);
  });
});

test('a machine in the foreground with a name is seen as well', async () => {
  const result = await tsvm(['run', ...MEMORY, '--name', 'here', '--', 'sh', '-c', 'echo up; cat'], {
    onOutput: async (soFar, child) => {
      if (soFar !== 'up\n') return;
      expect(await find('here')).toMatchObject({ state: 'Running', command: ['sh', '-c', 'echo up; cat'] });
      child.stdin?.end();
    },
  });
  expect(result.status).toBe(0);
  expect(await find('here')).toMatchObject({ end: { kind: 'power-off', exitCode: 0 } });
});

test('a terminal is left with Ctrl-A d, and is as it was', async () => {
  await inBackground('tty', 'echo up; cat');
  await said('tty', 'up\n');
  const script = `printf '\\001d' | script -qec "${process.execPath} ${TSVM} attach tty; stty -a" /dev/null`;
  const { stdout } = await run('sh', ['-c', script], { env, input: '' });
  expect(stdout.toString()).toMatch(/left tty, which goes on/);
  expect(stdout.toString()).toMatch(/isig icanon iexten echo /);
  expect(await find('tty')).toMatchObject({ state: 'Running' });
  await ask('kill', 'tty');
});
