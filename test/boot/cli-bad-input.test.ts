/**
 * What `tsvm boot` says to input that will not do: one line of error and one of hint on stderr, nothing on stdout, nothing
 * half-done.
 */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type CliOptions, type CliResult, run, TSVM, tsvm } from '../support/cli.js';
import { inRig, temporaryDirectory } from '../support/guest.js';
import { type ElfLies, tiny, tinyKernel } from '../support/tiny-kernel.js';
import { makeBzImage, makeElf } from '../unit/boot/images.js';

const USAGE = 2;
const HOST_FAILURE = 125;

const directory = temporaryDirectory();
const path = (name: string): string => join(directory, name);
const file = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(path(name), bytes);
  return path(name);
};

const powerOff = tinyKernel(tiny.powerOff());
const good = file('good', powerOff);
const timeline = path('timeline.json');

/** Refused before anything was done: with the status, one line of error that matches, and one of hint. */
function expectRefusal(result: CliResult, status: number, error: RegExp, hint: RegExp | undefined): void {
  const [first = '', second = '', ...rest] = result.stderr.split('\n');
  expect(first).toMatch(error);
  expect(first).toMatch(/^tsvm: /);
  expect(second, result.stderr).toMatch(/^hint: ./);
  if (hint !== undefined) expect(second).toMatch(hint);
  expect(rest).toEqual(['']);
  expect(result.status).toBe(status);
  expect(result.stdout.toString()).toBe('');
  expect(existsSync(timeline)).toBe(false);
}

type Row = readonly [name: string, args: readonly string[], error: RegExp, hint?: RegExp];

/**
 * Several at a time: what a row opens is its own. Not in the rig, where each process takes three seconds: all this is refused
 * before a KVM is looked at.
 */
