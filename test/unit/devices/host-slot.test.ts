/** Wishes of saved configurations, kind by kind: none of them reaches the host unless the operator names it. */
import { describe, expect, test } from 'vitest';
import { MemoryFileSystem } from '../../../src/devices/fuse/memory-file-system.js';
import type { Host, PortHost } from '../../../src/devices/host.js';
import type { Binding, HostUse } from '../../../src/devices/host-slot.js';
import { deviceKinds } from '../../../src/devices/registry.js';
import { TsvmError } from '../../../src/errors.js';
import { shellQuote } from '../../../src/util/shell-quote.js';
import { bareHost } from '../../support/bare-host.js';
import { MemoryDisk } from '../../support/memory-disk.js';
import { TestCable } from '../../support/test-cable.js';

interface Sample {
  /** Every field that a configuration can have, as somebody hostile would have it. */
  readonly hostile: readonly object[];
  /** Bindings that the operator names, by slots. */
  readonly bindings: Readonly<Record<string, Binding>>;
  /** Calls that may open something then; there are no others. */
  readonly opens: readonly unknown[][];
}

const FORWARD = { protocol: 'tcp', address: '', port: 22, guestPort: 22 };

/** A kind that is missing here fails the tests. */
const SAMPLES: Readonly<Record<string, Sample>> = {
  blk: {
    hostile: [
      {
        path: '/evil/shadow',
        overlay: '/evil/bashrc',
        readOnly: false,
        direct: true,
        id: 'x',
        queues: 2,
        bytesPerSecond: 1 << 30,
      },
    ],
    bindings: { 'disk 1': { path: '/good/disk', overlay: '/good/overlay' } },
    opens: [['disk', '/good/disk', { readOnly: false, overlay: '/good/overlay' }]],
  },
  pmem: {
    hostile: [{ path: '/evil/shadow' }],
    bindings: { 'pmem 1': { path: '/good/image' } },
    opens: [['pmem', '/good/image']],
  },
  fs: {
    hostile: [{ path: '/', tag: 'x', readOnly: false, xattr: true }],
    bindings: { 'share x': { path: '/good/folder', readOnly: true } },
    opens: [['share', '/good/folder', { xattr: false }]],
  },
  net: {
    hostile: [{ backend: 'user', loopback: true, forwards: [FORWARD], mtu: 1400, mac: '02:00:00:00:00:01' }],
    bindings: { 'net 1': { backend: 'user' } },
    opens: [['net', { kind: 'user', mtu: 1400, forwards: [], loopback: false }]],
  },
  vsock: {
    hostile: [{ path: '/evil/v.sock', cid: 9 }],
    bindings: { vsock: { path: '/good/v.sock' } },
    opens: [['vsock', '/good/v.sock']],
  },
  console: {
    hostile: [
      {
        console: false,
        ports: ['stop', { name: 'a', path: '/evil/a.sock' }, { name: 'b', path: '/evil/b.sock' }],
      },
    ],
    bindings: { 'port a': { path: '/good/a.sock' }, 'port b': { path: '/good/b.sock' } },
    opens: [
      ['port', 'a', '/good/a.sock'],
      ['port', 'b', '/good/b.sock'],
    ],
  },
  rng: { hostile: [{}], bindings: {}, opens: [] },
  balloon: { hostile: [{}], bindings: {}, opens: [] },
};

const IDLE_PORT: PortHost = { onOutput: () => true, onDrain: () => {}, onOpen: () => {}, connect: () => {} };

