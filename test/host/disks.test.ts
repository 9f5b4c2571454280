/** Disks over the addon: locks, memfds and holes are the kernel's. */
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ConsolePort } from '../../src/devices/backends/console.js';
import { CowDisk } from '../../src/host/disk/cow-disk.js';
import { openDiskFile } from '../../src/host/disk/disk-file.js';
import { openDisk } from '../../src/host/disk/open-disk.js';
import { createHost } from '../../src/host/host.js';
import { loadAddon } from '../../src/native/binding.js';
import { batches, DiskTorture, TORTURE_BYTES } from '../support/disk-torture.js';

const CONSOLE: ConsolePort = { onOutput: () => {}, onDrain: () => {}, connect: () => {} };
const RW = { readOnly: false };
const IN_USE = { code: 'TSVM_DISK', message: expect.stringContaining('in use by another machine') };

const addon = loadAddon();
let directory: string;
let image: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tsvm-'));
  image = join(directory, 'disk.img');
  writeFileSync(image, Buffer.alloc(1 << 20, 1));
});

afterEach(() => rmSync(directory, { recursive: true }));

const openThrowAway = async (): Promise<CowDisk> =>
  (await openDisk(addon, { path: image, ...RW, throwAway: true })).disk;

/** Bytes of memory behind each of the disks' memfds. */
function scratchBytes(): number[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    const path = `/proc/self/fd/${fd}`;
    try {
      return readlinkSync(path).startsWith('/memfd:tsvm-disk') ? [statSync(path).blocks * 512] : [];
    } catch {
      return []; // the descriptor of the listing itself
    }
  });
}

test('a file stays locked until the last fork is closed', async () => {
  const host = createHost(addon, CONSOLE);
  const disk = await host.openDisk(image, RW);
  const fork = await host.fork(CONSOLE).openDisk(image, RW);
  await disk.close();
  await expect(createHost(addon, CONSOLE).openDisk(image, RW)).rejects.toMatchObject(IN_USE);
  await expect(openThrowAway()).rejects.toMatchObject(IN_USE);
  await fork.close();
  const again = await createHost(addon, CONSOLE).openDisk(image, RW);
  await again.close();
});

test('any number of overlays may lie over a file, which nobody may write meanwhile', async () => {
  const overlays = await Promise.all(Array.from({ length: 3 }, () => openThrowAway()));
  for (const [i, overlay] of overlays.entries()) await overlay.writev([new Uint8Array(512).fill(10 + i)], 0);
  await expect(createHost(addon, CONSOLE).openDisk(image, RW)).rejects.toMatchObject(IN_USE);
  for (const [i, overlay] of overlays.entries()) {
    const bytes = new Uint8Array(1024);
    await overlay.readv([bytes], 0);
    expect([bytes[0], bytes[512]]).toEqual([10 + i, 1]);
    await overlay.close();
  }
  expect(scratchBytes()).toEqual([]);
  expect(readFileSync(image).equals(Buffer.alloc(1 << 20, 1))).toBe(true);
});

test('a fork takes memory for what it writes, and gives back what it discards', async () => {
  const disk = new CowDisk(addon, await openDiskFile(addon, image, RW));
  const fork = disk.fork();
  expect(scratchBytes()).toEqual([]);
  await fork.writev([new Uint8Array(256 * 1024).fill(2)], 0);
  expect(scratchBytes()).toEqual([256 * 1024]);
  await fork.discard(0, 128 * 1024);
  expect(scratchBytes()).toEqual([128 * 1024]);
  await fork.writeZeroes(128 * 1024, 128 * 1024, true);
  expect(scratchBytes()).toEqual([0]);
  const bytes = new Uint8Array(256 * 1024);
  await fork.readv([bytes], 0);
  expect(bytes.every((byte) => byte === 0)).toBe(true);
  await disk.writeZeroes(0, 1 << 20, true);
  expect(scratchBytes().sort()).toEqual([0, 1 << 20]);
  await fork.close();
  expect(scratchBytes()).toEqual([]);
  await disk.close();
});

test.each<[string, () => Promise<CowDisk>]>([
  ['a file', async () => new CowDisk(addon, await openDiskFile(addon, image, RW))],
  [
    'an overlay',
    async () =>
      (await openDisk(addon, { path: image, overlay: `${image}.mine`, ...RW, throwAway: false })).disk,
  ],
])('CowDisk and its forks agree with a model, over %s', async (_, open) => {
  await fc.assert(
    fc.asyncProperty(batches, async (plan) => {
      writeFileSync(image, '');
      truncateSync(image, TORTURE_BYTES);
      rmSync(`${image}.mine`, { force: true });
      const torture = new DiskTorture(await open());
      try {
        await torture.run(plan);
      } finally {
        await torture.close();
      }
      expect(scratchBytes()).toEqual([]);
    }),
    { seed: 20261125, numRuns: 25 },
  );
});
