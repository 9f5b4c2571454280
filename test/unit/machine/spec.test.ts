/** A machine as data: there, back, and refused where it is none. */
import { describe, expect, test } from 'vitest';
import { balloon } from '../../../src/devices/balloon/balloon.js';
import { blk } from '../../../src/devices/blk/blk.js';
import { virtioConsole } from '../../../src/devices/console/console.js';
import { share } from '../../../src/devices/fs/fs.js';
import { MemoryFileSystem } from '../../../src/devices/fs/memory-file-system.js';
import { net } from '../../../src/devices/net/net.js';
import { pmem } from '../../../src/devices/pmem.js';
import { deviceKinds } from '../../../src/devices/registry.js';
import { rng } from '../../../src/devices/rng.js';
import { vsock } from '../../../src/devices/vsock/kind.js';
import type { MachineConfig } from '../../../src/machine/config.js';
import {
  configOf,
  isData,
  loadedSpec,
  parseSpec,
  pathsOf,
  SPEC_SCHEMA,
  specOf,
} from '../../../src/machine/spec.js';
import { MIB } from '../../../src/util/units.js';

const DEVICES = [
  blk({ path: 'root.img', overlay: '/o', id: 'root', bytesPerSecond: 1000 }),
  blk({ path: '/ro', readOnly: true }),
  pmem({ path: '/pmem' }),
  share({ path: '/src', tag: 'src', readOnly: true }),
  share({ path: '/out', tag: 'out' }),
  net({ backend: 'user', forwards: [{ protocol: 'tcp', address: '', port: 80, guestPort: 8080 }] }),
  vsock({ path: '/v.sock', cid: 9 }),
  virtioConsole({ console: false, ports: [{ name: 'log', path: '/log.sock' }, { name: 'free' }] }),
  rng(),
  balloon(),
];

const WHOLE: MachineConfig = {
  kernel: '/vmlinux',
  initrd: 'initrd',
  unpackInitrd: false,
  cmdline: 'quiet',
  namesConsole: false,
  memoryBytes: 64 * MIB,
  cpus: 2,
  devices: DEVICES,
  console: 'virtio',
  command: { argv: ['sh', '-c', 'true'], env: { A: 'b' }, cwd: '/', user: { uid: 1, gid: 2 }, tty: false },
  stopPort: true,
  entry: 'pvh',
  discovery: 'cmdline',
  firmware: 'builtin',
  profile: 'none',
};

const asData = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe('specOf()', () => {
  test('says all that a configuration says, as data that makes the same machine again', () => {
    const spec = specOf(WHOLE);
    // In the same order, too: templates are compared as text.
    expect(JSON.stringify(parseSpec(asData(spec)))).toBe(JSON.stringify(spec));
    const { devices = [], ...rest } = configOf(spec);
    const { devices: _, ...asked } = WHOLE;
    expect(rest).toEqual({ ...asked, channel: false });
    expect(devices.map(({ kind, config }) => ({ kind, config }))).toEqual(
      DEVICES.map(({ kind, config }) => ({ kind, config })),
    );
    for (const { open } of devices) expect(open).toBeTypeOf('function');
  });

  test('has one spelling for what is left out and what is said', () => {
    const said = { memoryBytes: 128 * MIB, cpus: 1, console: 'serial', channel: false, devices: [] } as const;
    expect(specOf({ kernel: '/k', ...said })).toEqual(specOf({ kernel: '/k' }));
    expect(specOf({ kernel: '/k', ...({ initrd: undefined } as object) })).toStrictEqual(
      specOf({ kernel: '/k' }),
    );
    expect(parseSpec({ version: 1, kernel: '/k' })).toStrictEqual(specOf({ kernel: '/k' }));
  });

  test.each([
    [{ channel: true }, 'channel'],
    [{ stopPort: true }, 'stop-port'],
    [{}, 'none'],
  ])('of %j has the way to the guest: %s', (config, guest) => {
    expect(specOf(config).guest).toBe(guest);
  });

  test('refuses what is no data', () => {
    const devices = [share({ fileSystem: new MemoryFileSystem({}), tag: 'x' })];
    expect([isData({ devices }), isData(WHOLE), isData({})]).toEqual([false, true, true]);
    expect(() => specOf({ devices })).toThrow('a machine with a device of kind fs cannot be saved');
    expect(() => specOf({ channel: true, stopPort: true })).toThrow('stopPort: a machine with a channel');
  });
});

