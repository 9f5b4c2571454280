import { expect, test } from 'vitest';
import { checkConfig, type MachineConfig } from '../../../src/machine/config.js';
import { GIB } from '../../../src/util/units.js';

const check = (config: object): MachineConfig =>
  checkConfig({ kernel: 'vmlinux', ...config } as MachineConfig, { totalMemoryBytes: GIB });

test('checkConfig() takes what a caller leaves undefined', () => {
  expect(() => check({ initrd: undefined, cpus: undefined })).not.toThrow();
});

test.each(['kernal', 'constructor', 'toString', '__proto__'])(
  'checkConfig() names a field that there is not: %s',
  (name) => {
    const config = Object.defineProperty({}, name, { value: 1, enumerable: true });
    expect(() => checkConfig(config as MachineConfig, { totalMemoryBytes: GIB })).toThrow(
      expect.objectContaining({
        code: 'TSVM_CONFIG',
        message: `${name}: there is no such field in a machine's configuration`,
      }),
    );
  },
);

test.each([
  ['cpus', '2', 'cpus: it must be a whole number'],
  ['memoryBytes', 1.5, 'memoryBytes: it must be a whole number of bytes'],
  ['console', 'vga', 'console: it must be serial, virtio or none'],
  ['devices', {}, 'devices: it must be a list of device requests'],
  ['command', 'ls', 'command: it must be an object with argv, a list of strings'],
  ['command', { argv: 'ls' }, 'command.argv: it must be a list of strings'],
  ['command', { argv: ['ls'], env: { A: 1 } }, 'command.env: it must be an object of strings'],
  ['kernel', 5, 'kernel: it must be a path'],
])('checkConfig() says what %s must be (%j)', (name, value, message) => {
  expect(() => check({ [name]: value })).toThrow(expect.objectContaining({ code: 'TSVM_CONFIG', message }));
});

test.each([
  [{ memoryBytes: 0 }, /^memoryBytes: 0 .* is too little/],
  [{ memoryBytes: 2 * GIB }, /^memoryBytes: 2 GiB is more than this host has/],
  [{ memoryBytes: 128 * 2 ** 20 + 1 }, /is not a multiple of 4 KiB$/],
  [{ cpus: 0 }, /^cpus: 0 is not from 1 to/],
  [{ cpus: 10_000 }, /^cpus: 10000 is not from 1 to/],
  [{ kernel: undefined }, /^no kernel is given$/],
  [{ devices: new Array(14).fill({ kind: 'rng' }) }, /^devices: more than 13 virtio devices in one machine$/],
  [{ channel: true, devices: new Array(13).fill({ kind: 'rng' }) }, /^devices: more than 13/],
  [{ command: { argv: ['a\0b'] } }, /^command: there is a NUL in "a\\u0000b"$/],
  [{ command: { argv: [], cwd: '/\0' } }, /^command: there is a NUL/],
])('checkConfig() refuses %j', (config, message) => {
  expect(() => check(config)).toThrow(
    expect.objectContaining({ code: 'TSVM_CONFIG', message: expect.stringMatching(message) }),
  );
});
