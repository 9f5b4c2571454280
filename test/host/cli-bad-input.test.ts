/** Refusals of `tsvm boot` before it looks for a KVM: flags, values, and files that it reads first. */
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { writeCpio } from '../../src/boot/cpio.js';
import { S_IFREG } from '../../src/util/file-mode.js';
import { tsvm } from '../support/cli.js';
import { type Refusal, refusals, USAGE } from '../support/refusals.js';
import { makeBzImage, makeElf, makePe } from '../unit/boot/images.js';

const { directory, path, file, powerOff: good, initrd, expectRefusal, refuses } = refusals();
const fifo = path('fifo');
execFileSync('mkfifo', [fifo]);

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
    [
      'is more memory than a machine can have',
      value('--memory', '900T'),
      /more than a machine can have/,
      /--memory/,
    ],
    ['is more memory than a number holds', value('--memory', '99999999999T'), /not a size/],
    ['is 0 CPUs', value('--cpus', '0'), /--cpus: '0' is not a whole number from 1 to 64/, /--cpus/],
    ['is 10000 CPUs', value('--cpus', '10000'), /from 1 to 64/],
    ['is half a CPU', value('--cpus', '1.5'), /from 1 to 64/],
    ['is no console', value('--console', 'vga'), /one of serial, virtio, none/],
    ['is no entry', value('--entry', '16bit'), /one of auto, pvh, bzimage/],
    ['is no discovery', value('--discovery', 'pci'), /one of acpi, cmdline/],
    [
      'is a guest beside a kernel',
      value('--guest', 'debian'),
      /--guest.* cannot be used with option '--kernel/,
    ],
    [
      'is a guest that nobody built',
      ['--guest', 'none'],
      /guest 'none' has not been built/,
      /tsvm guest list/,
    ],
    ['is no profile', value('--profile', 'xen'), /no host profile 'xen'/, /auto, pvm, none/],
    ['is no duration', value('--timeout', 'soon'), /not a duration/, /60s/],
    ['is no time at all', value('--timeout', '0'), /not a duration/],
    ['is longer than a timer can wait', value('--timeout', '999h'), /not a duration/],
    ['is memory without a unit', value('--memory', '256'), /--memory: '256' has no unit/, /--memory 256M/],
    ['is two numbers', value('--cpus', '2 3'), /--cpus: '2 3' is not a whole number/],
    [
      'is another value for the same flag',
      ['--name', 'a', '--name', 'b'],
      /--name: it is given twice/,
      /once/,
    ],
    ['is a line break', value('--append', 'a\nb'), /command line contains a line break/, /spaces/],
    ['is no network', value('--net', 'bridge'), /--net: there is no network 'bridge'/, /--net user/],
    ['is an empty command', [...withKernel, '--', ''], /there is no command: its first word is empty/, /--/],
    ['is a folder to save in that is a file', value('--save', good), /folder of a snapshot.*no directory/],
  ]);

  test('is an unknown command, or none', async () => {
    expectRefusal(await tsvm(['bot']), USAGE, /unknown command 'bot'.*boot/, /--help/);
    const none = await tsvm([]);
    expect(none.status).toBe(USAGE);
    expect(none.stderr + none.stdout.toString()).toContain('Usage: tsvm');
  });
});

describe('a kernel that', () => {
  refuses([
    ['does not exist', ['--kernel', path('none')], /cannot read kernel .*none: no such file/, /--kernel/],
    ['is a directory', ['--kernel', directory], /it is a directory/],
    ['is a device', ['--kernel', '/dev/zero'], /not a regular file/],
    ['is a FIFO', ['--kernel', fifo], /not a regular file/],
    ['is empty', ['--kernel', file('k-empty', '')], /kernel .*k-empty: the kernel file is empty/],
    [
      'is a text',
      ['--kernel', file('k-text', 'hello')],
      /kernel .*k-text: .*nor a bzImage, but a text/,
      /vmlinuz/,
    ],
    ['is an initramfs', ['--kernel', file('k-cpio', '070701')], /but an initramfs/, /--initrd/],
    ['is an EFI program', ['--kernel', file('k-uki', makePe(0x8664, ['.linux']))], /unified/, /objcopy/],
    ['is a module', ['--kernel', file('k-ko', makeElf({ type: 1 }))], /a module/, /vmlinux/],
    ['is for arm64', ['--kernel', file('k-arm', makeElf({ machine: 183 }))], /for arm64/, /x86_64/],
  ]);
});

describe('an initramfs that', () => {
  refuses([
    [
      'does not exist',
      ['--kernel', good, '--initrd', path('none')],
      /cannot read initramfs .*: no such file/,
    ],
    [
      'is a directory',
      ['--kernel', good, '--initrd', directory],
      /cannot read initramfs .*: it is a directory/,
    ],
    ['is a device', ['--kernel', good, '--initrd', '/dev/zero'], /not a regular file/],
    ['is a FIFO', ['--kernel', good, '--initrd', fifo], /not a regular file/],
    ['is a kernel', initrd('i-kernel', makeBzImage()), /but a bzImage/, /--kernel/],
    [
      'unpacks to more than the memory',
      initrd('i-bomb', gzipSync(new Uint8Array(8 << 20))),
      /unpacks to more than 4194304 bytes/,
      /--memory/,
    ],
    ['is empty', initrd('i-empty', ''), /initramfs is empty/],
    ['is a text', initrd('i-text', 'hello'), /not an initramfs/, /cpio -o -H newc/],
    ['is a truncated archive', initrd('i-cut', `070701${'0'.repeat(100)}`), /truncated|damaged/],
    ['is damaged gzip', initrd('i-gz', gzipSync('x').subarray(0, 15)), /cannot unpack/, /--no-unpack-initrd/],
  ]);
});

