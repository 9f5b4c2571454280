/** Refusals of `tsvm boot`: a kernel, an initramfs or a command line that will not do, as is found when it is loaded into a machine. */
import { mkdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { describe, onTestFinished, test, vi } from 'vitest';
import { tsvmHere } from '../support/cli-here.js';
import { HOST_FAILURE, refusals } from '../support/refusals.js';
import { type ElfLies, tiny, tinyKernel } from '../support/tiny-kernel.js';
import { makeBzImage, makeElf } from '../unit/boot/images.js';

const { path, file, powerOff: good, initrd, expectRefusal, refuses } = refusals();
const powerOff = readFileSync(good);

const kernel = (name: string, bytes: Uint8Array | string): string[] => ['--kernel', file(name, bytes)];
const lyingElf = (name: string, lies: ElfLies): string[] => [
  ...kernel(name, tinyKernel(tiny.powerOff(), lies)),
  '--memory',
  '4M',
];
const bzImage = (name: string, patch: (view: DataView) => void): string[] =>
  kernel(name, makeBzImage({ patch }));

describe('a kernel that', () => {
  const truncatedBzImage = makeBzImage();
  refuses([
    ['is empty', kernel('empty', ''), /the kernel file is empty/],
    [
      'is a text',
      kernel('text', '#!/bin/sh\n'.repeat(200)),
      /neither an ELF vmlinux nor a bzImage/,
      /bzImage/,
    ],
    ['is a truncated ELF file', kernel('elf-cut', powerOff.subarray(0, 100)), /ELF kernel is truncated/],
    ['is an ELF file without its code', kernel('elf-cut2', powerOff.subarray(0, 121)), /is truncated/],
    ['is for another processor', lyingElf('elf-arm', { machine: 183 }), /is not for x86-64/],
    ['has less memory than bytes', lyingElf('elf-m', { memoryBytes: 1 }), /bytes for 1 bytes of memory/],
    [
      'claims more bytes than there are',
      lyingElf('elf-f', { fileBytes: 2 ** 40, memoryBytes: 2 ** 41 }),
      /trunc/,
    ],
    [
      'has its entry nowhere',
      lyingElf('elf-e', { entry: 0x20_0000 }),
      /its entry 0x200000 lies in no segment/,
    ],
    ['wants to be below 1 MiB', lyingElf('elf-l', { loadAddr: 0x1000 }), /below 1 MiB/],
    ['does not fit', lyingElf('elf-h', { loadAddr: 0x40_0000 }), /does not fit.*has 4 MiB/, /--memory/],
    ['lies in the device hole', lyingElf('elf-d', { loadAddr: 0xd000_0000 }), /does not fit/],
    [
      'needs more memory than there is',
      lyingElf('elf-b', { memoryBytes: 2 ** 30 }),
      /does not fit/,
      /--memory/,
    ],
    ['is an object file', kernel('elf-o', makeElf({ type: 1 })), /not an executable/],
    ['has overlapping segments', kernel('elf-ov', overlapping()), /segments overlap/],
    ['has 65535 segments', kernel('elf-n', makeElf({ phnum: 65_535 })), /claims 65535 program headers/],
    ['is a bzImage cut in its header', kernel('bz-1', truncatedBzImage.subarray(0, 0x250)), /truncated/],
    ['is a bzImage cut in its payload', kernel('bz-2', truncatedBzImage.subarray(0, -8)), /payload/],
    [
      'is a bzImage that lies about its payload',
      bzImage('bz-3', (v) => v.setUint32(0x24c, 2 ** 31, true)),
      /names/,
    ],
    [
      'is a bzImage of Linux 2.6',
      bzImage('bz-4', (v) => v.setUint16(0x206, 0x0209, true)),
      /2\.9/,
      /Linux 3\.8/,
    ],
    [
      'is a bzImage without a payload',
      bzImage('bz-5', (v) => v.setUint32(0x24c, 0, true)),
      /no payload/,
      /bzimage/,
    ],
    [
      'is a bzImage whose payload is damaged',
      bzImage('bz-6', (v) => v.setUint32(0x400 + 0x300 + 12, 0x1234_5678, true)),
      /cannot unpack/,
    ],
    ['is a decompression bomb', kernel('bomb', bomb()), /kernel does not fit|cannot unpack/],
    ['is a bomb that lies about its size', kernel('bomb2', bomb(4096)), /cannot unpack/],
    [
      'is an ELF file, for --entry bzimage',
      ['--kernel', good, '--entry', 'bzimage'],
      /no bzImage entry/,
      /--entry/,
    ],
    ['has no PVH entry, for --entry pvh', ['--kernel', good, '--entry', 'pvh'], /no PVH entry/, /CONFIG_PVH/],
    [
      'is to be started by a firmware that cannot',
      [...kernel('pvh', withPvhEntry()), '--entry', 'pvh', '--firmware', 'builtin'],
      /64-bit entry only/,
      /--firmware/,
    ],
  ]);

  function overlapping(): Uint8Array {
    const data = new Uint8Array(64);
    return makeElf({
      segments: [
        { paddr: 0x10_0000n, data },
        { paddr: 0x10_0020n, data },
      ],
    });
  }

  function withPvhEntry(): Uint8Array {
    const note = new Uint8Array(20);
    const view = new DataView(note.buffer);
    [4, 4, 18].forEach((value, i) => {
      view.setUint32(i * 4, value, true);
    });
    note.set([0x58, 0x65, 0x6e, 0], 12);
    view.setUint32(16, 0x10_0000, true);
    return makeElf({
      segments: [
        { paddr: 0x10_0000n, data: new Uint8Array(64) },
        { type: 4, data: note },
      ],
    });
  }

  /** 256 MiB of zeroes in a bzImage, which may claim to be shorter. */
  function bomb(claimedBytes?: number): Uint8Array {
    const payload = gzipSync(new Uint8Array(256 << 20), { level: 9 });
    if (claimedBytes !== undefined) payload.writeUInt32LE(claimedBytes, payload.length - 4);
    return makeBzImage({ payload });
  }
});

describe('an initramfs that', () => {
  refuses([
    [
      'does not fit',
      [...initrd('i-big', new Uint8Array(5 << 20)), '--no-unpack-initrd'],
      /does not fit: 5242880 bytes/,
      /--memory/,
    ],
  ]);
});

describe('a command line that', () => {
  const withKernel = ['--kernel', good, '--memory', '4M'];
  refuses([
    [
      'is too long',
      [...withKernel, '--append', 'x'.repeat(3000)],
      /has 3\d\d\d bytes, this kernel takes 2047/,
    ],
    ['is longer than any kernel takes', [...withKernel, '--cmdline', 'x'.repeat(100_000)], /takes 2047/],
    ['has a line break', [...withKernel, '--append', 'a\nb'], /line break or a NUL/],
  ]);
});

test('a host without xz, for a kernel that needs it', async () => {
  const empty = path('no-programs');
  mkdirSync(empty);
  const payload = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0, 0, 1, 0, 0);
  const args = kernel('bz-xz', makeBzImage({ payload }));
  vi.stubEnv('PATH', empty);
  onTestFinished(() => void vi.unstubAllEnvs());
  expectRefusal(
    await tsvmHere(['boot', ...args]),
    HOST_FAILURE,
    /the program 'xz' is needed/,
    /apt-get install xz-utils/,
  );
});
