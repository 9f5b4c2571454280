/** What `tsvm boot` says to files and sockets of devices that it cannot use: refused as the machine is assembled. */
import { describe } from 'vitest';
import { refusals } from '../support/refusals.js';

const { directory, path, file, powerOff: good, refuses } = refusals();

describe('ports that', () => {
  const ports = (text: string) => ['--kernel', good, '--memory', '4M', '--ports', text];
  refuses([
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
    ['is a file', vsock(file('no-socket', 'x')), /it is no socket/, /path of its own/],
    ['is in no folder', vsock(path('none/sock')), /vsock .*none\/sock: /, /folder/],
    ['has too long a path', vsock(`/tmp/${'x'.repeat(100)}`), /too long for a Unix socket/, /shorter/],
  ]);
});

describe('a share that', () => {
  const share = (text: string) => ['--kernel', good, '--memory', '4M', '--share', text];
  refuses([
    ['is not there', share(`${path('none')}:tag`), /share .*none: no such file/, /folder/],
    ['is a file', share(`${good}:tag`), /share .*power-off: it is not a folder/, /folder/],
  ]);
});

describe('a disk that', () => {
  const disk = (text: string) => ['--kernel', good, '--memory', '4M', '--disk', text];
  const imageOf = (name: string): string => file(`disk-${name}`, new Uint8Array(1 << 20));
  const twice = imageOf('twice');
  const shared = imageOf('shared');
  refuses([
    ['does not exist', disk(path('none')), /cannot open disk .*none: no such file/, /check the path/],
    ['is a directory', disk(directory), /cannot open disk .*: it is a directory/],
    ['is a directory, read-only', disk(`${directory},ro`), /is a directory/],
    ['is a character device', disk('/dev/null'), /neither a file nor a block device/],
    ['is shorter than a sector', disk(file('short', 'x')), /shorter than a sector: 1 bytes/, /truncate/],
    ['is empty', disk(file('disk-empty', '')), /shorter than a sector: 0 bytes/],
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
    ['is there twice', [...disk(twice), '--disk', twice], /in use by another machine/, /,ro/],
    [
      'is the fourteenth',
      Array.from({ length: 14 }, () => disk(`${shared},ro`)).flat(),
      /more than 13 virtio/,
    ],
  ]);
});

describe('a file in memory that', () => {
  const pmem = (text: string) => ['--kernel', good, '--memory', '4M', '--pmem', text];
  refuses([
    ['does not exist', pmem(path('none')), /cannot open pmem .*none: no such file/, /check the path/],
    ['is a directory', pmem(directory), /pmem .* is not a regular file/, /--disk/],
    ['is a device', pmem('/dev/null'), /not a regular file/],
    ['is empty', pmem(file('pmem-empty', '')), /pmem .* is empty/, /ext4/],
    [
      'is written to by a disk',
      [...pmem(file('both', new Uint8Array(1 << 20))), '--disk', path('both')],
      /disk .*both is in use|pmem .*both is in use/,
    ],
  ]);
});
