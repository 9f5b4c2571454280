import { copyFileSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DiskFile } from '../../../src/host/disk-file.js';
import { type OpenDisk, openDisk } from '../../../src/host/open-disk.js';
import { OverlayDisk } from '../../../src/host/overlay-disk.js';
import { OverlayFile, openOverlayFile } from '../../../src/host/overlay-file.js';
import type { NativeAddon } from '../../../src/native/binding.js';
import { budget } from '../../support/fuzz.js';
import { MemoryDisk } from '../../support/memory-disk.js';
import { ScratchAddon } from '../../support/scratch-addon.js';

/** Three clusters and a half. */
const SIZE = 3 * 4096 + 2048;

let addon: ScratchAddon;
let base: string;
let overlay: string;

beforeEach(() => {
  addon = new ScratchAddon();
  base = join(addon.directory, 'base.img');
  overlay = join(addon.directory, 'mine');
  writeFileSync(base, Buffer.alloc(SIZE, 1));
});

afterEach(() => addon.remove());

const open = (options: Partial<Parameters<typeof openDisk>[1]> = {}): Promise<OpenDisk> =>
  openDisk(addon as unknown as NativeAddon, {
    path: base,
    overlay,
    readOnly: false,
    throwAway: false,
    ...options,
  });

const sector = (value: number): Uint8Array => new Uint8Array(512).fill(value);

async function value(of: OpenDisk, offset: number): Promise<number | undefined> {
  const bytes = new Uint8Array(512);
  expect(await of.disk.readv([bytes], offset)).toBe(512);
  expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
  return bytes[0];
}

describe('a disk with an overlay in a file', () => {
  test('keeps what is written, and leaves its base alone', async () => {
    const first = await open();
    await first.disk.writev([sector(2)], 512);
    await first.disk.writev([sector(3)], SIZE - 512);
    await first.disk.close();
    expect(readFileSync(base)).toEqual(Buffer.alloc(SIZE, 1));
    const second = await open();
    const offsets = [0, 512, 1024, 4096, SIZE - 1024, SIZE - 512];
    const values = [];
    for (const offset of offsets) values.push(await value(second, offset));
    expect(values).toEqual([1, 2, 1, 1, 1, 3]);
    await second.disk.writeZeroes(0, 4096, true);
    await second.disk.close();
    const third = await open();
    expect([await value(third, 512), await value(third, 4096)]).toEqual([0, 1]);
    await third.disk.close();
    expect(addon.openFiles()).toEqual([]);
  });

  test('is sparse', async () => {
    const big = join(addon.directory, 'big.img');
    writeFileSync(big, '');
    truncateSync(big, 2 ** 32);
    const disk = await open({ path: big });
    await disk.disk.writev([sector(2)], 2 ** 32 - 512);
    await disk.disk.close();
    expect(statSync(overlay).blocks * 512).toBeLessThan(64 * 1024);
    const again = await open({ path: big });
    expect([await value(again, 0), await value(again, 2 ** 32 - 512)]).toEqual([0, 2]);
    await again.disk.close();
  });

  test('of one that is thrown away is not written to', async () => {
    const first = await open();
    await first.disk.writev([sector(2)], 0);
    await first.disk.close();
    const before = readFileSync(overlay);
    const second = await open({ throwAway: true });
    await second.disk.writev([sector(3)], 0);
    await second.disk.writev([sector(3)], 4096);
    expect([await value(second, 0), await value(second, 512), await value(second, 4096)]).toEqual([3, 1, 3]);
    await second.disk.close();
    expect(readFileSync(overlay)).toEqual(before);
  });

  test('that is only read needs one that is there', async () => {
    await expect(open({ readOnly: true })).rejects.toMatchObject({
      code: 'TSVM_DISK',
      message: expect.stringContaining(overlay),
    });
    await (await open()).disk.close();
    const disk = await open({ readOnly: true });
    expect([disk.disk.readOnly, await value(disk, 0)]).toEqual([true, 1]);
    await disk.disk.close();
  });

  test.each<[string, RegExp, () => void]>([
    ['whose base was touched', /has changed since/, () => utimesSync(base, 1, 1)],
    ['whose base is another', /has changed since/, () => writeFileSync(base, Buffer.alloc(2 * SIZE))],
    ['that is an image', /is not an overlay/, () => copyFileSync(base, overlay)],
    ['that is a short text', /is not an overlay/, () => writeFileSync(overlay, 'a'.repeat(512))],
    ['that was cut short', /was cut short/, () => truncateSync(overlay, 8192)],
    ['that lost a byte', /was cut short/, () => truncateSync(overlay, statSync(overlay).size - 1)],
    [
      'with a header of garbage',
      /header is damaged/,
      () => writeFileSync(overlay, 'tsvm disk overlay\n[', { flag: 'r+' }),
    ],
  ])('%s is refused, and left as it is', async (_, message, damage) => {
    await (await open()).disk.close();
    damage();
    const before = readFileSync(overlay);
    await expect(open()).rejects.toMatchObject({
      code: 'TSVM_DISK',
      message: expect.stringMatching(message),
    });
    expect(readFileSync(overlay)).toEqual(before);
    expect(addon.openFiles()).toEqual([]);
  });

  test('that cannot be made says so, and leaves nothing', async () => {
    await expect(open({ overlay: join(addon.directory, 'no', 'such') })).rejects.toMatchObject({
      code: 'TSVM_DISK',
      message: expect.stringMatching(/cannot make the overlay .*no.such/),
    });
    expect(addon.openFiles()).toEqual([]);
  });

  test('is made once by two at a time', async () => {
    const facts = { path: base, sizeBytes: SIZE, mtimeNs: '1' };
    const make = () => openOverlayFile(addon as unknown as NativeAddon, overlay, facts, { readOnly: false });
    const made = await Promise.all([make(), make()]);
    expect(new Set(await Promise.all(made.map(async ({ file }) => (await file.stat()).ino))).size).toBe(1);
    for (const each of made) await each.close();
  });

  test('has the size of its base for good', async () => {
    const disk = await open();
    await expect(disk.disk.resize(2 * SIZE)).rejects.toMatchObject({ code: 'TSVM_DISK' });
    await disk.disk.close();
  });
});

