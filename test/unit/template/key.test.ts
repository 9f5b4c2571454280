/** The key by which a template is found again: everything that decides what is in it, and nothing else. */
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { expect, test } from 'vitest';
import { deviceKinds } from '../../../src/devices/registry.js';
import { share } from '../../../src/devices/virtio/fs.js';
import type { MachineConfig } from '../../../src/machine/config.js';
import { templateKey } from '../../../src/template/key.js';
import { temporaryDirectory } from '../../support/guest.js';

const directory = temporaryDirectory();
function file(name: string): string {
  const path = join(directory, name);
  writeFileSync(path, name);
  return path;
}
const kernel = file('kernel');
const initrd = file('initrd');
const disk = file('disk');
const config: MachineConfig = {
  kernel,
  initrd,
  cmdline: 'quiet',
  memoryBytes: 2 ** 26,
  devices: [deviceKinds['blk']!.fromCli(`${disk},ro`)],
};

test('templateKey() is 16 digits, and the same for the same configuration', async () => {
  const key = await templateKey(config);
  expect(key).toMatch(/^[0-9a-f]{16}$/);
  expect(await templateKey({ ...config })).toBe(key);
  expect(await templateKey({ ...config, kernel: relative('.', kernel) })).toBe(key);
  const { cmdline, kernel: first, ...rest } = config;
  expect(await templateKey({ ...rest, kernel: first!, cmdline: cmdline! })).toBe(key);
});

test('templateKey() does not depend on the command, or on what is said of the guest', async () => {
  const build = {
    name: 'default',
    key: '1',
    version: '6.12',
    directory,
    current: true,
    bzImage: kernel,
    rootfs: disk,
  };
  expect(await templateKey({ ...config, command: { argv: ['x'] }, channel: true, build })).toBe(
    await templateKey(config),
  );
});

test('templateKey() is another for everything that makes another machine', async () => {
  const others: MachineConfig[] = [
    config,
    { ...config, memoryBytes: 2 ** 27 },
    { ...config, cpus: 2 },
    { ...config, cmdline: '' },
    { ...config, console: 'virtio' },
    { ...config, discovery: 'acpi' },
    { ...config, devices: [] },
    { ...config, devices: [deviceKinds['blk']!.fromCli(disk)] },
    { ...config, devices: [...config.devices!, deviceKinds['rng']!.fromCli('')] },
    { ...config, kernel: initrd },
    { ...config, kernel: join(directory, 'missing') },
    { kernel },
  ];
  const keys = await Promise.all(others.map((each) => templateKey(each)));
  expect(new Set(keys).size).toBe(others.length);
});

test.each([
  ['kernel', kernel],
  ['initramfs', initrd],
  ['disk', disk],
])('templateKey() is another when the %s was written again', async (_name, path) => {
  const before = await templateKey(config);
  utimesSync(path, 5, 5);
  expect(await templateKey(config)).not.toBe(before);
});

test('templateKey() is the same whatever is in a shared folder, and another for another folder', async () => {
  const shared = (path: string): MachineConfig => ({ ...config, devices: [share({ path, tag: 'x' })] });
  const folder = join(directory, 'shared');
  mkdirSync(folder);
  const key = await templateKey(shared(folder));
  writeFileSync(join(folder, 'new'), '');
  utimesSync(folder, 1, 1);
  expect(await templateKey(shared(folder))).toBe(key);
  expect(await templateKey(shared(relative('.', folder)))).not.toBe(await templateKey(shared(directory)));
});
