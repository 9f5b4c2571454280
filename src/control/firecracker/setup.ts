/** A machine's configuration in Firecracker's words, and in tsvm's: there and back. */
import { constants } from 'node:fs';
import type { z } from 'zod';
import type { NetControl } from '../../devices/backends/net.js';
import { balloon } from '../../devices/balloon/balloon.js';
import { blk } from '../../devices/blk/blk.js';
import type { BlkConfig } from '../../devices/blk/config.js';
import { net } from '../../devices/net/net.js';
import type { NetConfig } from '../../devices/net/options.js';
import { type PmemConfig, pmem } from '../../devices/pmem.js';
import { checkLimit, type RateLimit } from '../../devices/rate-limit.js';
import type { DeviceRequest } from '../../devices/registry.js';
import { rng } from '../../devices/rng.js';
import type { VsockConfig } from '../../devices/vsock/config.js';
import { vsock } from '../../devices/vsock/kind.js';
import { listGuests } from '../../guest/store.js';
import { describeFileError, openChecked } from '../../host/files.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from '../../machine/config.js';
import { consoleParameter } from '../../machine/device-parameters.js';
import { type MachineSpec, specOf } from '../../machine/spec.js';
import { MIB } from '../../util/units.js';
import { ApiError } from '../api-error.js';
import { EMPTY_DRAFT } from '../draft.js';
import type * as models from './models.js';

export type Drive = z.infer<typeof models.drive>;
export type NetworkInterface = z.infer<typeof models.networkInterface>;

/** A whole machine, or as much of it as was asked for. */
export type Setup = Readonly<z.infer<typeof models.fullConfiguration>>;

export const DEFAULT_MACHINE = { vcpu_count: 1, mem_size_mib: 128 } as const;
const NO_MMDS =
  'mmds: there is no metadata service here; a share or a disk brings the guest what it is to know';
/** Parts of Firecracker's API that are not here: their requests, their name in a configuration, and what is said of them. */
export const ABSENT = [
  { path: '/mmds', methods: ['GET', 'PUT', 'PATCH'], what: NO_MMDS },
  { path: '/mmds/config', methods: ['PUT'], key: 'mmds-config', what: NO_MMDS },
  {
    path: '/cpu-config',
    methods: ['PUT'],
    key: 'cpu-config',
    what: 'cpu-config: the guest’s CPU is the host’s, as KVM has it',
  },
  {
    path: '/hotplug/memory',
    methods: ['GET', 'PUT', 'PATCH'],
    key: 'memory-hotplug',
    what: 'hotplug/memory: the memory of a machine does not grow; a balloon gives back what is not used',
  },
] as const;
/** What Firecracker gives a kernel that is told nothing. */
const DEFAULT_BOOT_ARGS =
  'reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce';

/** @throws ApiError for what is known to be impossible already. */
export function checkMachine(machine: z.infer<typeof models.machineConfiguration>): void {
  if (machine.smt === true) throw unsupported('smt: a machine here has one thread in each core');
  if ((machine.cpu_template ?? 'None') !== 'None')
    throw unsupported('cpu_template: there are no templates here');
  if (machine.huge_pages === '2M') throw unsupported('huge_pages: memory here is of 4 KiB pages');
}

export async function checkBootSource(source: z.infer<typeof models.bootSource>): Promise<void> {
  await checkReadable('The kernel file', source.kernel_image_path);
  if (source.initrd_path != null) await checkReadable('The initrd file', source.initrd_path);
}

export async function checkDrive(drive: Drive): Promise<void> {
  if (drive.socket != null) throw unsupported('socket: there is no vhost-user here');
  if (drive.path_on_host == null) throw new ApiError('missing field `path_on_host`');
  if (drive.partuuid != null && !drive.is_root_device) throw new ApiError('partuuid is a root device’s');
  checkLimiter(drive.rate_limiter);
  await checkReadable('The block device', drive.path_on_host);
}

export function checkInterface(
  card: NetworkInterface | z.infer<typeof models.partialNetworkInterface>,
): void {
  checkLimiter(card.rx_rate_limiter);
  checkLimiter(card.tx_rate_limiter);
}

/** All of that at once. @throws ApiError */
export async function checkSetup(setup: Setup): Promise<void> {
  for (const part of ABSENT) if ('key' in part && setup[part.key] != null) throw unsupported(part.what);
  if (setup['machine-config'] !== undefined) checkMachine(setup['machine-config']);
  if (setup['boot-source'] !== undefined) await checkBootSource(setup['boot-source']);
  for (const drive of setup.drives ?? []) await checkDrive(drive);
  for (const card of setup['network-interfaces'] ?? []) checkInterface(card);
}

