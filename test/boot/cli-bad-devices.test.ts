/** Refusals of `tsvm boot`: files of devices that it cannot use, as is found when they are opened. */
import { describe } from 'vitest';
import { refusals } from '../support/refusals.js';

const { path, file, powerOff: good, refuses } = refusals();

describe('a disk that', () => {
  const disk = (text: string) => ['--kernel', good, '--memory', '4M', '--disk', text];
  const twice = file('twice', new Uint8Array(1 << 20));
  refuses([['is there twice', [...disk(twice), '--disk', twice], /in use by another machine/, /,ro/]]);
});

describe('a file in memory that', () => {
  const pmem = (text: string) => ['--kernel', good, '--memory', '4M', '--pmem', text];
  refuses([
    [
      'is written to by a disk',
      [...pmem(file('both', new Uint8Array(1 << 20))), '--disk', path('both')],
      /disk .*both is in use|pmem .*both is in use/,
    ],
  ]);
});