/** A file whose writes get to storage when they like, but not after the next flush. */
class LossyFile extends MemoryDisk {
  /** Content that a crash leaves, whatever the writes of `#late` do. */
  #safe: Uint8Array;
  #late: { readonly offset: number; readonly bytes: Uint8Array }[] = [];

  constructor(sizeBytes: number) {
    super({ sizeBytes });
    this.#safe = this.bytes.slice();
  }

  override async writev(buffers: readonly Uint8Array[], offset: number): Promise<number> {
    await new Promise((resolve) => setImmediate(resolve));
    const bytes = Buffer.concat(buffers);
    this.bytes.set(bytes, offset);
    this.#late.push({ offset, bytes });
    return bytes.length;
  }

  override async flush(): Promise<void> {
    const { length } = this.#late;
    await new Promise((resolve) => setImmediate(resolve));
    for (const { bytes, offset } of this.#late.splice(0, length)) this.#safe.set(bytes, offset);
  }

  /** @param survives asked for each write that was not flushed */
  crashed(survives: () => boolean): LossyFile {
    const file = new LossyFile(this.bytes.length);
    for (const { bytes, offset } of this.#late) if (survives()) this.#safe.set(bytes, offset);
    file.bytes.set(this.#safe);
    file.#safe.set(this.#safe);
    return file;
  }
}

test('OverlayFile after a crash has what was flushed, and of the rest the old or the new', async () => {
  const clusters = 6;
  const sectors = clusters * 8;
  const action = fc.oneof(
    fc.record({ write: fc.nat(sectors - 2), count: fc.constantFrom(1, 2) }),
    fc.constant('flush' as const),
    fc.constant('flush, and go on' as const),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(action, { maxLength: 24 }),
      fc.infiniteStream(fc.boolean()),
      async (actions, luck) => {
        const base = new MemoryDisk({ sizeBytes: sectors * 512 });
        base.bytes.fill(1);
        const baseLayer = Object.assign(base, { differsFromFile: false });
        const file = new LossyFile(8192 + sectors * 512);
        const disk = new OverlayDisk(new OverlayFile(file as unknown as DiskFile, sectors * 512), baseLayer, {
          readOnly: false,
        });
        /** Values that each sector may hold: that of the last flush, and all written since. */
        const possible = Array.from({ length: sectors }, () => new Set([1]));
        const latest = new Array<number>(sectors).fill(1);
        let going: Promise<void> | undefined;
        for (const [index, step] of actions.entries()) {
          if (step === 'flush, and go on') {
            going = disk.flush();
          } else if (step === 'flush') {
            await disk.flush();
            for (const [at, set] of possible.entries()) {
              set.clear();
              set.add(latest[at] as number);
            }
          } else {
            const written = index + 2;
            await disk.writev([new Uint8Array(step.count * 512).fill(written)], step.write * 512);
            for (let at = step.write; at < step.write + step.count; at++) {
              possible[at]?.add(written);
              latest[at] = written;
            }
          }
        }
        const after = file.crashed(() => luck.next().value);
        await going;
        const store = new OverlayFile(after as unknown as DiskFile, sectors * 512);
        await store.load();
        const again = new OverlayDisk(store, baseLayer, { readOnly: false });
        const bytes = new Uint8Array(sectors * 512);
        await again.readv([bytes], 0);
        for (const [at, set] of possible.entries()) {
          const sectorBytes = bytes.subarray(at * 512, (at + 1) * 512);
          const value = sectorBytes[0] as number;
          // A sector is written as a whole or not at all here; so none is torn.
          const whole = sectorBytes.every((byte) => byte === value);
          if (!whole || !set.has(value))
            throw new Error(`sector ${at} holds ${new Set(sectorBytes)}, not one of ${[...set]}`);
        }
      },
    ),
    budget(300, 20261125),
  );
});