function refuses(rows: readonly Row[], status = USAGE, options: CliOptions = {}): void {
  test.skipIf(inRig).concurrent.for(rows)('%s', async ([, args, error, hint]) => {
    expectRefusal(await tsvm(['boot', '--timeline', timeline, ...args], options), status, error, hint);
  });
}

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
    ['does not exist', ['--kernel', path('none')], /cannot read kernel .*none: no such file/, /--kernel/],
    ['is a directory', ['--kernel', directory], /it is a directory/],
    ['is a device', ['--kernel', '/dev/zero'], /not a regular file/],
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
  const initrd = (name: string, bytes: Uint8Array | string) => [
    ...['--kernel', good, '--memory', '4M', '--initrd'],
    file(name, bytes),
  ];
  refuses([
    [
      'does not exist',
      ['--kernel', good, '--initrd', path('none')],
      /cannot read initramfs .*: no such file/,
    ],
    ['is empty', initrd('i-empty', ''), /initramfs is empty/],
    ['is a text', initrd('i-text', 'hello'), /not an initramfs/, /cpio -o -H newc/],
    ['is a truncated archive', initrd('i-cut', `070701${'0'.repeat(100)}`), /truncated|damaged/],
    ['is damaged gzip', initrd('i-gz', gzipSync('x').subarray(0, 15)), /cannot unpack/, /--no-unpack-initrd/],
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

describe('a flag or value that', () => {
  const withKernel = ['--kernel', good];
  const value = (flag: string, text: string) => [...withKernel, flag, text];
  refuses([
    ['is unknown', ['--nonsense'], /unknown option '--nonsense'/, /--help/],
    ['is misspelt', ['--kernal', good], /unknown option '--kernal'.*--kernel/],
    ['is missing', ['--kernel'], /argument missing/],
    ['is no size', value('--memory', 'lots'), /--memory: 'lots' is not a size/, /256M/],
    ['is a size with another unit', value('--memory', '1X'), /not a size/],
    ['is a negative size', value('--memory', '-1'), /not a size/],
    ['is no memory', value('--memory', '0'), /memory: 0 B is too little/, /--memory/],
    ['is too little memory', value('--memory', '1M'), /memory: 1 MiB is too little/],
    ['is memory of no whole pages', value('--memory', '10000001'), /multiple of 4 KiB/],
    ['is more memory than the host has', value('--memory', '900T'), /more than this host has/, /--memory/],
    ['is more memory than a number holds', value('--memory', '99999999999T'), /not a size/],
    ['is 0 CPUs', value('--cpus', '0'), /--cpus: '0' is not a whole number from 1 to 64/, /--cpus/],
    ['is 10000 CPUs', value('--cpus', '10000'), /from 1 to 64/],
    ['is half a CPU', value('--cpus', '1.5'), /from 1 to 64/],
    ['is no console', value('--console', 'vga'), /one of serial, virtio, none/],
    ['is no entry', value('--entry', '16bit'), /one of auto, pvh, bzimage/],
    ['is no discovery', value('--discovery', 'pci'), /one of acpi, cmdline/],
    ['is no profile', value('--profile', 'xen'), /no host profile 'xen'/, /auto, pvm, none/],
    ['is no duration', value('--timeout', 'soon'), /not a duration/, /60s/],
    ['is no time at all', value('--timeout', '0'), /not a duration/],
    ['is longer than a timer can wait', value('--timeout', '999h'), /not a duration/],
  ]);

  test('is an unknown command, or none', async () => {
    expectRefusal(await tsvm(['bot']), USAGE, /unknown command 'bot'.*boot/, /--help/);
    const none = await tsvm([]);
    expect(none.status).toBe(USAGE);
    expect(none.stderr + none.stdout.toString()).toContain('Usage: tsvm');
  });
});

describe('ports that', () => {
  const ports = (text: string) => ['--kernel', good, '--memory', '4M', '--ports', text];
  refuses([
    ['have no name', ports('=x'), /the name '' is not/, /--ports log=\/tmp\/log.sock/],
    ['have no socket', ports('log'), /--ports log: it needs the path/, /NAME=SOCKET/],
    ['are the same', ports('a=x,a=y'), /--ports a: it is there twice/, /NAME=SOCKET/],
    [
      'are a file',
      ports(`log=${file('no-port', 'x')}`),
      /port .*no-port: .*it is no socket/,
      /path of its own/,
    ],
    ['are in no folder', ports(`log=${path('none/port')}`), /port .*none\/port: /, /folder/],
  ]);
});

describe('a vsock that', () => {
  const vsock = (text: string) => ['--kernel', good, '--memory', '4M', '--vsock', text];
  refuses([
    ['has no path', vsock(',cid=3'), /--vsock needs a path/, /--vsock \/tmp\/vm.sock,cid=3/],
    [
      'has the host’s CID',
      vsock(`${path('sock')},cid=2`),
      /cid '2' is not a whole number from 3 to/,
      /cid=3/,
    ],
    ['has an unknown option', vsock(`${path('sock')},port=5`), /unknown option 'port=5'/, /PATH\[,cid=N\]/],
    ['is a file', vsock(file('no-socket', 'x')), /it is no socket/, /path of its own/],
    ['is in no folder', vsock(path('none/sock')), /vsock .*none\/sock: /, /folder/],
    ['has too long a path', vsock(`/tmp/${'x'.repeat(100)}`), /too long for a Unix socket/, /shorter/],
  ]);
});

describe('a share that', () => {
  const share = (text: string) => ['--kernel', good, '--memory', '4M', '--share', text];
  refuses([
    ['has no path', share(':tag'), /--share needs a path/, /PATH:TAG/],
    ['has no tag', share('/tmp'), /--share \/tmp: the tag '' is not 1 to 36/, /--share \/tmp:src/],
    ['has an unknown option', share('/tmp:tag,rw'), /unknown option 'rw'/, /PATH:TAG\[,ro\]/],
    ['is not there', share(`${path('none')}:tag`), /share .*none: no such file/, /folder/],
    ['is a file', share(`${good}:tag`), /share .*good: it is not a folder/, /folder/],
  ]);
});

describe('a disk that', () => {
  const disk = (text: string) => ['--kernel', good, '--memory', '4M', '--disk', text];
  const imageOf = (name: string): string => file(`disk-${name}`, new Uint8Array(1 << 20));
  const image = imageOf('unopened');
  const twice = imageOf('twice');
  const shared = imageOf('shared');
  refuses([
    ['does not exist', disk(path('none')), /cannot open disk .*none: no such file/, /check the path/],
    ['is a directory', disk(directory), /cannot open disk .*: it is a directory/],
    ['is a directory, read-only', disk(`${directory},ro`), /is a directory/],
    ['is a character device', disk('/dev/null'), /neither a file nor a block device/],
    ['is shorter than a sector', disk(file('short', 'x')), /shorter than a sector: 1 bytes/, /truncate/],
    ['is empty', disk(file('disk-empty', '')), /shorter than a sector: 0 bytes/],
    ['has no path', disk(',ro'), /--disk needs a path/],
    ['has an unknown option', disk(`${image},rw`), /unknown option 'rw'/, /PATH/],
    ['has no queue', disk(`${image},queues=0`), /queues '0' is not from 1 to 16/, /queues=4/],
    ['has no overlay', disk(`${image},overlay=`), /overlay needs a path/, /overlay=mine/],
    [
      'has a disk for an overlay',
      disk(`${imageOf('covered')},overlay=${imageOf('wrong')}`),
      /is not an overlay/,
      /not there yet/,
    ],
    [
      'has an overlay nowhere',
      disk(`${imageOf('bare')},overlay=/no/such`),
      /cannot make the overlay .*no such/,
      /path/,
    ],
    ['has a rate of nothing', disk(`${image},bps=0`), /bps '0' is not a number/, /bps=10M/],
    ['is there twice', [...disk(twice), '--disk', twice], /in use by another machine/, /,ro/],
    [
      'is the fourteenth',
      Array.from({ length: 14 }, () => disk(`${shared},ro`)).flat(),
      /more than 13 virtio/,
    ],
  ]);

  test('is locked by another machine, until that ends; readers share', async () => {
    const spinning = file('spin', tinyKernel([...tiny.print('up\n'), ...tiny.spin()]));
    const holder = spawn(
      process.execPath,
      [TSVM, 'boot', '--kernel', spinning, '--memory', '4M', '--disk', image],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    onTestFinished(() => void holder.kill('SIGKILL'));
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    const ended = new Promise((resolve) => holder.once('exit', resolve));
    const bytes = readFileSync(image);
    for (const text of [image, `${image},ro`]) {
      expectRefusal(await tsvm(['boot', ...disk(text)]), USAGE, /in use by another machine/, /read-only/);
    }
    expect(readFileSync(image)).toEqual(bytes);
    holder.kill('SIGTERM');
    await ended;
    expect(await tsvm(['boot', ...disk(image)])).toMatchObject({ status: 0, stderr: '' });
    const readers = [tsvm(['boot', ...disk(`${image},ro`)]), tsvm(['boot', ...disk(`${image},ro`)])];
    expect(await Promise.all(readers)).toMatchObject([{ status: 0 }, { status: 0 }]);
  });
});

describe('a file in memory that', () => {
  const pmem = (text: string) => ['--kernel', good, '--memory', '4M', '--pmem', text];
  refuses([
    ['does not exist', pmem(path('none')), /cannot open pmem .*none: no such file/, /check the path/],
    ['is a directory', pmem(directory), /pmem .* is not a regular file/, /--disk/],
    ['is a device', pmem('/dev/null'), /not a regular file/],
    ['is empty', pmem(file('pmem-empty', '')), /pmem .* is empty/, /ext4/],
    ['has no path', pmem(''), /--pmem needs a path/, /--pmem root\.ext4/],
    [
      'is written to by a disk',
      [...pmem(file('both', new Uint8Array(1 << 20))), '--disk', path('both')],
      /disk .*both is in use|pmem .*both is in use/,
    ],
  ]);
});

describe('a firmware that', () => {
  const firmware = (text: string) => ['--memory', '4M', '--firmware', text];
  const huge = path('huge');
  writeFileSync(huge, '');
  truncateSync(huge, 32 << 20);
  refuses([
    ['does not exist', firmware(path('none')), /cannot read firmware .*: no such file/],
    ['is too short', firmware(file('rom', new Uint8Array(4096))), /firmware has 4096 bytes/, /seabios/],
    ['is no whole page', firmware(file('rom2', new Uint8Array(70_000))), /firmware has 70000 bytes/],
    ['is too long', firmware(huge), /too large/],
  ]);
});

describe('a guest that', () => {
  test('was not built is named, with how to build it', async () => {
    const result = await tsvm(['boot', '--', 'true'], { env: { TSVM_GUEST_DIR: path('no-guests') } });
    expectRefusal(result, USAGE, /guest 'default' has not been built/, /tsvm guest build/);
  });
});

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)(`a host that${isRoot ? '' : ': SKIPPED, only root can make one'}`, () => {
  // The command sees a /dev of its own; what the script before it does is undone with its mount namespace.
  const bare = 'mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9';
  const boot = ['--kernel', good, '--memory', '4M'];
  const onHost = (script: string, args: readonly string[] = boot, env: Record<string, string> = {}) =>
    run(
      'unshare',
      ['-m', 'bash', '-c', `${script} && exec "$@"`, 'bash', process.execPath, TSVM, 'boot', ...args],
      { env },
    );

  test('has no /dev/kvm', async () => {
    const result = await onHost(bare);
    expectRefusal(
      result,
      HOST_FAILURE,
      /cannot open \/dev\/kvm: there is no such device/,
      /kvm_intel or kvm_amd/,
    );
  });

  test('has a /dev/kvm with nothing behind it', async () => {
    const result = await onHost(`${bare} && mknod /dev/kvm c 10 199`);
    expectRefusal(result, HOST_FAILURE, /cannot open \/dev\/kvm: no KVM behind it/, /kvm_intel or kvm_amd/);
  });

  test('has something else at /dev/kvm', async () => {
    const result = await onHost(`${bare} && mknod /dev/kvm c 1 3`);
    expectRefusal(result, HOST_FAILURE, /\/dev\/kvm is not a KVM/, /kvm/);
  });

  test('does not let this user open /dev/kvm', async () => {
    chmodSync(directory, 0o755);
    const script = `${bare} && mknod -m 600 /dev/kvm c 10 232 && set -- setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`;
    const result = await onHost(script);
    expectRefusal(result, HOST_FAILURE, /cannot open \/dev\/kvm: permission denied/, /group/);
  });

  test('has no addon', async () => {
    const addon = join(TSVM, '../../../kvm-addon/build/Release/kvm_addon.node');
    const result = await onHost(`mount --bind /dev/null ${addon}`);
    expectRefusal(
      result,
      HOST_FAILURE,
      /kvm_addon\.node cannot be loaded/,
      /cmake-js@8 compile -d kvm-addon/,
    );
  });

  test('has no xz, for a kernel that needs it', async () => {
    const empty = path('no-programs');
    mkdirSync(empty);
    const payload = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0, 0, 1, 0, 0);
    const args = kernel('bz-xz', makeBzImage({ payload }));
    const result = await tsvm(['boot', ...args], { env: { PATH: empty } });
    expectRefusal(result, HOST_FAILURE, /the program 'xz' is needed/, /apt-get install xz-utils/);
  });

  test('gives this process less memory than the machine shall have', async () => {
    // cgroup v2, else the memory controller of v1.
    const group = `tsvm-test-${process.pid}`;
    onTestFinished(
      async () => void (await run('bash', ['-c', `rmdir /sys/fs/cgroup/{,memory/}${group} 2>/dev/null`])),
    );
    const script = `
      root=/sys/fs/cgroup
      if [ -e $root/cgroup.controllers ]; then limit=memory.max; else root=$root/memory limit=memory.limit_in_bytes; fi
      group=$root/${group}
      mkdir $group && echo $((512 << 20)) > $group/$limit && echo $$ > $group/cgroup.procs`;
    const result = await onHost(script, ['--kernel', good, '--memory', '1G', '--timeline', timeline]);
    expectRefusal(result, USAGE, /memory: 1 GiB is more than .* \(512 MiB\)/, /--memory/);
  });
});
