import { describe, expect, test } from 'vitest';
import { bindingsOf } from '../../../src/control/firecracker/overrides.js';
import { setupOf, specOfSetup } from '../../../src/control/firecracker/setup.js';
import { net } from '../../../src/devices/net/net.js';
import { vsock } from '../../../src/devices/vsock/kind.js';
import { bindDevices } from '../../../src/machine/bindings.js';
import type { MachineConfig } from '../../../src/machine/config.js';

const config: MachineConfig = {
  devices: [
    net({ backend: 'tap', name: 'tap0', id: 'inner' }),
    net({ backend: 'user' }),
    net({ backend: 'tap', name: 'tap1', mac: '02:00:00:00:00:01', mtu: 1400, id: 'outer' }),
    vsock({ path: '/v.sock', cid: 9 }),
  ],
};

describe('bindingsOf()', () => {
  test('finds cards by the names that they were made with, or by their numbers', async () => {
    const bindings = bindingsOf(config, {
      network_overrides: [
        { iface_id: 'outer', host_dev_name: 'tap7' },
        { iface_id: 'inner', host_dev_name: 'tap8' },
      ],
      vsock_override: { uds_path: '/w.sock' },
      tsvm_devices: { 'net 1': { backend: 'user' } },
    });
    const saved = JSON.parse(JSON.stringify(config.devices)) as { kind: string; config: object }[];
    const bound = await bindDevices({ folder: '/nowhere', from: '/', devices: saved }, { devices: bindings });
    expect(bound.map((request) => request.config)).toEqual([
      { backend: 'tap', name: 'tap8', id: 'inner' },
      { backend: 'user' },
      { backend: 'tap', name: 'tap7', mac: '02:00:00:00:00:01', mtu: 1400, id: 'outer' },
      { path: '/w.sock', cid: 9 },
    ]);
    // Clients find them again by the same names.
    expect(setupOf({ devices: bound })).toMatchObject({
      'network-interfaces': [
        { iface_id: 'inner', host_dev_name: 'tap8' },
        { iface_id: 'eth1', host_dev_name: 'user' },
        { iface_id: 'outer', host_dev_name: 'tap7' },
      ],
      vsock: { uds_path: '/w.sock', guest_cid: 9 },
    });
  });

  test.each([
    [
      { network_overrides: [{ iface_id: 'eth0', host_dev_name: 'tap7' }] },
      'unknown network device eth0: the saved',
    ],
    [
      {
        network_overrides: [
          { iface_id: 'inner', host_dev_name: 'tap7' },
          { iface_id: 'inner', host_dev_name: 'tap8' },
        ],
      },
      'net 0 is named twice',
    ],
    [{ vsock_override: { uds_path: '/w' }, tsvm_devices: { vsock: { path: '/x' } } }, 'vsock is named twice'],
  ])('refuses %j', (overrides, why) => {
    expect(() => bindingsOf(config, overrides)).toThrow(
      expect.objectContaining({ status: 400, message: expect.stringContaining(why) }),
    );
  });

  test('refuses overrides of what is not there', () => {
    const bare = { devices: [net({ backend: 'user' })] };
    expect(() => bindingsOf(bare, { vsock_override: { uds_path: '/w' } })).toThrow('has no vsock');
    expect(() => bindingsOf({}, { network_overrides: [{ iface_id: 'a', host_dev_name: 'b' }] })).toThrow(
      'has no network card',
    );
  });
});

test('a card keeps its name in the machine that is made', async () => {
  const { devices } = await specOfSetup({
    'boot-source': { kernel_image_path: '/k' },
    'network-interfaces': [{ iface_id: 'outer', host_dev_name: 'tap0' }],
  });
  expect(devices[0]?.config).toMatchObject({ id: 'outer', backend: 'tap', name: 'tap0' });
});
