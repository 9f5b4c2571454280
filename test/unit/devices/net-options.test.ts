import { expect, test } from 'vitest';
import type { NetPlace } from '../../../src/devices/backends/net.js';
import { Net, net } from '../../../src/devices/net/net.js';
import { checkNetConfig, parseNet, placeOf, randomMac, toMac } from '../../../src/devices/net/options.js';
import { TsvmError } from '../../../src/errors.js';
import { TestCable } from '../../support/test-cable.js';

test.each<[text: string, config: unknown]>([
  ['user', { backend: 'user' }],
  ['tap,name=tap0', { backend: 'tap', name: 'tap0' }],
  ['tap,name=vm.0-a_b,mac=0A:00:00:00:00:fF,mtu=9000', { mac: '0a:00:00:00:00:ff', mtu: 9000 }],
  ['user,mtu=68', { mtu: 68 }],
  ['user,mtu=65520,loopback=no', { mtu: 65520, loopback: false }],
  ['user,loopback=yes', { loopback: true }],
  [
    'user,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp::53-:5353',
    {
      forwards: [
        { protocol: 'tcp', address: '127.0.0.1', port: 8080, guestPort: 80 },
        { protocol: 'udp', address: '', port: 53, guestPort: 5353 },
      ],
    },
  ],
])('parseNet() takes %s', (text, config) => {
  expect(parseNet(text)).toMatchObject(config as object);
  expect(checkNetConfig(parseNet(text))).toEqual(parseNet(text));
});

test.each<[text: string, message: RegExp]>([
  ['', /it is not said which network/],
  ['bridge', /there is no network 'bridge'/],
  ['USER', /there is no network 'USER'/],
  ['user,', /user has no option ''/],
  ['user,name=tap0', /user has no option 'name=tap0'/],
  ['user,ro', /user has no option 'ro'/],
  ['tap', /tap needs the name/],
  ['tap,name=', /'' is not the name/],
  ['tap,name=a/b', /'a\/b' is not the name/],
  ['tap,name=tap%d', /'tap%d' is not the name/],
  ['tap,name=sixteen-letters-', /is not the name/],
  ['tap,name=..', /'\.\.' is not the name/],
  ['tap,name=tap0,hostfwd=tcp::1-:1', /tap has no option 'hostfwd/],
  ['user,mac=01:00:00:00:00:00', /'01:00:00:00:00:00' is not the MAC address of one card/],
  ['user,mac=00:00:00:00:00:00', /is not the MAC/],
  ['user,mac=02:00:00:00:00', /is not the MAC/],
  ['user,mac', /'' is not the MAC/],
  ['user,mtu=67', /mtu '67' is not from 68 to 65520/],
  ['user,mtu=65521', /mtu '65521'/],
  ['user,mtu=1e3', /mtu '1e3'/],
  ['user,loopback=maybe', /loopback 'maybe'/],
  ['user,hostfwd=8080:80', /hostfwd '8080:80' is not PROTOCOL:ADDRESS:PORT-:GUESTPORT/],
  ['user,hostfwd=sctp::1-:1', /'sctp' is not tcp or udp/],
  ['user,hostfwd=tcp:localhost:1-:1', /'localhost' is not an IPv4 address/],
  ['user,hostfwd=tcp:127.0.0.256:1-:1', /'127\.0\.0\.256' is not an IPv4 address/],
  ['user,hostfwd=tcp:-t:1-:1', /'-t' is not an IPv4 address/],
  ['user,hostfwd=tcp::0-:1', /'0' is not a port/],
  ['user,hostfwd=tcp::65536-:1', /'65536' is not a port/],
  ['user,hostfwd=tcp::80-:x', /'x' is not a port/],
  ['user,hostfwd=tcp::80-10.0.2.15:80', /'10\.0\.2\.15': the guest has one address/],
  [`user${',hostfwd=tcp::80-:80'.repeat(65)}`, /more than 64 forwarded ports/],
])('parseNet() names what is wrong in %s, in one line, with an example that is right', (text, message) => {
  let error: unknown;
  try {
    parseNet(text);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(TsvmError);
  const { code, message: said, hint } = error as TsvmError;
  expect(code).toBe('TSVM_USAGE');
  expect(said).toMatch(message);
  expect(said).not.toContain('\n');
  const example = /^for example: --net (\S+?)(,? or .*)?$/.exec(hint ?? '')?.[1];
  expect(() => parseNet(example ?? '')).not.toThrow();
});

test.each<[field: string, config: unknown]>([
  ['backend', {}],
  ['backend', { backend: 'bridge' }],
  ['name', { backend: 'tap' }],
  ['name', { backend: 'user', name: 'tap0' }],
  ['name', { backend: 'tap', name: '../x' }],
  ['forwards', { backend: 'tap', name: 'tap0', forwards: [] }],
  ['forwards', { backend: 'user', forwards: {} }],
  ['forwards', { backend: 'user', forwards: [{ protocol: 'tcp', address: '', port: '80', guestPort: 80 }] }],
  [
    'forwards',
    { backend: 'user', forwards: [{ protocol: 'tcp', address: '--help', port: 1, guestPort: 1 }] },
  ],
  [
    'forwards',
    { backend: 'user', forwards: [{ protocol: 'tcp', address: '', port: 1, guestPort: 1, x: 1 }] },
  ],
  ['loopback', { backend: 'user', loopback: 1 }],
  ['mac', { backend: 'user', mac: '01:00:00:00:00:00' }],
  ['mtu', { backend: 'user', mtu: 1.5 }],
])('checkNetConfig() names the field %s in %j', (field, config) => {
  expect(() => checkNetConfig(config)).toThrow(new RegExp(`^net\\.${field}: it must be `));
});

test('randomMac() is of one card and locally administered, whatever the random numbers are', () => {
  for (const byte of [0, 0xff, 0x5a, 1]) {
    const mac = randomMac({ fillRandom: (target) => void target.fill(byte) });
    expect((mac[0] as number) & 3).toBe(2);
  }
  expect([...toMac('0a:00:00:00:00:ff')]).toEqual([10, 0, 0, 0, 0, 255]);
});

test('net() asks the host for its place, and gives the card a random address or the one it was told', async () => {
  const places: NetPlace[] = [];
  const host = {
    fillRandom: (target: Uint8Array) => void target.fill(0x10),
    openNet: async (place: NetPlace) => {
      places.push(place);
      return new TestCable(9000);
    },
  } as unknown as Parameters<ReturnType<typeof net>['open']>[0];
  const tap = (await net({ backend: 'tap', name: 'tap0' }).open(host)) as Net;
  const user = (await net({ backend: 'user', mac: '02:00:00:00:00:07' }).open(host)) as Net;
  expect(places).toEqual([
    { kind: 'tap', name: 'tap0' },
    { kind: 'user', mtu: 65520, forwards: [], loopback: false },
  ]);
  expect(tap).toBeInstanceOf(Net);
  expect([...tap.mac]).toEqual([0x12, 0x10, 0x10, 0x10, 0x10, 0x10]);
  expect([...user.mac]).toEqual([2, 0, 0, 0, 0, 7]);
  expect(placeOf({ backend: 'user', mtu: 1500 })).toMatchObject({ mtu: 1500 });
});