describe('parseSpec() refuses', () => {
  test.each<[object | null, RegExp]>([
    [null, /^a machine's spec: it must be an object$/],
    [[], /^a machine's spec: it must be an object$/],
    [{}, /^version: it must be 1$/],
    [{ version: 2 }, /^version: it must be 1$/],
    [{ version: '1' }, /^version: it must be 1$/],
    [{ version: 1, channel: true }, /^channel: there is no such field in a machine's spec$/],
    [JSON.parse('{"version":1,"__proto__":{"cpus":2}}'), /^__proto__: there is no such field/],
    [{ version: 1, kernel: '' }, /^kernel: it must be a path$/],
    [{ version: 1, initrd: 'a\0b' }, /^initrd: it must be a path$/],
    [{ version: 1, kernel: null }, /^kernel: it must be a path$/],
    [{ version: 1, cmdline: 'a\nb' }, /line break/],
    [{ version: 1, cmdline: 'x'.repeat(5000) }, /^cmdline: it must be a string of up to 4095 characters$/],
    [{ version: 1, memoryBytes: 0 }, /^memoryBytes: 0 .* too little/],
    [{ version: 1, memoryBytes: 2 ** 50 }, /^memoryBytes: .* more than a machine can have/],
    [{ version: 1, memoryBytes: -1 }, /^memoryBytes: /],
    [{ version: 1, memoryBytes: '64M' }, /^memoryBytes: it must be a whole number of bytes$/],
    [{ version: 1, cpus: 65 }, /^cpus: 65 is not from 1 to 64$/],
    [{ version: 1, cpus: 1.5 }, /^cpus: it must be a whole number$/],
    [{ version: 1, console: 'vga' }, /^console: it must be serial, virtio or none$/],
    [{ version: 1, guest: 'butler' }, /^guest: it must be channel, agent, stop-port or none$/],
    [{ version: 1, guest: 'channel', command: { argv: [] } }, /^command: a machine with a channel/],
    [{ version: 1, command: { argv: [1] } }, /^command.argv: it must be a list of strings/],
    [{ version: 1, command: { argv: ['a\0b'] } }, /^command: there is a NUL in "a/],
    [{ version: 1, command: { argv: [], env: [] } }, /^command\.env: it must be an object of strings/],
    [{ version: 1, command: { argv: [], cwd: 7 } }, /^command\.cwd: it must be a path$/],
    [{ version: 1, command: { argv: [], more: 1 } }, /^command\.more: there is no such field in command$/],
    [
      { version: 1, command: { argv: [], rows: 70_000 } },
      /^command\.rows: it must be a whole number up to 65535$/,
    ],
    [
      { version: 1, command: { argv: [], user: { uid: -1, gid: 0 } } },
      /^command\.user: it must be an object with uid/,
    ],
    [{ version: 1, entry: 'efi' }, /^entry: it must be/],
    [{ version: 1, profile: '' }, /^profile: it must be a name$/],
    [{ version: 1, devices: {} }, /^devices: it must be a list of up to 13 devices$/],
    [
      { version: 1, devices: new Array(14).fill({ kind: 'rng', config: {} }) },
      /^devices: it must be a list of up to 13/,
    ],
    [
      { version: 1, guest: 'channel', devices: new Array(13).fill({ kind: 'rng', config: {} }) },
      /^devices: more than 13/,
    ],
    [{ version: 1, devices: [{ kind: 'rng' }] }, /^devices\[0\]\.config: it must be an object/],
    [
      { version: 1, devices: [{ kind: 'rng', config: {}, open: 1 }] },
      /^devices\[0\]\.open: there is no such field/,
    ],
    [
      { version: 1, devices: [{ kind: 'warp\n', config: {} }] },
      /^devices\[0\]: there is no device kind 'warp\\n' here$/,
    ],
    [
      { version: 1, devices: [{ kind: 'constructor', config: {} }] },
      /there is no device kind 'constructor' here$/,
    ],
    [
      {
        version: 1,
        devices: [
          { kind: 'rng', config: {} },
          { kind: 'blk', config: { path: 7 } },
        ],
      },
      /^devices\[1\]: blk\.path: it must be a path$/,
    ],
  ])('%j', (change, message) => {
    expect(() => parseSpec(change)).toThrow(
      expect.objectContaining({ message: expect.stringMatching(message) }),
    );
  });
});

test('loadedSpec() keeps nothing of where the guest came from', () => {
  const { version, memoryBytes, cpus, console, guest, firmware, devices } = specOf(WHOLE);
  const kept = { version, memoryBytes, cpus, console, guest, firmware, devices };
  expect(loadedSpec(specOf(WHOLE))).toStrictEqual(kept);
  expect(pathsOf(loadedSpec(specOf({ kernel: '/k', initrd: '/i' })))).toEqual([]);
});

test('pathsOf() lists every path of the host, and what is done there', () => {
  expect(pathsOf(specOf({ ...WHOLE, firmware: '/rom' }))).toEqual([
    { path: '/vmlinux', type: 'file', isWritten: false },
    { path: 'initrd', type: 'file', isWritten: false },
    { path: '/rom', type: 'file', isWritten: false },
    { path: 'root.img', type: 'file', isWritten: false },
    { path: '/o', type: 'file', isWritten: true },
    { path: '/ro', type: 'file', isWritten: false },
    { path: '/pmem', type: 'file', isWritten: false },
    { path: '/src', type: 'folder', isWritten: false },
    { path: '/out', type: 'folder', isWritten: true },
    { path: '/v.sock', type: 'socket', isWritten: true },
    { path: '/log.sock', type: 'socket', isWritten: true },
  ]);
  expect(pathsOf(specOf({ firmware: 'builtin' }))).toEqual([]);
});

test('SPEC_SCHEMA has every field of a spec, and every kind of device', () => {
  const { properties, required, additionalProperties } = SPEC_SCHEMA as {
    properties: Record<string, object>;
    required: string[];
    additionalProperties: boolean;
  };
  expect(Object.keys(properties).sort()).toEqual(Object.keys(specOf({ ...WHOLE })).sort());
  expect([required, additionalProperties]).toEqual([['version'], false]);
  expect(properties['devices']).toMatchObject({
    items: { properties: { kind: { enum: Object.keys(deviceKinds) } } },
  });
});
