import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import {
  changedLimit,
  checkDrive,
  checkInterface,
  checkLimiter,
  checkMachine,
  checkSetup,
  limitCards,
  limitOf,
  mergedLimiter,
  type Setup,
  setupOf,
  specOfSetup,
} from '../../../src/control/firecracker/setup.js';
import { configOf } from '../../../src/machine/spec.js';
import { temporaryDirectory } from '../../support/guest.js';

const root = temporaryDirectory();
const kernel = join(root, 'vmlinux');
writeFileSync(kernel, '');
const BOOT: Setup = { 'boot-source': { kernel_image_path: kernel, boot_args: 'console=ttyS0' } };
const drive = { drive_id: 'a', path_on_host: kernel, is_root_device: false };

test('without a kernel there is nothing to start', async () => {
  await expect(specOfSetup({})).rejects.toThrow('Cannot start microvm without kernel configuration');
});

test('the root is the first disk, wherever it stands, and the kernel is told', async () => {
  const drives = [drive, { ...drive, drive_id: 'root', is_root_device: true, is_read_only: true }];
  const { devices, cmdline } = await specOfSetup({ ...BOOT, drives });
  expect(devices.map(({ config }) => config?.['id'])).toEqual(['root', 'a']);
  expect(cmdline).toBe('console=ttyS0 root=/dev/vda ro');
  const [first] = drives.slice(1);
  const byUuid = await specOfSetup({
    ...BOOT,
    drives: [{ ...(first ?? drive), partuuid: 'abc-01', is_read_only: false }],
  });
  expect(byUuid.cmdline).toBe('console=ttyS0 root=PARTUUID=abc-01 rw');
});

test('a machine that was made otherwise is described with the console that its kernel is told of', () => {
  const bootArgs = (config: object) => setupOf({ kernel, ...config })['boot-source']?.boot_args;
  expect(bootArgs({ cmdline: 'quiet' })).toBe('quiet console=ttyS0');
  expect(bootArgs({ cmdline: 'quiet', console: 'none' })).toBe('quiet');
});

test('buckets become rates', async () => {
  const rate_limiter = { bandwidth: { size: 1000, refill_time: 100 }, ops: { size: 5, refill_time: 1000 } };
  const { devices } = await specOfSetup({ ...BOOT, drives: [{ ...drive, rate_limiter }] });
  expect(devices[0]?.config).toMatchObject({
    bytesPerSecond: 10_000,
    bytesBurst: 1000,
    opsPerSecond: 5,
    opsBurst: 5,
  });
});

test('every device has its request, and a machine is described in the same words', async () => {
  const setup: Setup = {
    ...BOOT,
    'machine-config': { vcpu_count: 2, mem_size_mib: 256 },
    drives: [{ ...drive, is_read_only: true }],
    pmem: [{ id: 'pmem0', path_on_host: kernel, read_only: true }],
    'network-interfaces': [{ iface_id: 'eth0', host_dev_name: 'tap0', guest_mac: '02:00:00:00:00:01' }],
    vsock: { guest_cid: 7, uds_path: '/tmp/v.sock' },
    entropy: {},
    balloon: { amount_mib: 0, deflate_on_oom: true },
  };
  const spec = await specOfSetup(setup);
  expect(spec).toMatchObject({ kernel, cpus: 2, memoryBytes: 256 << 20 });
  expect(spec.devices.map(({ kind }) => kind)).toEqual(['blk', 'pmem', 'net', 'vsock', 'rng', 'balloon']);
  expect(setupOf(configOf(spec))).toEqual(setup);
});

test.each([
  ['smt', () => checkMachine({ vcpu_count: 2, mem_size_mib: 1, smt: true })],
  ['cpu_template', () => checkMachine({ vcpu_count: 2, mem_size_mib: 1, cpu_template: 'T2' })],
  ['huge_pages', () => checkMachine({ vcpu_count: 2, mem_size_mib: 1, huge_pages: '2M' })],
])('%s is known, and refused', (name, check) => expect(check).toThrow(`not supported: ${name}`));

test.each([
  ['mmds-config', 'mmds'] as const,
  ['cpu-config', 'cpu-config'] as const,
  ['memory-hotplug', 'hotplug/memory'] as const,
])('%s of a configuration is known, and refused unless it is null', async (key, name) => {
  await checkSetup({ [key]: null });
  await expect(checkSetup({ [key]: { version: 'V2' } })).rejects.toThrow(`not supported: ${name}`);
});

test('a card has a limit each way, as the guest sees them', () => {
  const setLimit = vi.fn();
  const card = { mac: new Uint8Array(6), limits: { sending: {}, receiving: { opsPerSecond: 5 } }, setLimit };
  const limiter = { bandwidth: { size: 1000, refill_time: 100 } };
  limitCards([card], [{ rx_rate_limiter: limiter, tx_rate_limiter: null }]); // null changes nothing
  expect(setLimit.mock.calls).toEqual([
    [{ receiving: { bytesPerSecond: 10_000, bytesBurst: 1000, opsPerSecond: 5 } }],
  ]);
  expect(() =>
    checkInterface({ iface_id: 'a', rx_rate_limiter: { ops: { size: 1, refill_time: 0 } } }),
  ).toThrow('rate_limiter');
});

test('a bucket that is not given stays, and one of nothing is none', () => {
  const ops = { size: 1, refill_time: 1 };
  expect(mergedLimiter({ ops }, { bandwidth: { size: 0, refill_time: 0 } })).toEqual({
    ops,
    bandwidth: { size: 0, refill_time: 0 },
  });
  expect(changedLimit({ bytesPerSecond: 7, bytesBurst: 8 }, { ops })).toEqual({
    bytesPerSecond: 7,
    bytesBurst: 8,
    opsPerSecond: 1000,
    opsBurst: 1,
  });
  expect(changedLimit({ bytesPerSecond: 7 }, { bandwidth: { size: 0, refill_time: 0 } })).toEqual({});
  expect(() => checkLimiter({ bandwidth: { size: 2 ** 31, refill_time: 1 } })).toThrow('bytesPerSecond');
  expect(limitOf({ ops, bandwidth: { size: 0, refill_time: 0 } })).toEqual({
    opsPerSecond: 1000,
    opsBurst: 1,
  });
});

test.each([
  [{ ...drive, socket: '/tmp/x' }, 'vhost-user'],
  [{ drive_id: 'a', is_root_device: false }, 'missing field `path_on_host`'],
  [{ ...drive, path_on_host: '/nope' }, 'The block device cannot be opened: /nope: no such file'],
  [{ ...drive, partuuid: 'x' }, 'partuuid'],
  [{ ...drive, rate_limiter: { ops: { size: 1, refill_time: 0 } } }, 'rate_limiter'],
])('the disk %j is refused', async (disk, why) => {
  await expect(checkDrive(disk)).rejects.toThrow(why);
});
