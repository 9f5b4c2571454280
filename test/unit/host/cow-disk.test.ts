import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CowDisk } from '../../../src/host/disk/cow-disk.js';
import type { Layer } from '../../../src/host/disk/layer.js';
import { MemoryStore } from '../../../src/host/disk/memory-store.js';
import { OverlayDisk } from '../../../src/host/disk/overlay-disk.js';
import { MemoryDisk, settle } from '../../support/memory-disk.js';
import { ScratchAddon } from '../../support/scratch-addon.js';

/** Three clusters and a half. */
const SIZE = 3 * 4096 + 2048;
const END = SIZE - 512;

let addon: ScratchAddon;
let base: MemoryDisk;
let disk: CowDisk;

beforeEach(() => {
  addon = new ScratchAddon();
  base = new MemoryDisk({ sizeBytes: SIZE });
  base.bytes.fill(1);
  disk = new CowDisk(addon, Object.assign(base, { differsFromFile: false }) as MemoryDisk & Layer);
});

afterEach(() => addon.remove());

const sector = (value: number, count = 1): Uint8Array => new Uint8Array(count * 512).fill(value);

/** The value of every sector that is read: of a whole sector, or -1 for one that is torn. */
async function values(of: CowDisk, offset = 0, length = SIZE): Promise<number[]> {
  const bytes = new Uint8Array(length);
  expect(await of.readv([bytes.subarray(0, 100), bytes.subarray(100)], offset)).toBe(length);
  const result: number[] = [];
  for (let at = 0; at < length; at += 512) {
    const value = bytes[at] ?? -1;
    result.push(bytes.subarray(at, at + 512).every((byte) => byte === value) ? value : -1);
  }
  return result;
}

async function valueAt(of: CowDisk, offset: number): Promise<number | undefined> {
  return (await values(of, offset, 512))[0];
}