/** A host that keeps what it is asked to open. */
function recordingHost(): { host: Host; opened: unknown[][] } {
  const opened: unknown[][] = [];
  const open = <Backend>(backend: Backend, ...how: unknown[]): Backend => {
    opened.push(how);
    return backend;
  };
  const host = bareHost({
    fillRandom: (target) => target.fill(0x5a),
    openDisk: async (...how) => open(new MemoryDisk(), 'disk', ...how),
    openPmem: async (path) => open({ addr: 2 ** 32, sizeBytes: 4096, close: async () => {} }, 'pmem', path),
    openShare: async (...how) => open(new MemoryFileSystem({}), 'share', ...how),
    openNet: async (place) => open(new TestCable(), 'net', place),
    openVsock: async (path) =>
      open({ attach: () => {}, onRequest: () => undefined, close: async () => {} }, 'vsock', path),
    openPort: () => IDLE_PORT,
    openPortSocket: async (name, path) => open(IDLE_PORT, 'port', name, path),
    openBalloon: () => ({ attach: () => {}, release: async () => {} }),
    openConsole: () => ({ onOutput: () => {}, onDrain: () => {}, connect: () => {} }),
  });
  return { host, opened };
}

describe.each(Object.entries(deviceKinds))('DeviceKind.hostUse of %s', (kind, row) => {
  const sample = SAMPLES[kind];
  const use = row.hostUse;

  test('names a slot for all that a hostile configuration would open, and opens what is bound instead', async () => {
    if (sample === undefined) throw new Error(`no sample of device kind '${kind}'`);
    for (const hostile of sample.hostile) {
      const slots = use?.slots(hostile, 1) ?? [];
      expect(slots.map(({ name }) => name).sort()).toEqual(Object.keys(sample.bindings).sort());
      let config: unknown = hostile;
      for (const { name } of slots) config = use?.bind(config, name, sample.bindings[name]);
      const { host, opened } = recordingHost();
      await row.fromConfig(config).open(host);
      expect(opened).toEqual(sample.opens);
      expect(JSON.stringify(config)).not.toContain('evil');
    }
  });

  test('says what it wishes for in words and in an option, which is read back as the same', () => {
    if (use === undefined) return;
    for (const hostile of sample?.hostile ?? []) {
      for (const slot of use.slots(hostile, 1)) {
        const wish = slot.wish ?? {};
        expect(use.describe(wish, shellQuote)).toMatch(/^\S.*\S$/);
        const text = use.toCli(slot, wish) ?? '';
        const [again] = use.fromCli(text);
        expect(again?.slot).toBe(slot.name);
        // What grants the wish makes the saved configuration again.
        expect(use.bind(hostile, slot.name, again?.binding)).toEqual(use.bind(hostile, slot.name, wish));
        for (const field of use.pathFields) expect(['string', 'undefined']).toContain(typeof wish[field]);
      }
    }
  });

  test('refuses a binding that is none', () => {
    if (use === undefined) return;
    for (const hostile of sample?.hostile ?? []) {
      for (const { name } of use.slots(hostile, 0)) {
        for (const binding of [null, 7, [], {}, { path: 7 }, { path: '/x', more: 1 }, { path: 'a\0b' }]) {
          expect(() => use.bind(hostile, name, binding), JSON.stringify(binding)).toThrow(TsvmError);
        }
      }
    }
  });
});

const useOf = (kind: string): HostUse => {
  const use = deviceKinds[kind]?.hostUse;
  if (use === undefined) throw new Error(`${kind} uses nothing of the host`);
  return use;
};

