import {
  fstatSync,
  linkSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ConsolePort } from '../../../src/devices/backends/console.js';
import { Blk, blk } from '../../../src/devices/blk/blk.js';
import { createHost, type HostOptions, type MachineHost } from '../../../src/host/host.js';
import { changeDisk } from '../../../src/machine/disk-change.js';
import type { NativeAddon } from '../../../src/native/binding.js';
import { ScratchAddon } from '../../support/scratch-addon.js';

const CONSOLE: ConsolePort = { onOutput: () => {}, onDrain: () => {}, connect: () => {} };
const SIZE = 4096;

/** A file that this process has open more than once is locked, whoever has the first. */
class LockingAddon extends ScratchAddon {
  override flock(fd?: number): boolean {
    const { ino } = fstatSync(fd!);
    const open = readdirSync('/proc/self/fd').map((other) =>
      statSync(`/proc/self/fd/${other}`, { throwIfNoEntry: false }),
    );
    return open.filter((stats) => stats?.ino === ino).length === 1;
  }
}

let addon: LockingAddon;
let path: string;

beforeEach(() => {
  addon = new LockingAddon();
  path = join(addon.directory, 'a.img');
  writeFileSync(path, Buffer.alloc(SIZE, 'old'));
});
afterEach(() => addon.remove());

async function machineWithDisk(options?: HostOptions) {
  const host: MachineHost = createHost(addon as unknown as NativeAddon, CONSOLE, options);
  const disk = new Blk({ backend: await host.openDisk(path, { readOnly: false }) });
  const change = (to: string) =>
    changeDisk({ config: { devices: [blk({ path })] }, disks: [disk], host }, 0, to);
  return { host, disk, change };
}

test('changeDisk() opens what is at the path now, though the path is the same', async () => {
  const { disk, change } = await machineWithDisk();
  const other = join(addon.directory, 'b.img');
  writeFileSync(other, Buffer.alloc(2 * SIZE, 'new'));
  renameSync(other, path);
  await change(path);
  expect(disk.sizeBytes).toBe(2 * SIZE);
  const bytes = new Uint8Array(3);
  await disk.backend.readv([bytes], 0);
  expect(Buffer.from(bytes).toString()).toBe('new');
  await disk.backend.writev([Buffer.from('its')], 0);
  expect(readFileSync(path, 'latin1')).toMatch(/^its/);
  expect(addon.openFiles()).toEqual([path]);
  await disk.backend.close();
});

test.each([
  ['larger', 2 * SIZE],
  ['smaller', SIZE / 2],
  ['as it was', SIZE],
])('changeDisk() takes the size of the file that it has: %s', async (_, bytes) => {
  const { disk, change } = await machineWithDisk();
  truncateSync(path, bytes);
  const link = join(addon.directory, 'link.img');
  linkSync(path, link);
  const config = await change(link);
  expect(disk.sizeBytes).toBe(bytes);
  expect(statSync(path).size).toBe(bytes);
  expect(config.devices).toMatchObject([{ config: { path: link } }]);
  expect(addon.openFiles()).toEqual([path]);
  await disk.backend.close();
});

test('changeDisk() does not take a size that the disk cannot have', async () => {
  const { disk, host, change } = await machineWithDisk();
  const fork = await host.fork(CONSOLE).openDisk(path, { readOnly: false });
  await change(path);
  truncateSync(path, 2 * SIZE);
  await expect(change(path)).rejects.toMatchObject({
    code: 'TSVM_DISK',
    message: expect.stringContaining('forks'),
  });
  expect(disk.sizeBytes).toBe(SIZE);
  await fork.close();
  truncateSync(path, 511);
  await expect(change(path)).rejects.toMatchObject({
    code: 'TSVM_DISK',
    message: expect.stringContaining(path),
  });
  expect(disk.sizeBytes).toBe(SIZE);
  await disk.backend.close();
});

test('changeDisk() of a disk whose writes are in memory leaves them there', async () => {
  const { disk, change } = await machineWithDisk({ disks: 'overlay' });
  await disk.backend.writev([Buffer.from('new')], 0);
  await change(path);
  const bytes = new Uint8Array(3);
  await disk.backend.readv([bytes], 0);
  expect(Buffer.from(bytes).toString()).toBe('new');
  await disk.backend.close();
});
