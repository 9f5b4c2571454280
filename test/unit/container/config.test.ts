/** Configurations of which no container can be made. */
import { describe, expect, test } from 'vitest';
import { checkContainerConfig } from '../../../src/container/config.js';
import { runArguments } from '../../../src/container/run-arguments.js';
import { temporaryDirectory } from '../../support/guest.js';

const config = { layers: [temporaryDirectory()], argv: ['true'] };
const NOT_IDS = [-1, 0.5, Number.NaN, 2 ** 32 - 1, 2 ** 32, 2 ** 64, '0' as unknown as number];

describe('checkContainerConfig()', () => {
  test.each(NOT_IDS)('refuses %j as an id', (id) => {
    expect(() => checkContainerConfig({ ...config, user: { uid: id, gid: 0 } })).toThrow('user: uid');
    expect(() => checkContainerConfig({ ...config, user: { uid: 0, gid: id } })).toThrow('user: gid');
    const user = { uid: 0, gid: 0, groups: [id] };
    expect(() => checkContainerConfig({ ...config, user })).toThrow('user: group');
    for (const range of [
      { container: id, host: 0, count: 1 },
      { container: 0, host: id, count: 1 },
    ]) {
      expect(() => checkContainerConfig({ ...config, uidMap: [range] })).toThrow('a whole number from 0');
      expect(() => checkContainerConfig({ ...config, gidMap: [range] })).toThrow('a whole number from 0');
    }
  });

  test.each([0, -1, 0.5, Number.NaN, 2 ** 32])('refuses a run of %d ids', (count) => {
    const range = { container: 0, host: 0, count };
    expect(() => checkContainerConfig({ ...config, uidMap: [range] })).toThrow('a whole number from 0');
  });

  test('takes the greatest id', () => {
    const last = 2 ** 32 - 2;
    const range = { container: 0, host: 1, count: last };
    expect(() =>
      checkContainerConfig({ ...config, user: { uid: last, gid: last }, uidMap: [range] }),
    ).not.toThrow();
  });

  test.each(['', 'A=B', 'A\0'])('refuses %j as the name of a variable', (name) => {
    expect(() => checkContainerConfig({ ...config, env: { [name]: 'x' } })).toThrow();
  });

  test.each([
    ...['/dev', '/dev/', '//dev//shm', '/./proc', '/proc/keys', '/sys/.', '/sys/fs/cgroup/x'],
    ...['/', '//', '/.', '/./', 'data', '/a/../dev', '/..', '/a\0b'],
  ])('refuses a volume at %j', (target) => {
    const volumes = [{ source: '/', target }];
    expect(() => checkContainerConfig({ ...config, volumes })).toThrow(
      /^volume .*: (not a place in the container|it leads to the container’s own \/dev, \/proc, \/sys or root)$/,
    );
  });

  test.each(['/devices', '/process', '/a/dev', '/...'])('takes one at %j', (target) => {
    expect(() => checkContainerConfig({ ...config, volumes: [{ source: '/', target }] })).not.toThrow();
  });

  test('refuses more volumes than the launcher holds', () => {
    const volumes = Array.from({ length: 129 }, (_, i) => ({ source: '/', target: `/v${i}` }));
    expect(() => checkContainerConfig({ ...config, volumes })).toThrow('129 volumes are more than 128');
  });

  test.each(['', 'a\0b', 'a'.repeat(65), 'ü'.repeat(33)])('refuses %j as the host name', (hostname) => {
    expect(() => checkContainerConfig({ ...config, hostname })).toThrow('1 to 64 bytes, none of them a NUL');
  });

  test('refuses more groups than a machine’s user may have', () => {
    const user = { uid: 1, gid: 1, groups: new Array<number>(1024).fill(5) };
    expect(() => checkContainerConfig({ ...config, user })).toThrow('1024 groups are more than 1023');
  });

  test('takes a host name of 64 bytes', () => {
    expect(() => checkContainerConfig({ ...config, hostname: 'ü'.repeat(32) })).not.toThrow();
  });

  test('refuses a working directory with a NUL', () => {
    expect(() => checkContainerConfig({ ...config, cwd: '/a\0b' })).toThrow('null character');
  });
});

describe('runArguments()', () => {
  test('refuses a volume whose path an engine would read as more than one', () => {
    const facts = { name: 'x', capabilities: [] };
    for (const volume of [
      { source: '/a:/etc', target: '/b' },
      { source: '/a', target: '/b:rw' },
    ]) {
      expect(() => runArguments({ ...config, volumes: [volume] }, facts)).toThrow('with a colon');
    }
  });

  test('gives an engine no profile of system calls: it keeps its own', () => {
    const words = runArguments(config, { name: 'x', capabilities: [] });
    expect(words.filter((word) => word.includes('seccomp'))).toEqual([]);
    expect(words).toContain('--security-opt=no-new-privileges');
  });
});
