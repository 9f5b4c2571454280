/** A snapshot's folder as saves leave it: complete, interrupted, and where there was something before. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import type { NativeAddon } from '../../../src/native/binding.js';
import {
  MANIFEST_NAME,
  MAX_CHAIN,
  MAX_MANIFEST_BYTES,
  MAX_PIECES,
  MAX_PIECES_DIFFERENTIAL,
  MAX_PIECES_FULL,
} from '../../../src/snapshot/format.js';
import { closeGaps, limitRuns, pagesWithData, writePages } from '../../../src/snapshot/memory-file.js';
import { openSnapshot } from '../../../src/snapshot/reader.js';
import { lookAtSnapshotTarget, SnapshotWriter } from '../../../src/snapshot/writer.js';
import { PAGE_BYTES } from '../../../src/util/units.js';
import { temporaryDirectory } from '../../support/guest.js';
import { fakeAddon, fakeRam, fakeSnapshot, memoryFile, saveFake } from '../../support/snapshots.js';

const root = temporaryDirectory();
let folders = 0;
let directory: string;
beforeEach(() => {
  directory = join(root, `snapshot${++folders}`);
});

const bytes = Uint8Array.from({ length: 8 * PAGE_BYTES }, (_, i) => 1 + (i % 251));
const all = [{ first: 0, count: 8 }];

async function opens(): Promise<boolean> {
  return await openSnapshot(directory).then(
    ({ memory }) => {
      memory.close();
      return true;
    },
    () => false,
  );
}

test('SnapshotWriter keeps what was there when a machine.json would be too long to be read', async () => {
  await saveFake(directory, bytes, all);
  const before = readFileSync(join(directory, MANIFEST_NAME));
  const long = { ...fakeSnapshot(bytes.length), cmdline: 'x'.repeat(MAX_MANIFEST_BYTES) };
  const writer = await SnapshotWriter.open(fakeAddon, directory);
  await writer.writeMemory(fakeRam(bytes), all);
  await expect(writer.commit(long)).rejects.toMatchObject({
    code: 'TSVM_SNAPSHOT',
    message: expect.stringMatching(/takes more than 16 MiB/),
  });
  await writer.close();
  expect(readFileSync(join(directory, MANIFEST_NAME))).toEqual(before);
  expect(await opens()).toBe(true);
});

test('SnapshotWriter makes a folder for its owner alone, with two files', async () => {
  await saveFake(directory, bytes, all);
  expect(readdirSync(directory)).toEqual([MANIFEST_NAME, basename(memoryFile(directory))]);
  for (const path of [directory, join(directory, MANIFEST_NAME), memoryFile(directory)])
    expect(statSync(path).mode & 0o077).toBe(0);
  expect(readFileSync(memoryFile(directory))).toEqual(Buffer.from(bytes));
});

test('SnapshotWriter leaves holes where it is told of no pages', async () => {
  await saveFake(directory, bytes, [{ first: 2, count: 1 }]);
  const file = readFileSync(memoryFile(directory));
  expect(file.length).toBe(bytes.length);
  expect(file.subarray(2 * PAGE_BYTES, 3 * PAGE_BYTES)).toEqual(
    Buffer.from(bytes.subarray(2 * PAGE_BYTES, 3 * PAGE_BYTES)),
  );
  expect(file.subarray(0, 2 * PAGE_BYTES).every((byte) => byte === 0)).toBe(true);
});

test('SnapshotWriter replaces what was there, and the old memory is gone', async () => {
  await saveFake(directory, bytes, all);
  const old = memoryFile(directory);
  await saveFake(directory, bytes, all);
  expect(existsSync(old)).toBe(false);
  expect(await opens()).toBe(true);
});

test('SnapshotWriter closed without a commit leaves the old one, and nothing of the new', async () => {
  await saveFake(directory, bytes, all);
  const before = readdirSync(directory);
  const writer = await SnapshotWriter.open(fakeAddon, directory);
  await writer.writeMemory(fakeRam(bytes), all);
  await writer.close();
  expect(readdirSync(directory)).toEqual(before);
  expect(await opens()).toBe(true);
});

test('SnapshotWriter closed without a commit leaves no folder that it made, and one that was there', async () => {
  const closed = async (): Promise<boolean> => {
    await (await SnapshotWriter.open(fakeAddon, directory)).close();
    return existsSync(directory);
  };
  expect(await closed()).toBe(false);
  mkdirSync(directory, { mode: 0o700 });
  expect(await closed()).toBe(true);
});

test('SnapshotWriter whose memory cannot be written says so, and leaves the old one', async () => {
  await saveFake(directory, bytes, all);
  const before = readdirSync(directory);
  const writer = await SnapshotWriter.open(fakeAddon, directory);
  const broken = {
    sizeBytes: bytes.length,
    bytesOf: () => {
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), {
        code: 'ENOSPC',
        errno: -28,
      });
    },
  };
  await expect(writer.writeMemory(broken as never, all)).rejects.toMatchObject({
    code: 'TSVM_SNAPSHOT',
    message: expect.stringContaining('no space left'),
    hint: expect.stringContaining('what was there before is unchanged'),
  });
  await writer.close();
  expect(readdirSync(directory)).toEqual(before);
});

test('SnapshotWriter clears away what a save that was killed has left', async () => {
  await saveFake(directory, bytes, all);
  const leftovers = ['memory-00ff', `${MANIFEST_NAME}.new`];
  for (const name of leftovers) writeFileSync(join(directory, name), 'half');
  expect(await opens()).toBe(true);
  await saveFake(directory, bytes, all);
  for (const name of leftovers) expect(existsSync(join(directory, name))).toBe(false);
});

test('SnapshotWriter keeps a snapshot whose predecessor cannot be removed', async () => {
  const writer = await SnapshotWriter.open(fakeAddon, directory);
  await writer.writeMemory(fakeRam(bytes), all);
  mkdirSync(join(directory, 'memory-00')); // rm(2) of a folder fails
  await writer.commit(fakeSnapshot(bytes.length));
  await writer.close();
  expect(await opens()).toBe(true);
  rmSync(join(directory, 'memory-00'), { recursive: true });
});

test('SnapshotWriter refuses a folder that holds other files, and touches none', async () => {
  mkdirSync(directory);
  writeFileSync(join(directory, 'letter.txt'), 'dear');
  await expect(SnapshotWriter.open(fakeAddon, directory)).rejects.toMatchObject({
    code: 'TSVM_SNAPSHOT',
    message: `${directory} is not a snapshot's folder: it holds letter.txt`,
    hint: expect.any(String),
  });
  expect(readdirSync(directory)).toEqual(['letter.txt']);
});

test('SnapshotWriter overwrites nothing through a link that is put there meanwhile', async () => {
  const victim = join(root, `victim${folders}`);
  writeFileSync(victim, 'mine');
  const writer = await SnapshotWriter.open(fakeAddon, directory);
  symlinkSync(victim, join(directory, `${MANIFEST_NAME}.new`));
  symlinkSync(victim, join(directory, MANIFEST_NAME));
  await writer.writeMemory(fakeRam(bytes), all);
  await writer.commit(fakeSnapshot(bytes.length));
  await writer.close();
  expect(readFileSync(victim, 'utf8')).toBe('mine');
  expect(await opens()).toBe(true);
});

test.each([
  ['that others may write to', () => chmodSync(directory, 0o777), 'others may write there'],
  ['of another user (as root)', () => chownSync(directory, 65534, 65534), 'another user'],
  [
    'that is a link',
    () => {
      renameSync(directory, `${directory}.real`);
      symlinkSync(`${directory}.real`, directory);
    },
    'a link',
  ],
  ['with a FIFO in it', () => spawnSync('mkfifo', [join(directory, MANIFEST_NAME)]), 'not a file'],
  ['with a link in it', () => symlinkSync('/etc/hostname', join(directory, MANIFEST_NAME)), 'link'],
])('SnapshotWriter refuses a folder %s', async (_, prepare, message) => {
  if (message === 'another user' && process.geteuid?.() !== 0) return;
  mkdirSync(directory, { mode: 0o700 });
  prepare();
  await expect(SnapshotWriter.open(fakeAddon, directory)).rejects.toMatchObject({
    code: 'TSVM_SNAPSHOT',
    message: expect.stringContaining(message),
  });
});

test.each([
  ['a folder that others may write to', () => chmodSync(directory, 0o770)],
  ['a folder of another user (as root)', () => chownSync(directory, 65534, 65534)],
  ['a manifest that others may write to', () => chmodSync(join(directory, MANIFEST_NAME), 0o620)],
  ['a memory file that others may write to', () => chmodSync(memoryFile(directory), 0o602)],
  ['a memory file of another user (as root)', () => chownSync(memoryFile(directory), 65534, 65534)],
  ['a memory file that is a link', () => linkInstead(memoryFile(directory))],
  ['a manifest that is a link', () => linkInstead(join(directory, MANIFEST_NAME))],
])('openSnapshot() refuses %s', async (what, change) => {
  if (what.includes('root') && process.geteuid?.() !== 0) return;
  await saveFake(directory, bytes, all);
  change();
  await expect(openSnapshot(directory)).rejects.toMatchObject({ code: 'TSVM_SNAPSHOT' });
});

function linkInstead(path: string): void {
  const real = join(root, `real${folders}`);
  renameSync(path, real);
  symlinkSync(real, path);
}

test('SnapshotWriter refuses a folder that is locked', async () => {
  const locked = { flock: () => false } as unknown as NativeAddon;
  await expect(SnapshotWriter.open(locked, directory)).rejects.toMatchObject({
    code: 'TSVM_SNAPSHOT',
    message: expect.stringContaining('another snapshot is being saved there'),
  });
});

test.each([
  ['a file', () => writeFileSync(directory, '')],
  [
    'below a file',
    () => {
      writeFileSync(directory, '');
      directory = join(directory, 'below');
    },
  ],
])('SnapshotWriter refuses %s as its folder', async (_name, make) => {
  make();
  await expect(SnapshotWriter.open(fakeAddon, directory)).rejects.toMatchObject({
    code: 'TSVM_SNAPSHOT',
    message: expect.stringContaining(`cannot save to ${directory}`),
    hint: expect.any(String),
  });
});

test('pagesWithData() finds the pages that are not zero, to their last byte', () => {
  const memory = new Uint8Array(8 * PAGE_BYTES);
  for (const at of [PAGE_BYTES, 3 * PAGE_BYTES - 1, 8 * PAGE_BYTES - 1]) memory[at] = 1;
  expect(pagesWithData(fakeRam(memory), [{ first: 0, count: 8 }])).toEqual([
    { first: 1, count: 2 },
    { first: 7, count: 1 },
  ]);
  expect(pagesWithData(fakeRam(memory), [{ first: 3, count: 4 }])).toEqual([]);
});

test('closeGaps() takes in gaps up to its limit, and no longer ones', () => {
  const runs = [
    { first: 0, count: 1 },
    { first: 65, count: 1 },
    { first: 131, count: 2 },
  ];
  expect(closeGaps(runs)).toEqual([
    { first: 0, count: 66 },
    { first: 131, count: 2 },
  ]);
  expect(closeGaps([])).toEqual([]);
});

test('limitRuns() makes no more runs than asked for, and loses no page', () => {
  const runs = Array.from({ length: 5000 }, (_, i) => ({ first: 7 * i + ((i * i) % 5), count: 1 + (i % 2) }));
  expect(limitRuns(runs, 5000)).toBe(runs);
  for (const most of [4999, 1000, 3, 1]) {
    const limited = limitRuns(runs, most);
    expect(limited.length).toBeLessThanOrEqual(most);
    let at = 0;
    const lost = runs.filter(({ first, count }) => {
      while (at < limited.length - 1 && limited[at + 1]!.first <= first) at++;
      const run = limited[at]!;
      return first < run.first || first + count > run.first + run.count;
    });
    expect(lost).toEqual([]);
    const touching = limited.slice(1).filter((run, i) => run.first <= limited[i]!.first + limited[i]!.count);
    expect(touching).toEqual([]);
  }
});

test('the longest chain of snapshots in as many pieces as they may have can be restored', () => {
  expect(MAX_PIECES_FULL + (MAX_CHAIN - 1) * MAX_PIECES_DIFFERENTIAL).toBeLessThanOrEqual(MAX_PIECES);
});

test('writePages() fails when nothing is being written any more: the memory may be another machine’s by then', async () => {
  let underWay = 0;
  let first = true;
  const file = {
    async write(piece: Uint8Array) {
      underWay++;
      const fails = first;
      first = false;
      if (!fails) await new Promise((resolve) => setTimeout(resolve, 10));
      underWay--;
      if (fails) throw new Error('ENOSPC: no space left on device, write');
      return { bytesWritten: piece.length };
    },
  } as unknown as FileHandle;
  const runs = Array.from({ length: 4 }, (_, i) => ({ first: 2 * i, count: 1 }));
  await expect(writePages(file, fakeRam(bytes), runs)).rejects.toThrow('ENOSPC');
  expect(underWay).toBe(0);
});

test('lookAtSnapshotTarget refuses a place below a file as a save would', async () => {
  writeFileSync(directory, '');
  const target = join(directory, 'a', 'b');
  const saved = await SnapshotWriter.open(fakeAddon, target).catch((error: unknown) => error);
  const looked = await lookAtSnapshotTarget(target).catch((error: unknown) => error);
  expect(looked).toMatchObject({ code: 'TSVM_SNAPSHOT', message: (saved as Error).message });
});
