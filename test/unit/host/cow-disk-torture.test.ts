/** Real files and libuv's real threads under disks and their forks; see test/support/disk-torture.ts. */
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CowDisk } from '../../../src/host/disk/cow-disk.js';
import { openDiskFile } from '../../../src/host/disk/disk-file.js';
import type { Layer } from '../../../src/host/disk/layer.js';
import type { NativeAddon } from '../../../src/native/binding.js';
import { batches, DiskTorture, TORTURE_BYTES } from '../../support/disk-torture.js';
import { budget } from '../../support/fuzz.js';
import { ScratchAddon } from '../../support/scratch-addon.js';

const SEED = 20261124;

/** A disk whose requests take their time before and after, so that they end in any order. */
function jittery(disk: Layer, random: () => number): Layer {
  const slowly =
    <Args extends unknown[], T>(call: (...args: Args) => Promise<T>) =>
    async (...args: Args): Promise<T> => {
      const wait = async (): Promise<void> => {
        for (let turns = random() & 3; turns > 0; turns--)
          await new Promise((resolve) => setImmediate(resolve));
        if ((random() & 15) === 0) await delay(1);
      };
      await wait();
      const result = await call(...args);
      await wait();
      return result;
    };
  return {
    sizeBytes: disk.sizeBytes,
    readOnly: disk.readOnly,
    differsFromFile: false,
    readv: slowly((buffers: readonly Uint8Array[], offset: number) => disk.readv(buffers, offset)),
    writev: slowly((buffers: readonly Uint8Array[], offset: number) => disk.writev(buffers, offset)),
    discard: slowly((offset: number, length: number) => disk.discard(offset, length)),
    writeZeroes: slowly((...args: Parameters<Layer['writeZeroes']>) => disk.writeZeroes(...args)),
    flush: () => disk.flush(),
    close: () => disk.close(),
  };
}

/** xorshift32 */
function randomNumbers(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

test.each([
  ['as fast as they go', false],
  ['with delays', true],
])('CowDisk and its forks agree with a model, %s', { timeout: 120_000 }, async (_name, slow) => {
  const addon = new ScratchAddon();
  const path = join(addon.directory, 'disk.img');
  try {
    await fc.assert(
      fc.asyncProperty(batches, fc.nat(), async (plan, seed) => {
        writeFileSync(path, '');
        truncateSync(path, TORTURE_BYTES);
        const file = await openDiskFile(addon as unknown as NativeAddon, path, { readOnly: false });
        const torture = new DiskTorture(new CowDisk(addon, slow ? jittery(file, randomNumbers(seed)) : file));
        try {
          await torture.run(plan);
        } finally {
          await torture.close();
        }
        expect(addon.openFiles()).toEqual([]);
      }),
      budget(slow ? 15 : 60, SEED),
    );
  } finally {
    addon.remove();
  }
});