test('an initramfs of which a part is left out is worth a line', async () => {
  const archive = writeCpio([{ path: 'a', mode: S_IFREG | 0o644, data: Buffer.from('a') }]);
  const args = initrd('i-rubbish', Buffer.concat([archive, Buffer.from('rubbish')]));
  const { stderr } = await tsvm(['boot', ...args]);
  const said = `tsvm: the initramfs has unknown data at byte ${archive.length}: Linux stops there, and they are left out`;
  expect(stderr.split('\n')).toContain(said);
  expect(stderr).not.toMatch(/\(node:/);
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
    ['is in no folder', vsock(path('none/sock')), /vsock .*none\/sock: no such folder/, /folder/],
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
    ['is a file', share(`${good}:tag`), /share .*power-off: it is not a folder/, /folder/],
  ]);
});

/** Beginnings of images in formats that are not raw. */
const FOREIGN = Object.entries({
  qcow2: 'QFI\xfb\0\0\0\x03',
  qcow: 'QFI\xfb\0\0\0\x01',
  VMDK: 'KDMV',
  VHDX: 'vhdxfile',
  VHD: 'conectix',
  VDI: `${'<<< Oracle VM VirtualBox Disk Image >>>\n'.padEnd(0x40, '\0')}\x7f\x10\xda\xbe`,
}).map(([name, magic]) => [name, Buffer.from(magic.padEnd(1024, '\0'), 'latin1')] as const);

describe('a disk that', () => {
  const disk = (text: string) => ['--kernel', good, '--memory', '4M', '--disk', text];
  const image = file('disk', new Uint8Array(1 << 20));
  refuses([
    ['has no path', disk(',ro'), /--disk needs a path/],
    ['has an unknown option', disk(`${image},rw`), /unknown option 'rw'/, /PATH/],
    ['has no queue', disk(`${image},queues=0`), /queues '0' is not from 1 to 16/, /queues=4/],
    ['has no overlay', disk(`${image},overlay=`), /overlay needs a path/, /overlay=mine/],
    ['has a rate of nothing', disk(`${image},bps=0`), /bps '0' is not a number/, /bps=10M/],
    ['does not exist', disk(path('none')), /cannot open disk .*none: no such file/, /check the path/],
    ['is a directory', disk(directory), /cannot open disk .*: it is a directory/],
    ['is a directory, read-only', disk(`${directory},ro`), /is a directory/],
    ['is a character device', disk('/dev/null'), /neither a file nor a block device/],
    ['is shorter than a sector', disk(file('short', 'x')), /shorter than a sector: 1 bytes/, /truncate/],
    ['is empty', disk(file('disk-empty', '')), /shorter than a sector: 0 bytes/],
    [
      'has a disk for an overlay',
      disk(`${image},overlay=${file('wrong', new Uint8Array(1 << 20))}`),
      /is not an overlay/,
      /not there yet/,
    ],
    [
      'has an overlay nowhere',
      disk(`${image},overlay=/no/such`),
      /cannot make the overlay .*no such/,
      /path/,
    ],
    [
      'is the fourteenth',
      Array.from({ length: 14 }, () => disk(`${image},ro`)).flat(),
      /more than 13 virtio/,
    ],
    ...FOREIGN.map(
      ([name, bytes]): Refusal => [
        `is a ${name} image`,
        disk(file(`foreign.${name}`, bytes)),
        new RegExp(`disk .*foreign\\.${name} is a ${name} image, not a raw one`),
        new RegExp(`qemu-img convert -f \\w+ -O raw .*foreign\\.${name} .*foreign\\.raw`),
      ],
    ),
    ['is a qcow2 image, only read', disk(`${path('foreign.qcow2')},ro`), /is a qcow2 image/],
  ]);
});

describe('a file in memory that', () => {
  const pmem = (text: string) => ['--kernel', good, '--memory', '4M', '--pmem', text];
  refuses([
    ['has no path', pmem(''), /--pmem needs a path/, /--pmem root\.ext4/],
    ['does not exist', pmem(path('none')), /cannot open pmem .*none: no such file/, /check the path/],
    ['is a directory', pmem(directory), /pmem .* is not a regular file/, /--disk/],
    ['is a device', pmem('/dev/null'), /not a regular file/],
    ['is empty', pmem(file('pmem-empty', '')), /pmem .* is empty/, /ext4/],
    [
      'is a qcow2 image',
      pmem(path('foreign.qcow2')),
      /pmem .*foreign\.qcow2 is a qcow2 image/,
      /qemu-img convert/,
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
    const env = { TSVM_GUEST_DIR: path('no-guests') };
    const result = await tsvm(['run', '--isolation', 'container', '--', 'true'], { env });
    expectRefusal(result, USAGE, /guest 'default' has not been built/, /tsvm guest build/);
  });
});
