import { describe, expect, test } from 'vitest';
import { blk } from '../../../src/devices/blk/blk.js';
import { virtioConsole } from '../../../src/devices/console/console.js';
import { share } from '../../../src/devices/fs/fs.js';
import type { DeviceRequest } from '../../../src/devices/kind.js';
import { net } from '../../../src/devices/net/net.js';
import { pmem } from '../../../src/devices/pmem.js';
import { deviceKinds } from '../../../src/devices/registry.js';
import { vsock } from '../../../src/devices/vsock/kind.js';
import { TsvmError } from '../../../src/errors.js';

/** Every form that a request of a kind can have of which something is configured. A kind that is missing here fails the tests. */
const REQUESTS: Readonly<Record<string, readonly DeviceRequest[]>> = {
  blk: [
    blk({ path: 'a b,c.img' }),
    blk({ path: '/dev/sdx', readOnly: true }),
    blk({ path: 'x', id: 'root-1' }),
    blk({ path: 'x', overlay: 'y', queues: 16 }),
    blk({ path: 'x', bytesPerSecond: 1000, opsPerSecond: 5 }),
  ],
  fs: [share({ path: 'a b', tag: 'src' }), share({ path: '/', tag: 'root', readOnly: true })],
  pmem: [pmem({ path: 'a b,ro.img' })],
  console: [virtioConsole()],
  vsock: [vsock(), vsock({ path: '/tmp/vm.sock' }), vsock({ cid: 0xffff_fffe })],
  net: [
    net({ backend: 'user' }),
    net({
      backend: 'user',
      forwards: [{ protocol: 'tcp', address: '127.0.0.1', port: 8080, guestPort: 80 }],
      loopback: false,
      mac: '02:00:00:00:00:01',
      mtu: 1500,
    }),
    net({ backend: 'tap', name: 'tap0' }),
    net({ backend: 'user', bytesPerSecond: 1 << 20, opsPerSecond: 100 }),
  ],
};

function requestsOf(kind: string): readonly DeviceRequest[] {
  const row = deviceKinds[kind];
  return row?.cliArgument === '' ? [row.fromCli('')] : (REQUESTS[kind] ?? []);
}

function refusal(kind: string, config: unknown): string {
  try {
    deviceKinds[kind]?.fromConfig(config);
  } catch (error) {
    if (error instanceof TsvmError && error.code === 'TSVM_CONFIG') return error.message;
    throw error;
  }
  return 'taken';
}

describe.each(Object.keys(deviceKinds))('DeviceKind.fromConfig() of %s', (kind) => {
  test('makes a request again from its config as JSON', () => {
    const requests = requestsOf(kind);
    expect(requests).not.toHaveLength(0);
    for (const request of requests) {
      expect(request.kind).toBe(kind);
      const again = deviceKinds[kind]?.fromConfig(JSON.parse(JSON.stringify(request.config)));
      expect(again).toMatchObject({ kind, config: request.config });
    }
  });

  test('refuses what is no object', () => {
    for (const config of [undefined, null, 1, 'path', true, [], [{}]]) {
      expect(refusal(kind, config)).toBe(`${kind}: its configuration must be an object`);
    }
  });

  test('refuses fields that it does not know, also those that every object has', () => {
    const config = JSON.stringify(requestsOf(kind)[0]?.config);
    for (const name of ['nonsense', '__proto__', 'constructor', 'toString', '']) {
      const comma = config === '{}' ? '' : ',';
      const hostile = JSON.parse(`${config.slice(0, -1)}${comma}${JSON.stringify(name)}:{}}`);
      expect(refusal(kind, hostile)).toBe(`${kind}.${name}: there is no such field`);
    }
  });
});

test.each<[field: string, config: unknown]>([
  ['path', {}],
  ['path', { path: '' }],
  ['path', { path: 7 }],
  ['path', { path: ['x'] }],
  ['path', { path: 'a\0b' }],
  ['path', Object.create({ path: 'inherited' })],
  ['readOnly', { path: 'x', readOnly: 'yes' }],
  ['readOnly', { path: 'x', readOnly: null }],
  ['id', { path: 'x', id: '' }],
  ['id', { path: 'x', id: 'twenty-one characters' }],
  ['id', { path: 'x', id: 5 }],
])('DeviceKind.fromConfig() of blk names the field %s in %j', (field, config) => {
  expect(refusal('blk', config)).toMatch(new RegExp(`^blk\\.${field}: it must be `));
});

test.each<[field: string, config: unknown]>([
  ['path', { path: '' }],
  ['path', { path: 'a\0b' }],
  ['path', { path: 7 }],
  ['cid', { cid: 2 }],
  ['cid', { cid: 0xffff_ffff }],
  ['cid', { cid: 3.5 }],
  ['cid', { cid: '3' }],
])('DeviceKind.fromConfig() of vsock names the field %s in %j', (field, config) => {
  expect(refusal('vsock', config)).toMatch(new RegExp(`^vsock\\.${field}: it must be `));
});