describe('a binding grants no more than both sides say', () => {
  test.each([
    [{ readOnly: true, xattr: false }, {}, { readOnly: true, xattr: false }],
    [{ readOnly: false, xattr: true }, {}, { readOnly: false, xattr: false }],
    [{ readOnly: false, xattr: true }, { xattr: true }, { readOnly: false, xattr: true }],
    [
      { readOnly: false, xattr: false },
      { readOnly: true, xattr: true },
      { readOnly: true, xattr: false },
    ],
    [{}, {}, { readOnly: false, xattr: false }],
  ])('share %j bound with %j', (saved, given, rights) => {
    const bound = useOf('fs').bind({ path: '/', tag: 'x', ...saved }, 'share x', { path: '/y', ...given });
    expect(bound).toEqual({ path: '/y', tag: 'x', ...rights });
  });

  test.each([
    [
      'disk 0',
      'blk',
      { path: '/x' },
      { path: '/y', readOnly: true },
      'its readOnly is what the guest knows it by',
    ],
    ['disk 0', 'blk', { path: '/x', id: 'a' }, { path: '/y', id: 'b' }, 'its id is what'],
    ['disk 0', 'blk', { path: '/x', overlay: '/o' }, { path: '/y' }, 'has an overlay'],
    ['disk 0', 'blk', { path: '/x' }, { path: '/y', overlay: '/o' }, 'has no overlay'],
    ['net 0', 'net', { backend: 'user' }, { backend: 'tap', name: 'tap0' }, 'was saved with user'],
    ['net 0', 'net', { backend: 'user' }, { backend: 'user', mtu: 1500 }, 'its mtu is what'],
    ['share x', 'fs', { path: '/', tag: 'x' }, { path: '/', tag: 'y' }, 'its tag is what'],
    ['vsock', 'vsock', { path: '/v' }, { path: '/w', cid: 7 }, 'its cid is what'],
    ['vsock', 'vsock', { path: '/v' }, { cid: 3 }, 'it needs a path'],
  ])('%s: %s %j is not bound with %j', (slot, kind, saved, given, why) => {
    expect(() => useOf(kind).bind(saved, slot, given)).toThrow(
      expect.objectContaining({ code: 'TSVM_CONFIG', message: expect.stringContaining(why) }),
    );
  });

  test('what a disk was saved as read-only stays so', () => {
    const bound = useOf('blk').bind({ path: '/x', readOnly: true }, 'disk 0', { path: '/y' });
    expect(bound).toEqual({ path: '/y', readOnly: true });
  });
});

describe('HostUse.fromCli()', () => {
  test.each([
    ['blk', 'root.img', 'it does not say which'],
    ['blk', 'x=root.img', 'it does not say which'],
    ['blk', '0=', 'needs a path'],
    ['blk', '0=direct,rw', "unknown option 'rw'"],
    ['pmem', '0=', 'needs a path'],
    ['pmem', '-1=x', 'it does not say which'],
    ['net', '0=nothing', "there is no network 'nothing'"],
    ['net', 'user', 'it does not say which'],
    ['fs', 'src', 'it does not say which'],
    ['fs', 'src=', 'needs a path'],
    ['fs', 'src=/x,rw', "unknown option 'rw'"],
    ['vsock', '', 'needs a path'],
    ['console', 'log', 'needs the path'],
  ])('of %s refuses %j', (kind, text, why) => {
    expect(() => useOf(kind).fromCli(text)).toThrow(
      expect.objectContaining({ code: 'TSVM_USAGE', message: expect.stringContaining(why) }),
    );
  });

  test('of blk says that the disk itself is written to, and may have such a name', () => {
    expect(useOf('blk').fromCli('0=root.img,direct,overlay=over')).toEqual([
      { slot: 'disk 0', binding: { path: 'root.img', overlay: 'over', direct: true } },
    ]);
    expect(useOf('blk').fromCli('1=direct')).toEqual([{ slot: 'disk 1', binding: { path: 'direct' } }]);
  });

  test('of paths and names that the grammar cannot say there is no option', () => {
    const slot = { name: 'x', key: 'x' };
    for (const kind of ['blk', 'fs', 'console'])
      expect(useOf(kind).toCli(slot, { path: '/a,b' })).toBeUndefined();
    expect(useOf('fs').toCli({ name: 'share a=b', key: 'a=b' }, { path: '/a' })).toBeUndefined();
    expect(useOf('pmem').toCli({ name: 'pmem 0', key: '0' }, { path: '/a,b' })).toBe('0=/a,b');
    const tap = { backend: 'tap', name: 'tap0,mtu=68' };
    expect(useOf('net').toCli({ name: 'net 0', key: '0' }, tap)).toBeUndefined();
  });
});
