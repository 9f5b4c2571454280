import { describe, expect, it } from 'vitest';
import { FILE_KIND_BYTES, fileKind, fileSystemKind } from '../../../src/boot/file-kind.js';
import { makeBzImage, makePe } from './images.js';

/** A file with each of these texts, in Latin-1, at its place. */
function file(parts: Readonly<Record<number, string>>): Uint8Array {
  const bytes = Buffer.alloc(FILE_KIND_BYTES);
  for (const [offset, text] of Object.entries(parts)) bytes.write(text, Number(offset), 'latin1');
  return bytes;
}

describe('fileKind()', () => {
  it.each([
    ['an initramfs', file({ 0: '070701' }), /--initrd/],
    ["an archive of cpio's old format", file({ 0: '\xc7\x71' }), /-H newc/],
    ['a kernel for arm64', file({ 0: 'MZ', 56: 'ARMd' }), /x86-64/],
    ['a kernel for RISC-V', file({ 0: 'MZ', 48: 'RISCV', 56: 'RSC\x05' }), /x86-64/],
    ['a bzImage', makeBzImage(), /--kernel/],
    ['a Debian package', file({ 0: '!<arch>\ndebian-binary' }), /vmlinuz/],
    ['a tar archive', file({ 257: 'ustar' }), /unpack/],
    ['a qcow2 disk image', file({ 0: 'QFI\xfb\0\0\0\x03' }), /qemu-img/],
    ['a VMDK disk image', file({ 0: 'KDMV' }), /qemu-img/],
    ['a VDI disk image', file({ 64: '\x7f\x10\xda\xbe' }), /qemu-img/],
    ['a CD image', file({ 32769: 'CD001' }), /take the kernel/],
    ['a disk image', file({ 510: '\x55\xaa', 512: 'EFI PART' }), /--disk/],
    ['a disk image', file({ 510: '\x55\xaa' }), /--disk/],
    ['a squashfs', file({ 0: 'hsqs' }), /--disk/],
    ['an EFI zboot kernel for arm64', makePe(0xaa64, ['.text'], 'zimg'), /x86-64/],
    ['a unified kernel image for x86-64', makePe(0x8664, ['.text', '.linux']), /objcopy/],
    ['an EFI program for x86-64', makePe(0x8664, ['.text']), /bzImage/],
    ['an EFI program for another processor (0x1234)', makePe(0x1234, []), /bzImage/],
    [
      'the beginning of a bzImage or an EFI program, damaged',
      makePe(0x8664, ['.text']).subarray(0, 70),
      /fetch/,
    ],
    ['the beginning of a bzImage or an EFI program, damaged', Buffer.from('MZ'), /fetch/],
  ] as const)('knows %s', (name, bytes, remedy) => {
    expect(fileKind(bytes)).toEqual({ name, remedy: expect.stringMatching(remedy) });
  });

  it('knows a text, and nothing of what it does not know', () => {
    expect(fileKind(Buffer.from('#!/bin/sh\n'))).toEqual({ name: 'a text' });
    expect(fileKind(Uint8Array.of(1, 2, 3))).toBeUndefined();
    expect(fileKind(new Uint8Array())).toBeUndefined();
  });
});

describe('fileSystemKind()', () => {
  it.each([
    ['a squashfs', { 0: 'hsqs' }],
    ['a romfs', { 0: '-rom1fs-' }],
    ['a cramfs', { 0: '\x45\x3d\xcd\x28' }],
    ['an ext file system', { 1080: '\x53\xef' }],
    [undefined, { 0: '070701' }],
  ])('finds %s', (name, parts) => expect(fileSystemKind(file(parts))).toBe(name));
});
