/**
 * Cgroups of containers: limits, usage, and that nothing is left. It differs by the version of cgroups, so this is tested
 * twice: with the host's, which may be 1, and with 2 in the rig.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { startContainer } from '../../src/container/container.js';
import { runningContainers } from '../../src/container/running.js';
import { packageFile } from '../../src/util/package-file.js';
import { MIB } from '../../src/util/units.js';
import { tsvm } from '../support/cli.js';
import { inContainer, makeBusyboxRoot, traces, until } from '../support/container.js';
import { inRig, temporaryDirectory } from '../support/guest.js';
import { notHere } from '../support/skip-reasons.js';

const folder = temporaryDirectory();
const root = join(folder, 'root');
const run = (script: string, config?: Parameters<typeof inContainer>[2]) => inContainer(root, script, config);
/** A process takes a second in the rig. */
const STARTS = inRig ? 5 : 100;

beforeAll(() => void makeBusyboxRoot(root));

describe('limits', () => {
  test('a bomb of processes stops at its limit', async () => {
    const { stderr, usage } = await run('for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait', {
      limits: { pids: 8 },
    });
    expect(stderr).toMatch(/can't fork|Resource temporarily/);
    expect(usage.pids).toBeLessThanOrEqual(8);
  });

  test('who takes more memory than there may be is ended, and that is told', async () => {
    const end = await run('tail -c 64m /dev/zero | cat > /dev/null; exit 3', {
      limits: { memoryBytes: 16 * MIB },
    });
    expect(end.outOfMemory).toBe(true);
    expect(end.usage.memoryPeakBytes).toBeLessThanOrEqual(17 * MIB);
  });

  test('who writes more to the root than half of the memory there may be is told, and not ended', async () => {
    const script = 'dd if=/dev/zero of=/big bs=1M count=64 || exit 3';
    const { status, stderr, outOfMemory } = await run(script, { limits: { memoryBytes: 32 * MIB } });
    expect(stderr).toMatch(/No space left on device/);
    expect({ status, outOfMemory }).toEqual({ status: { kind: 'exited', code: 3 }, outOfMemory: false });
  });

  test('a spinner is held to its share of a CPU', async () => {
    const started = performance.now();
    const { usage } = await run('timeout 2 sh -c "while :; do :; done"', { limits: { cpus: 0.2 } });
    const seconds = (performance.now() - started) / 1000;
    expect(usage.throttledSeconds).toBeGreaterThan(0.5);
    expect(usage.cpuSeconds).toBeLessThan(0.4 * seconds);
  });

  test('writes to a disk keep to their rate', async ({ skip }) => {
    const device = blockDeviceOf(folder);
    if (device === undefined) return skip(notHere('the temporary folder is on no block device'));
    const started = performance.now();
    const { status } = await run('dd if=/dev/zero of=/data/x bs=1M count=4 oflag=direct', {
      volumes: [{ source: folder, target: '/data' }],
      limits: { io: [{ device, writeBytes: 2 * MIB }] },
    });
    expect(status).toEqual({ kind: 'exited', code: 0 });
    expect(performance.now() - started).toBeGreaterThan(1400);
  });
});

/** Device node of the disk on which a directory is, if it is on one. */
function blockDeviceOf(path: string): string | undefined {
  const { dev } = statSync(path);
  const at = `/sys/dev/block/${Math.floor(dev / 256) & 0xfff}:${dev & 0xff}`;
  if (!existsSync(at)) return undefined;
  const disk = existsSync(join(at, 'partition')) ? join(at, '..') : at;
  const [, name] = /^DEVNAME=(.+)$/m.exec(readFileSync(join(disk, 'uevent'), 'utf8')) ?? [];
  if (name === undefined || existsSync(`/dev/${name}`)) return name && `/dev/${name}`;
  // This host's /dev has not all that its kernel has.
  const [, major = '', minor = ''] = /^(\d+):(\d+)/.exec(readFileSync(join(disk, 'dev'), 'utf8')) ?? [];
  const node = join(path, 'disk');
  return spawnSync('mknod', [node, 'b', major, minor]).status === 0 ? node : undefined;
}

test('a container is found by its cgroups while it runs, with what it uses', async () => {
  await using container = await startContainer({
    layers: [root],
    argv: ['sh', '-c', 'echo up; cat; true'],
  });
  await new Promise((resolve) => container.stdout?.once('data', resolve));
  const found = runningContainers().find(({ name }) => name === container.name);
  expect(found).toMatchObject({
    makerPid: process.pid,
    pid: container.pid,
    command: ['sh', '-c', 'echo up; cat; true'],
  });
  expect(found?.usage.memoryBytes).toBeGreaterThan(0);
  await container[Symbol.asyncDispose]();
  expect(runningContainers().some(({ name }) => name === container.name)).toBe(false);
});

test(`${STARTS} starts and kills in a row leave the host as it was`, async () => {
  const before = traces();
  for (let i = 0; i < STARTS; i++) {
    const container = await startContainer({
      layers: [root],
      argv: ['sh', '-c', 'sleep 100 & sleep 100'],
      limits: { pids: 10, memoryBytes: 32 * MIB },
    });
    await container[Symbol.asyncDispose]();
  }
  expect(traces()).toEqual(before);
});

test('what a container used is told, and that it ran out of memory', async () => {
  const script = 'tail -c 64m /dev/zero | cat > /dev/null; exit 3';
  const result = await tsvm([
    'container',
    'run',
    '--rootfs',
    root,
    '--memory',
    '16M',
    '--stats',
    '--',
    'sh',
    '-c',
    script,
  ]);
  expect(result.stderr).toContain(
    'out of memory: the kernel ended a process, since all of them reached 16 MiB',
  );
  expect(JSON.parse(/^\{.*\}$/m.exec(result.stderr)?.[0] ?? '')).toMatchObject({ oomKills: 1 });
});

// A process of one's own name, for what is killed with it is found by that.
const sleeping = (args: readonly string[]) =>
  spawn(
    process.execPath,
    [
      packageFile('dist/bin/tsvm.cjs'),
      'container',
      'run',
      '--rootfs',
      root,
      ...args,
      '--',
      'sh',
      '-c',
      'echo up; sleep 1000',
    ],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );

test('nothing is left of a container when its tsvm is killed', async () => {
  const before = traces();
  const child = sleeping(['--net', 'user', '--pids', '50']);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGKILL');
  await until('cgroups and processes gone', () => JSON.stringify(traces()) === JSON.stringify(before));
});

test('what is left of a container when its launcher is killed as well goes with the next start', async () => {
  const before = traces();
  const child = sleeping(['--pids', '50']);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const launchers = traces().launchers.filter((pid) => !before.launchers.includes(pid));
  process.kill(child.pid ?? 0, 'SIGSTOP'); // so that the two die at once
  for (const pid of launchers) spawnSync('kill', ['-KILL', String(pid)]); // the end of one may be the other's
  child.kill('SIGKILL');
  await until('processes gone', () => traces().launchers.length === before.launchers.length);
  await tsvm(['container', 'run', '--rootfs', root, '--', 'true']);
  expect(traces()).toEqual(before);
});