/** The machine that was asked for. @throws ApiError if there is nothing to boot. */
export async function specOfSetup(setup: Setup): Promise<MachineSpec> {
  const source = setup['boot-source'];
  if (source === undefined) return await EMPTY_DRAFT.spec();
  const machine = setup['machine-config'] ?? DEFAULT_MACHINE;
  const guest = (await listGuests()).find(({ kernel }) => kernel === source.kernel_image_path);
  const ordered = inGuestOrder(setup.drives ?? []);
  return specOf({
    kernel: source.kernel_image_path,
    ...(source.initrd_path == null ? {} : { initrd: source.initrd_path }),
    cmdline: [source.boot_args ?? DEFAULT_BOOT_ARGS, rootParameter(ordered[0])].filter(Boolean).join(' '),
    // `boot_args` say all that is to be said of a console, if only by leaving it out.
    namesConsole: false,
    discovery: guest?.discovery ?? 'acpi',
    memoryBytes: machine.mem_size_mib * MIB,
    cpus: machine.vcpu_count,
    devices: devicesOf(setup, ordered),
  });
}

/** The root is the guest's first. */
export function inGuestOrder(drives: readonly Drive[]): readonly Drive[] {
  return [...drives].sort((a, b) => Number(b.is_root_device) - Number(a.is_root_device));
}

function devicesOf(setup: Setup, drives: readonly Drive[]): DeviceRequest[] {
  const present = (request: DeviceRequest | undefined): DeviceRequest[] =>
    request === undefined ? [] : [request];
  return [
    ...drives.map((drive) =>
      blk({
        path: drive.path_on_host ?? '',
        readOnly: drive.is_read_only === true,
        id: drive.drive_id.slice(0, 20),
        ...limitOf(drive.rate_limiter),
      }),
    ),
    ...(setup.pmem ?? []).map((file) => pmem({ path: file.path_on_host })),
    ...(setup['network-interfaces'] ?? []).map((card) =>
      net({
        id: card.iface_id,
        backend: 'tap',
        name: card.host_dev_name,
        ...(card.guest_mac == null ? {} : { mac: card.guest_mac }),
        ...(card.mtu == null ? {} : { mtu: card.mtu }),
      }),
    ),
    ...present(
      setup.vsock == null ? undefined : vsock({ cid: setup.vsock.guest_cid, path: setup.vsock.uds_path }),
    ),
    ...present(setup.entropy == null ? undefined : rng()),
    ...present(setup.balloon == null ? undefined : balloon()),
  ];
}

function rootParameter(drive: Drive | undefined): string | undefined {
  if (drive?.is_root_device !== true) return undefined;
  const root = drive.partuuid == null ? '/dev/vda' : `PARTUUID=${drive.partuuid}`;
  return `root=${root} ${drive.is_read_only === true ? 'ro' : 'rw'}`;
}

/** A machine that was made otherwise, as far as these words can say it. */
export function setupOf(config: MachineConfig): Setup {
  const ofKind = <Config>(kind: string): readonly Partial<Config>[] =>
    (config.devices ?? []).flatMap((request) =>
      request.kind === kind ? [(request.config ?? {}) as Partial<Config>] : [],
    );
  const [socket] = ofKind<VsockConfig>('vsock');
  const has = (kind: string): boolean => ofKind(kind).length > 0;
  return {
    'machine-config': {
      vcpu_count: config.cpus ?? 1,
      mem_size_mib: Math.floor((config.memoryBytes ?? DEFAULT_MEMORY_BYTES) / MIB),
    },
    ...(config.kernel === undefined
      ? {}
      : {
          'boot-source': {
            kernel_image_path: config.kernel,
            ...(config.initrd === undefined ? {} : { initrd_path: config.initrd }),
            boot_args: [config.cmdline, consoleParameter(config)].filter(Boolean).join(' '),
          },
        }),
    drives: ofKind<BlkConfig>('blk').map(({ path = '', readOnly, id }, i) => ({
      drive_id: id ?? `disk${i}`,
      path_on_host: path,
      is_root_device: false,
      is_read_only: readOnly === true,
    })),
    pmem: ofKind<PmemConfig>('pmem').map(({ path = '' }, i) => ({
      id: `pmem${i}`,
      path_on_host: path,
      read_only: true,
    })),
    'network-interfaces': ofKind<NetConfig>('net').map(({ id, backend, name, mac, mtu }, i) => ({
      iface_id: interfaceId(id, i),
      host_dev_name: name ?? backend ?? '',
      ...(mac === undefined ? {} : { guest_mac: mac }),
      ...(mtu === undefined ? {} : { mtu }),
    })),
    ...(socket?.path === undefined ? {} : { vsock: { guest_cid: socket.cid ?? 3, uds_path: socket.path } }),
    ...(has('rng') ? { entropy: {} } : {}),
    ...(has('balloon') ? { balloon: { amount_mib: 0, deflate_on_oom: true } } : {}),
  };
}

