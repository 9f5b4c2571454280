import { expect, test } from 'vitest';
import { net } from '../../../src/devices/net/net.js';
import { rng } from '../../../src/devices/rng.js';
import { consoleParameter, deviceParameters } from '../../../src/machine/device-parameters.js';

const user = net({ backend: 'user' });
const tap = net({ backend: 'tap', name: 'tap0' });
const address = (device: string) => `ip=10.0.2.15::10.0.2.2:255.255.255.0::${device}:off:10.0.2.3`;

test.each([
  ['none', [rng()], []],
  ['a TAP, which has an address of its own', [tap], []],
  ['passt', [rng(), user], [address('eth0')]],
  ['passt behind a TAP', [tap, user], [address('eth1')]],
  ['passt twice: the first', [user, user], [address('eth0')]],
])('deviceParameters() of %s', (_, devices, expected) => {
  expect(deviceParameters({ devices })).toEqual(expected);
});

test.each(['ip=dhcp', 'quiet ip=off', 'ip='])(
  'deviceParameters() leaves the parameter of %j alone',
  (cmdline) => {
    expect(deviceParameters({ cmdline, devices: [user] })).toEqual([]);
  },
);

test('deviceParameters() takes no other name for its own', () => {
  expect(deviceParameters({ cmdline: 'skip=1', devices: [user] })).toEqual([address('eth0')]);
});

test.each([
  [{}, 'console=ttyS0'],
  [{ cmdline: 'quiet noconsole=1', console: 'serial' }, 'console=ttyS0'],
  [{ console: 'virtio' }, 'console=hvc0'],
  [{ console: 'none' }, undefined],
  [{ cmdline: 'console=tty0 quiet' }, undefined],
  [{ cmdline: 'quiet console=ttyS0,115200', console: 'virtio' }, undefined],
] as const)('consoleParameter() of %j is %s', (config, expected) => {
  expect(consoleParameter(config)).toBe(expected);
});
