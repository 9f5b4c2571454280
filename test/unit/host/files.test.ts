/** The operator's files: read as they are, or refused by name. */
import { execFileSync } from 'node:child_process';
import {
  constants,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDiskFile } from '../../../src/host/disk-file.js';
import { InputFile, openChecked, readInputFile, readInputText } from '../../../src/host/files.js';
import { openPmemFile } from '../../../src/host/pmem-file.js';
import { readBootFiles } from '../../../src/machine/boot.js';
import type { NativeAddon } from '../../../src/native/binding.js';
import { makeElf } from '../boot/images.js';

const OPTIONS = { code: 'TSVM_KERNEL_IMAGE', maxBytes: 10 } as const;

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tsvm-files-'));
  path = join(directory, 'kernel');
  writeFileSync(path, '0123456789');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const descriptors = (): number => readdirSync('/proc/self/fd').length;

test('copyTo() fills the target from anywhere; slice() is cut at the end', async () => {
  const file = await InputFile.open('kernel', path, OPTIONS);
  const target = Buffer.alloc(3);
  await file.copyTo(target, 5);
  expect(target.toString()).toBe('567');
  expect(Buffer.from(await file.slice(8, 100)).toString()).toBe('89');
  expect(await file.slice(100, 1)).toHaveLength(0);
  await file.close();
});

test('a file that becomes shorter while it is read is refused', async () => {
  const file = await InputFile.open('kernel', path, OPTIONS);
  truncateSync(path, 6);
  await expect(file.copyTo(Buffer.alloc(3), 5)).rejects.toThrowError(
    `cannot read kernel ${path}: it became shorter meanwhile`,
  );
  await file.close();
});

test.each([
  ['nothing there', () => rmSync(path), /no such file/],
  ['a directory', () => rmSync(path) ?? execFileSync('mkdir', [path]), /it is a directory/],
  [
    'a FIFO, which nobody writes to',
    () => rmSync(path) ?? execFileSync('mkfifo', [path]),
    /not a regular file/,
  ],
  ['more than is allowed', () => writeFileSync(path, '0123456789a'), /too large: 11 B, at most 10 B/],
])('%s is refused, and nothing stays open', async (_, prepare, message) => {
  prepare();
  const before = descriptors();
  await expect(readInputFile('kernel', path, OPTIONS)).rejects.toThrowError(message);
  expect(descriptors()).toBe(before);
});

test('the kernel is closed when another file is bad', async () => {
  writeFileSync(path, makeElf());
  const before = descriptors();
  const files = readBootFiles({ kernel: path, initrd: join(directory, 'missing') });
  await expect(files).rejects.toThrowError(/initramfs .*missing: no such file/);
  expect(descriptors()).toBe(before);
});

test('a disk or a file in memory that is a pipe is refused, and nobody waits for its other end', async () => {
  rmSync(path);
  execFileSync('mkfifo', [path]);
  const addon = {} as NativeAddon;
  const before = descriptors();
  // More than libuv has threads.
  for (let i = 0; i < 6; i++) {
    for (const readOnly of [true, false])
      await expect(openDiskFile(addon, path, { readOnly })).rejects.toThrow(
        /neither a file nor a block device/,
      );
    await expect(openPmemFile(addon, path)).rejects.toThrow(/not a regular file/);
  }
  expect(descriptors()).toBe(before);
});

test('openChecked() opens what was looked at, whatever has its name by then', async () => {
  const other = join(directory, 'other');
  writeFileSync(other, 'another');
  const file = await openChecked(path, constants.O_RDONLY, () => renameSync(other, path));
  expect(await file.readFile('utf8')).toBe('0123456789');
  await file.close();
});

test('readBootFiles() unpacks no more of an initramfs than the machine has memory for', async () => {
  writeFileSync(path, gzipSync(Buffer.alloc(33 << 20)));
  await expect(readBootFiles({ initrd: path, memoryBytes: 32 << 20 })).rejects.toThrow(
    expect.objectContaining({
      message: expect.stringMatching(/cannot unpack the initramfs: unpacks to more than 33554432 bytes/),
      hint: expect.stringContaining('--memory'),
    }),
  );
});

test('readInputText() reads files and pipes, and a device without an end no further than its bound', async () => {
  const read = (from: string) =>
    readInputText('the configuration', from, { code: 'TSVM_FILE', maxBytes: 10 });
  expect(await read(path)).toBe('0123456789');
  const fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const [text] = await Promise.all([read(fifo), writeFile(fifo, '{}')]);
  expect(text).toBe('{}');
  await expect(read('/dev/zero')).rejects.toThrow(
    'cannot read the configuration /dev/zero: it is longer than 10 B',
  );
  await expect(read(join(directory, 'none'))).rejects.toThrow(/none: no such file/);
});
