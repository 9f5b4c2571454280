/** Hosts as they are: systemd's unified hierarchy, version 1, a hybrid, and this process in a cgroup namespace. */
import { describe, expect, test } from 'vitest';
import { controllersOf, parseHierarchies } from '../../../src/container/cgroup-host.js';
import { deviceNumbers, settings } from '../../../src/container/cgroup-limits.js';

const mount = (root: string, point: string, type: string, options: string): string =>
  `31 23 0:28 ${root} ${point} rw,relatime shared:9 - ${type} ${type} ${options}`;

describe('parseHierarchies()', () => {
  test('finds version 2', () => {
    const found = parseHierarchies(
      '0::/user.slice/session-1.scope\n',
      mount('/', '/sys/fs/cgroup', 'cgroup2', 'rw,nsdelegate'),
      () => ['cpu', 'io', 'memory', 'pids'],
    );
    const directory = '/sys/fs/cgroup/user.slice/session-1.scope';
    expect(found).toEqual([
      { version: 2, controllers: ['cpu', 'io', 'memory', 'pids'], directory, mount: '/sys/fs/cgroup' },
    ]);
    expect(controllersOf(found[0]!)).toEqual(['cpu', 'memory', 'pids', 'blkio']);
  });

  test('finds version 1, controllers that are mounted together, and hierarchies that have none', () => {
    const found = parseHierarchies(
      '4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n',
      [
        mount('/', '/sys/fs/cgroup/cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct'),
        mount('/', '/sys/fs/cgroup/memory', 'cgroup', 'rw,memory'),
        mount('/', '/sys/fs/cgroup/systemd', 'cgroup', 'rw,name=systemd'),
        mount('/', '/sys/fs/cgroup/unified', 'cgroup2', 'rw'),
      ].join('\n'),
      () => [],
    );
    expect(found.map(({ version, directory }) => [version, directory])).toEqual([
      [1, '/sys/fs/cgroup/cpu,cpuacct'],
      [1, '/sys/fs/cgroup/memory/a/b'],
      [1, '/sys/fs/cgroup/systemd'],
      [2, '/sys/fs/cgroup/unified'],
    ]);
    expect(found.map(controllersOf)).toEqual([['cpu', 'cpuacct'], ['memory'], [], []]);
  });

  test('finds what of a hierarchy is mounted in a container', () => {
    const [found] = parseHierarchies(
      '0::/docker/c1/child\n',
      mount('/docker/c1', '/sys/fs/cgroup', 'cgroup2', 'ro'),
      () => ['pids'],
    );
    expect(found?.directory).toBe('/sys/fs/cgroup/child');
  });
});

describe('settings()', () => {
  const limits = { cpus: 0.5, memoryBytes: 1 << 20, pids: 7 };

  test('are version 2’s', () => {
    expect(settings(limits, () => 2)).toEqual([
      ['cpu', 'cpu.max', '50000 100000'],
      ['memory', 'memory.max', '1048576'],
      ['memory', 'memory.swap.max', '0'],
      ['pids', 'pids.max', '7'],
    ]);
  });

  test('are version 1’s', () => {
    expect(settings(limits, () => 1)).toEqual([
      ['cpu', 'cpu.cfs_period_us', '100000'],
      ['cpu', 'cpu.cfs_quota_us', '50000'],
      ['memory', 'memory.limit_in_bytes', '1048576'],
      ['memory', 'memory.memsw.limit_in_bytes', '1048576'],
      ['pids', 'pids.max', '7'],
    ]);
  });

  test('name devices as the kernel does', () => {
    expect(deviceNumbers(0xfe00)).toBe('254:0');
    expect(deviceNumbers(0x10_0305)).toBe('3:261');
  });
});