/** A promise that is kept when the test says so. */
function gate() {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

describe('CowDisk without a fork', () => {
  test('hands calls through as they are', async () => {
    const promise = Promise.resolve(7);
    base.writev = () => promise;
    base.readv = () => promise;
    expect(disk.writev([sector(2)], 0)).toBe(promise);
    expect(disk.readv([sector(2)], 0)).toBe(promise);
    await disk.discard(0, 512);
    await disk.writeZeroes(512, 512, true);
    await disk.flush();
    expect(base.log).toEqual(['discard 0+512', 'zero 512+512 true', 'flush']);
  });

  test('is so again after its forks are closed', async () => {
    const one = disk.fork();
    const two = disk.fork();
    await disk.writev([sector(2)], 0);
    await one.close();
    await two.close();
    base.log.length = 0;
    await disk.writev([sector(3)], 4096);
    expect(base.log).toEqual(['write 4096+512']);
    expect(addon.openFiles()).toEqual([]);
  });

  test('closes its disk', async () => {
    await disk.close();
    expect(base.closed).toBe(true);
  });
});

describe('CowDisk.fork()', () => {
  test('parent and fork see only their own writes', async () => {
    const fork = disk.fork();
    await disk.writev([sector(2)], 512);
    await fork.writev([sector(3)], 1024);
    expect(await values(disk, 0, 2048)).toEqual([1, 2, 1, 1]);
    expect(await values(fork, 0, 2048)).toEqual([1, 1, 3, 1]);
    expect(base.bytes[512]).toBe(2);
    expect(base.bytes[1024]).toBe(1);
  });

  test('reads span own, kept and shared clusters', async () => {
    const fork = disk.fork();
    await fork.writev([sector(3, 2)], 4096 - 512);
    await disk.writev([sector(2, 3)], 8192 - 512);
    expect((await values(fork)).filter((value) => value === 3)).toHaveLength(2);
    expect(await values(fork, 4096 - 1024, 6144)).toEqual([1, 3, 3, ...Array(9).fill(1)]);
  });

  test('a fork never sees what its parent writes while it reads, not even in its buffers until the read has ended', async () => {
    const fork = disk.fork();
    const guest = sector(0, 8);
    const [mayRead, hasRead, mayEnd] = [gate(), gate(), gate()];
    const readv = base.readv.bind(base);
    base.readv = async (buffers, offset) => {
      await mayRead.opened;
      const moved = await readv(buffers, offset);
      hasRead.open();
      await mayEnd.opened;
      return moved;
    };
    const reading = fork.readv([guest], 0);
    base.readv = readv;
    await disk.writev([sector(2, 8)], 0);
    mayRead.open();
    await hasRead.opened;
    expect(guest).not.toContain(2);
    mayEnd.open();
    expect([await reading, guest.every((byte) => byte === 1)]).toEqual([guest.length, true]);
  });

  test('the end of the disk may be in the middle of a cluster', async () => {
    const fork = disk.fork();
    await fork.writev([sector(3)], END);
    await disk.writev([sector(2)], END - 512);
    expect(await values(fork, 3 * 4096, 2048)).toEqual([1, 1, 1, 3]);
    expect(await values(disk, 3 * 4096, 2048)).toEqual([1, 1, 2, 1]);
    await fork.writeZeroes(3 * 4096, 2048, true);
    await disk.writeZeroes(END, 512, false);
    expect(await values(fork, 3 * 4096, 2048)).toEqual([0, 0, 0, 0]);
    expect(await values(disk, 3 * 4096, 2048)).toEqual([1, 1, 2, 0]);
  });

  test('zeroes of the parent are kept from the fork, whole clusters and parts', async () => {
    const fork = disk.fork();
    await disk.writeZeroes(512, 8192, true);
    expect(await values(fork)).toEqual(Array(SIZE / 512).fill(1));
    await fork.writeZeroes(2048, 4096, true);
    expect((await values(fork)).filter((value) => value === 0)).toHaveLength(8);
    await fork.writeZeroes(0, 512, true);
    expect(await values(fork, 0, 1024)).toEqual([0, 1]);
  });

  test('a discard of the parent leaves what forks read from it', async () => {
    const fork = disk.fork();
    await disk.writev([sector(2)], 4096);
    base.log.length = 0;
    await disk.discard(512, SIZE - 512);
    expect(base.log).toEqual(['discard 4096+4096']);
    expect(await values(fork)).toEqual(Array(SIZE / 512).fill(1));
  });

  test('discarded clusters of a fork read as zeroes, parts of clusters stay', async () => {
    const fork = disk.fork();
    await fork.writev([sector(3)], 4096);
    await fork.discard(2048, 8192 + 512);
    expect(await values(fork, 0, 12288)).toEqual([
      ...Array(8).fill(1),
      ...Array(8).fill(0),
      ...Array(8).fill(1),
    ]);
  });

  test('copies a cluster once, for all forks since the last write', async () => {
    const forks = [disk.fork(), disk.fork(), disk.fork()];
    base.log.length = 0;
    await disk.writev([sector(2)], 0);
    await disk.writev([sector(3)], 512);
    expect(base.log).toEqual(['read 0+4096', 'write 0+512', 'write 512+512']);
    expect(addon.openFiles()).toHaveLength(1);
    for (const fork of forks) expect(await values(fork, 0, 1024)).toEqual([1, 1]);
  });

  test('takes no descriptor and no memory for zeroes', async () => {
    base.bytes.fill(0);
    const fork = disk.fork();
    await disk.writev([sector(2, 20)], 0);
    await fork.discard(0, 4096);
    expect(await values(fork)).toEqual(Array(SIZE / 512).fill(0));
    expect(addon.openFiles()).toEqual([]);
  });

  test('an older fork reads what was kept for a newer one', async () => {
    const older = disk.fork();
    await disk.writev([sector(2)], 0);
    const newer = disk.fork();
    await disk.writev([sector(3)], 4096);
    await disk.writev([sector(3)], 0);
    await newer.close();
    await disk.writev([sector(4)], 8192);
    expect(await values(older)).toEqual(Array(SIZE / 512).fill(1));
    expect(await values(disk, 0, 512)).toEqual([3]);
    await older.close();
    expect(addon.openFiles()).toEqual([]);
  });

  test('a fork after a write begins from what was written', async () => {
    disk.fork();
    await disk.writev([sector(2)], 0);
    const newer = disk.fork();
    await disk.writev([sector(3)], 0);
    expect(await values(newer, 0, 1024)).toEqual([2, 1]);
  });

  test('forks of forks, each of which writes', async () => {
    const line = [disk];
    for (let i = 0; i < 5; i++) {
      const parent = line[i] as CowDisk;
      const fork = parent.fork();
      await parent.writev([sector(10 + i)], i * 512);
      line.push(fork);
    }
    // Each wrote its own sector after it was forked from.
    for (const [i, of] of line.entries()) {
      const expected = Array(5).fill(1);
      if (i < 5) expected[i] = 10 + i;
      expect(await values(of, 0, 5 * 512)).toEqual(expected);
    }
    for (const of of [line[2], line[0], line[4], line[1], line[3]]) await of?.close();
    expect(base.closed).toBe(false);
    expect(await values(line[5] as CowDisk, 0, 5 * 512)).toEqual([1, 1, 1, 1, 1]);
    await line[5]?.close();
    expect(base.closed).toBe(true);
    expect(addon.openFiles()).toEqual([]);
  });

  test('a fork lives on when its parent is closed, which is flushed then', async () => {
    const fork = disk.fork();
    await disk.writev([sector(2)], 0);
    base.log.length = 0;
    await disk.close();
    await disk.close();
    expect(base.log).toEqual(['flush']);
    expect(base.closed).toBe(false);
    await fork.writev([sector(3)], 512);
    expect(await values(fork, 0, 1536)).toEqual([1, 3, 1]);
    await fork.close();
    expect(base.closed).toBe(true);
    expect(addon.openFiles()).toEqual([]);
  });

  test('of a read-only disk is read-only', async () => {
    const image = new MemoryDisk({ sizeBytes: SIZE, readOnly: true });
    const parent = new CowDisk(addon, Object.assign(image, { differsFromFile: false }) as MemoryDisk & Layer);
    const fork = parent.fork().fork();
    expect(fork.readOnly).toBe(true);
    expect(await valueAt(fork, 0)).toBe(0);
    await fork.close();
    expect(fork.differsFromFile).toBe(false);
  });

  test('is a bug of the caller’s while a write is in flight, and on a closed disk', async () => {
    const fork = disk.fork();
    const write = disk.writev([sector(2)], 0);
    expect(() => disk.fork()).toThrow('being written');
    await write;
    await disk.close();
    expect(() => disk.fork()).toThrow('closed');
    await fork.close();
  });

  test('differsFromFile from the first write on either side', async () => {
    const one = disk.fork();
    expect([disk.differsFromFile, one.differsFromFile]).toEqual([false, false]);
    await one.writev([sector(3)], 0);
    expect([disk.differsFromFile, one.differsFromFile]).toEqual([false, true]);
    const two = disk.fork();
    expect(two.differsFromFile).toBe(false);
    await disk.writev([sector(3)], 0);
    expect([disk.differsFromFile, two.differsFromFile, two.fork().differsFromFile]).toEqual([
      false,
      true,
      true,
    ]);
  });
});

describe('CowDisk with I/O in flight', () => {
  test('a fork’s read that began before the parent’s write gets the old contents', async () => {
    const fork = disk.fork();
    base.held = true;
    const read = values(fork, 0, 8192);
    await settle();
    const write = disk.writev([sector(2)], 512);
    await settle();
    expect(base.waiting).toBe(2); // the read, and the copy before the write
    base.held = false;
    // The copy, then the write, and only then the read.
    const endRead = base.setAside();
    await base.release();
    await write;
    endRead();
    expect(await read).toEqual(Array(16).fill(1));
    expect(await valueAt(disk, 512)).toBe(2);
  });

  test('two writes of the parent to a cluster wait for one copy', async () => {
    const fork = disk.fork();
    base.held = true;
    const writes = [disk.writev([sector(2)], 0), disk.writev([sector(3)], 512)];
    await settle();
    expect(base.log).toEqual(['read 0+4096']);
    base.held = false;
    await base.release();
    expect(await Promise.all(writes)).toEqual([512, 512]);
    expect(await values(fork, 0, 1024)).toEqual([1, 1]);
    expect(await values(disk, 0, 1024)).toEqual([2, 3]);
  });

  test('two writes of a fork to a cluster that is not yet its own', async () => {
    const fork = disk.fork();
    base.held = true;
    const writes = [
      fork.writev([sector(2)], 0),
      fork.writev([sector(3)], 512),
      fork.writev([sector(4, 8)], 4096),
    ];
    await settle();
    base.held = false;
    await base.release();
    expect(await Promise.all(writes)).toEqual([512, 512, 4096]);
    expect(await values(fork, 0, 8192)).toEqual([2, 3, ...Array(6).fill(1), ...Array(8).fill(4)]);
  });

  test('zeroes and a smaller write to a cluster that is not yet the fork’s own', async () => {
    const fork = disk.fork();
    base.held = true;
    const writes = [fork.writev([sector(2)], 512), fork.writeZeroes(0, 4096, true)];
    await settle();
    base.held = false;
    await base.release();
    await Promise.all(writes);
    expect((await values(fork, 0, 4096)).filter((value) => value === 1)).toEqual([]);
    expect(await values(fork, 1024, 3072)).toEqual(Array(6).fill(0));
  });

  test('a long write of the parent is copied in pieces', async () => {
    const large = new MemoryDisk({ sizeBytes: 600 * 1024 });
    large.bytes.fill(1);
    const parent = new CowDisk(addon, Object.assign(large, { differsFromFile: false }) as MemoryDisk & Layer);
    const fork = parent.fork();
    large.held = true;
    const write = parent.writeZeroes(0, 600 * 1024, false);
    await settle();
    expect(large.log).toEqual(['read 0+262144']);
    large.held = false;
    await large.release();
    const bytes = new Uint8Array(600 * 1024);
    await fork.readv([bytes], 0);
    await write;
    // Among them are the fork's own reads, which need more than a piece.
    const pieces = ['read 0+262144', 'read 262144+262144', 'read 524288+90112'];
    expect(large.log).toEqual(expect.arrayContaining(pieces));
    expect(bytes.every((byte) => byte === 1)).toBe(true);
    await fork.readv([bytes], 0);
    expect(bytes.every((byte) => byte === 1)).toBe(true);
  });

  test('the last fork is closed while the parent copies for it', async () => {
    const fork = disk.fork();
    base.held = true;
    const write = disk.writev([sector(2)], 0);
    await settle();
    await fork.close();
    base.held = false;
    await base.release();
    expect(await write).toBe(512);
    await settle();
    expect(addon.openFiles()).toEqual([]);
    expect(base.closed).toBe(false);
  });
});

describe('CowDisk and failures', () => {
  const noSpace = Object.assign(new Error('no space'), { code: 'ENOSPC' });

  test('what cannot be kept is lost to the fork only', async () => {
    const fork = disk.fork();
    addon.failure = noSpace;
    expect(await disk.writev([sector(2)], 0)).toBe(512);
    addon.failure = undefined;
    await expect(values(fork, 0, 512)).rejects.toMatchObject({ code: 'EIO' });
    await expect(fork.writev([sector(3)], 0)).rejects.toMatchObject({ code: 'EIO' });
    expect(await valueAt(fork, 4096)).toBe(1);
    expect(await valueAt(disk, 0)).toBe(2);
    // A whole cluster needs nothing of what was lost.
    await fork.writev([sector(3, 8)], 0);
    expect(await valueAt(fork, 0)).toBe(3);
  });

  test('what the parent cannot read is lost to the fork, and the parent writes', async () => {
    const fork = disk.fork();
    base.failure = Object.assign(new Error('bad sector'), { code: 'EIO' });
    const write = disk.writev([sector(2)], 0);
    base.failure = undefined;
    expect(await write).toBe(512);
    await expect(values(fork, 0, 512)).rejects.toMatchObject({ code: 'EIO' });
  });

  test('a write that a fork has no memory for fails, and the old contents stay', async () => {
    const fork = disk.fork();
    addon.failure = noSpace;
    await expect(fork.writev([sector(3)], 0)).rejects.toBe(noSpace);
    addon.failure = undefined;
    expect(await valueAt(fork, 0)).toBe(1);
    await fork.writev([sector(3)], 0);
    expect(await valueAt(fork, 0)).toBe(3);
    expect(await valueAt(disk, 0)).toBe(1);
  });

  test('a fork’s write fails that cannot read the rest of its cluster', async () => {
    const fork = disk.fork();
    base.shortBytes = 512;
    await expect(fork.writev([sector(3)], 0)).rejects.toThrow('short read');
    base.shortBytes = 0;
    expect(await valueAt(fork, 0)).toBe(1);
  });

  test('a short read of the parent’s disk is a short read of the fork’s', async () => {
    const fork = disk.fork();
    base.shortBytes = 100;
    expect(await fork.readv([sector(0)], 0)).toBe(412);
  });
});

test('OverlayDisk flushes nothing, and closes its base', async () => {
  const overlay = new OverlayDisk(
    new MemoryStore(addon, SIZE),
    Object.assign(base, { differsFromFile: false }),
    {
      readOnly: false,
    },
  );
  await overlay.writev([sector(3)], 0);
  base.log.length = 0;
  await overlay.flush();
  expect(base.log).toEqual([]);
  await overlay.close();
  expect(base.closed).toBe(true);
  expect(addon.openFiles()).toEqual([]);
});