/** The name of a network card; one that was made without has its number. */
export function interfaceId(id: string | undefined, ordinal: number): string {
  return id ?? `eth${ordinal}`;
}

/** Received and sent are the guest's. The limits of cards are no part of a configuration, since each direction has its own. */
export function limitCards(
  cards: readonly NetControl[],
  interfaces: readonly Partial<NetworkInterface>[],
): void {
  for (const [i, { rx_rate_limiter: rx, tx_rate_limiter: tx }] of interfaces.entries()) {
    const card = cards[i];
    card?.setLimit({
      ...(rx == null ? {} : { receiving: changedLimit(card.limits.receiving, rx) }),
      ...(tx == null ? {} : { sending: changedLimit(card.limits.sending, tx) }),
    });
  }
}

/** A bucket that is not given stays as it was. */
export function changedLimit(old: RateLimit, given: NonNullable<models.RateLimiter>): RateLimit {
  const { bytesPerSecond, bytesBurst, opsPerSecond, opsBurst } = old;
  const { bandwidth, ops } = limitsOf(given);
  const kept = {
    ...(bandwidth === undefined ? { bytesPerSecond, bytesBurst } : bandwidth),
    ...(ops === undefined ? { opsPerSecond, opsBurst } : ops),
  };
  return Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined));
}

/** The same in the words of the request, for who asks what is set. */
export function mergedLimiter(
  old: models.RateLimiter | undefined,
  given: NonNullable<models.RateLimiter>,
): NonNullable<models.RateLimiter> {
  return {
    bandwidth: given.bandwidth ?? old?.bandwidth ?? null,
    ops: given.ops ?? old?.ops ?? null,
  };
}

export function checkLimiter(limiter: models.RateLimiter | undefined): void {
  for (const bucket of [limiter?.bandwidth, limiter?.ops]) {
    if (bucket != null && bucket.size > 0 !== bucket.refill_time > 0) {
      throw new ApiError(
        'rate_limiter: size and refill_time must both be more than 0, or both 0 for no limit',
      );
    }
  }
  checkLimit(limitOf(limiter)); // it may be more than anybody could keep
}

export function limitOf(limiter: models.RateLimiter | undefined): RateLimit {
  return changedLimit({}, limiter ?? {});
}

/**
 * Firecracker says how much in how long; tsvm how much in a second, and at once. Undefined: it is not said; an empty one: as fast as it
 * can.
 */
function limitsOf({ bandwidth, ops }: NonNullable<models.RateLimiter>): {
  bandwidth?: RateLimit;
  ops?: RateLimit;
} {
  const perSecond = (bucket: { size: number; refill_time: number }): number =>
    Math.max(1, Math.round((bucket.size * 1000) / bucket.refill_time));
  return {
    ...(bandwidth == null
      ? {}
      : {
          bandwidth:
            bandwidth.size > 0 ? { bytesPerSecond: perSecond(bandwidth), bytesBurst: bandwidth.size } : {},
        }),
    ...(ops == null ? {} : { ops: ops.size > 0 ? { opsPerSecond: perSecond(ops), opsBurst: ops.size } : {} }),
  };
}

async function checkReadable(what: string, path: string): Promise<void> {
  try {
    const file = await openChecked(path, constants.O_RDONLY, (stats) => {
      if (!stats.isFile() && !stats.isBlockDevice())
        throw new Error('it is neither a file nor a block device');
    });
    await file.close();
  } catch (cause) {
    throw new ApiError(`${what} cannot be opened: ${path}: ${describeFileError(cause)}`);
  }
}

export function unsupported(what: string): ApiError {
  return new ApiError(`not supported: ${what}`);
}
