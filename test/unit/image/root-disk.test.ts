/** Root disks: what is made, what is kept and what is thrown away. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MKE2FS, openRootDisk, removeRootDisk } from '../../../src/image/root-disk.js';
import { checkRootDiskBytes } from '../../../src/image/root-disk-size.js';
import { MIB } from '../../../src/util/units.js';
import { temporaryDirectory } from '../../support/guest.js';
import { skipAll } from '../../support/skip.js';
import { missingProgram } from '../../support/skip-reasons.js';

const BYTES = 64 * MIB;
/** Magic number of ext4's superblock (Documentation/filesystems/ext4/super.rst), and where it is. */
const MAGIC = 0xef53;
const MAGIC_AT = 1024 + 0x38;

const root = temporaryDirectory();
let folders = 0;
let folder = '';
beforeEach(() => {
  folder = join(root, `disks${++folders}`);
  vi.stubEnv('TSVM_DISK_DIR', folder);
});
afterEach(() => vi.unstubAllEnvs());

const open = (name?: string, more: { bytes?: number; root?: string } = {}) =>
  openRootDisk({ bytes: BYTES, root: 'image', name, ...more });

test.each([0, MIB, 16 * MIB - 1, 16 * MIB + 512, 2 ** 40 + MIB, 2 ** 53])(
  'no root disk has %d bytes',
  (bytes) => {
    expect(() => checkRootDiskBytes('--root-disk', bytes)).toThrow(
      /^--root-disk: .* is no size of a root disk$/,
    );
  },
);

test.each([16 * MIB, 4096 * MIB, 2 ** 40])('a root disk may have %d bytes', (bytes) => {
  expect(() => checkRootDiskBytes('--root-disk', bytes)).not.toThrow();
});

describe('openRootDisk()', () => {
  skipAll(missingProgram(MKE2FS.name, MKE2FS.debianPackage));

  test('makes a sparse file with an empty ext4, and an empty one for the template, both of the same time', async () => {
    const disk = await open();
    const [own, blank] = [statSync(disk.path), statSync(disk.blank)];
    for (const { size, mode, mtimeMs } of [own, blank])
      expect({ size, mode, mtimeMs }).toEqual({ size: BYTES, mode: 0o100600, mtimeMs: 0 });
    expect(own.blocks * 512).toBeLessThan(MIB);
    expect(blank.blocks).toBe(0);
    expect(readFileSync(disk.path).readUInt16LE(MAGIC_AT)).toBe(MAGIC);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    disk.release();
    expect(readdirSync(folder)).toEqual([`blank-${BYTES}`]);
  });

  test('takes up what is kept for a name, until that is removed', async () => {
    const disk = await open('web');
    expect(disk.isKept).toBe(true);
    writeFileSync(disk.path, 'x', { flag: 'r+' });
    disk.release();
    const again = await open('web');
    expect(again.path).toBe(disk.path);
    expect(readFileSync(again.path, 'latin1')[0]).toBe('x');
    expect(statSync(again.path).mtimeMs).toBe(0);
    // A name that begins like it is another.
    expect((await open('web2')).path).not.toBe(disk.path);
    expect(removeRootDisk('web')).toBe(true);
    expect(existsSync(disk.path)).toBe(false);
    expect(removeRootDisk('web')).toBe(false);
    expect(removeRootDisk('web2')).toBe(true);
  });

  test('refuses a kept one of another size, or over another root, and leaves it alone', async () => {
    const { path } = await open('web');
    const refused = { code: 'TSVM_DISK', hint: expect.stringContaining('tsvm rm web') };
    const message = 'the root disk that is kept for web';
    await expect(open('web', { bytes: 2 * BYTES })).rejects.toMatchObject({
      ...refused,
      message: `${message} has 64 MiB`,
    });
    await expect(open('web', { root: 'other' })).rejects.toMatchObject({
      ...refused,
      message: `${message} lies over another root`,
    });
    expect(statSync(path).size).toBe(BYTES);
  });

  test('gives one disk to two that open it for a name at once', async () => {
    const inode = async () => statSync((await open('web')).path).ino;
    const [one, other] = await Promise.all([inode(), inode()]);
    expect(one).toBe(other);
    expect(readdirSync(folder)).toHaveLength(2);
  });

  test('sweeps what a process that was killed has left', async () => {
    const { path } = await open();
    const left = path.replace(/\d+$/, '4194304');
    writeFileSync(left, '');
    await open();
    expect(existsSync(left)).toBe(false);
    expect(existsSync(path)).toBe(true);
  });

  test('refuses a folder that others may write to', async () => {
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    await expect(open()).rejects.toMatchObject({
      code: 'TSVM_DISK',
      hint: expect.stringContaining('chmod go-w'),
    });
  });
});
