/**
 * Firecracker's paths for devices: disks, files in memory, network cards, vsock, entropy, balloon.
 *
 * @spec firecracker-1.13 "paths"  Devices: drives, cards, vsock, entropy, balloon, pmem  #yes
 */
import type { z } from 'zod';
import { MIB, PAGE_BYTES } from '../../util/units.js';
import { ApiError } from '../api-error.js';
import { type Route, route } from '../http/route.js';
import type { Instance } from '../instance.js';
import { draftOf } from './draft.js';
import * as models from './models.js';
import {
  changedLimit,
  checkDrive,
  checkInterface,
  checkLimiter,
  inGuestOrder,
  limitCards,
  mergedLimiter,
  unsupported,
} from './setup.js';

const before = { when: 'before start' } as const;
const after = { when: 'after start' } as const;

export const deviceRoutes: readonly Route[] = [
  route({
    ...before,
    method: 'PUT',
    path: '/drives/{drive_id}',
    summary: 'adds a disk, or replaces it',
    body: models.drive,
    async handle({ instance, body, parameters }) {
      sameId(parameters['drive_id'], body.drive_id);
      await checkDrive(body);
      const others = (draftOf(instance).setup.drives ?? []).filter(
        ({ drive_id }) => drive_id !== body.drive_id,
      );
      if (body.is_root_device && others.some(({ is_root_device }) => is_root_device)) {
        throw new ApiError('A root block device already exists!');
      }
      draftOf(instance).set({ drives: [...others, body] });
      return undefined;
    },
  }),
  route({
    ...after,
    method: 'PATCH',
    path: '/drives/{drive_id}',
    summary:
      'sets limits, and opens the file at the path for the disk: another, or the same with the size that it has now',
    body: models.partialDrive,
    async handle({ instance, body, parameters }) {
      sameId(parameters['drive_id'], body.drive_id);
      checkLimiter(body.rate_limiter);
      const drives = inGuestOrder(draftOf(instance).setup.drives ?? []);
      const index = drives.findIndex(({ drive_id }) => drive_id === body.drive_id);
      const drive = drives[index];
      const disk = instance.machine.disks[index];
      if (drive === undefined || disk === undefined) throw new ApiError('Invalid block device ID!');
      const path = body.path_on_host ?? drive.path_on_host;
      if (body.path_on_host != null) await instance.machine.changeDisk(index, body.path_on_host);
      const limiter = body.rate_limiter ?? undefined;
      if (limiter !== undefined) disk.setLimit(changedLimit(disk.limit, limiter));
      // As they are now: another request may have come in between.
      const draft = draftOf(instance);
      const changed = (draft.setup.drives ?? []).map((other) =>
        other.drive_id === body.drive_id
          ? {
              ...other,
              path_on_host: path,
              ...(limiter === undefined ? {} : { rate_limiter: mergedLimiter(other.rate_limiter, limiter) }),
            }
          : other,
      );
      draft.set({ drives: changed });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/pmem/{id}',
    summary: 'adds a file in the guest’s memory, or replaces it',
    body: models.pmemDevice,
    handle({ instance, body, parameters }) {
      sameId(parameters['id'], body.id);
      if (body.read_only !== true)
        throw unsupported('pmem: it is read-only here, and has to be asked for as such');
      if (body.root_device === true) throw unsupported('root_device: say root=/dev/pmem0 in boot_args');
      draftOf(instance).set({
        pmem: [...(draftOf(instance).setup.pmem ?? []).filter(({ id }) => id !== body.id), body],
      });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/network-interfaces/{iface_id}',
    summary: 'adds a network card at a TAP interface, or replaces it',
    body: models.networkInterface,
    handle({ instance, body, parameters }) {
      sameId(parameters['iface_id'], body.iface_id);
      checkInterface(body);
      const cards = draftOf(instance).setup['network-interfaces'] ?? [];
      const others = cards.filter(({ iface_id }) => iface_id !== body.iface_id);
      if (others.some(({ guest_mac: mac }) => mac != null && mac === body.guest_mac)) {
        throw new ApiError(`The MAC address is already in use: ${body.guest_mac}`);
      }
      draftOf(instance).set({ 'network-interfaces': [...others, body] });
      return undefined;
    },
  }),
  route({
    ...after,
    method: 'PATCH',
    path: '/network-interfaces/{iface_id}',
    summary: 'sets a network card’s limits',
    body: models.partialNetworkInterface,
    handle({ instance, body, parameters }) {
      sameId(parameters['iface_id'], body.iface_id);
      const cards = draftOf(instance).setup['network-interfaces'] ?? [];
      const index = cards.findIndex(({ iface_id }) => iface_id === body.iface_id);
      const card = cards[index];
      const device = instance.machine.cards[index];
      if (card === undefined || device === undefined) throw new ApiError('Invalid interface ID!');
      const { rx_rate_limiter: rx, tx_rate_limiter: tx } = body;
      checkInterface(body);
      limitCards([device], [body]);
      draftOf(instance).set({
        'network-interfaces': cards.with(index, {
          ...card,
          ...(rx == null ? {} : { rx_rate_limiter: mergedLimiter(card.rx_rate_limiter, rx) }),
          ...(tx == null ? {} : { tx_rate_limiter: mergedLimiter(card.tx_rate_limiter, tx) }),
        }),
      });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/vsock',
    summary: 'adds a vsock',
    body: models.vsockDevice,
    handle({ instance, body }) {
      draftOf(instance).set({ vsock: body });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/entropy',
    summary: 'adds a random number generator',
    body: models.entropyDevice,
    handle({ instance, body }) {
      if (body.rate_limiter != null) throw unsupported('rate_limiter: the host has enough of it');
      draftOf(instance).set({ entropy: body });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/balloon',
    summary: 'adds a balloon',
    body: models.balloonDevice,
    handle({ instance, body }) {
      if (body.free_page_hinting === true) throw unsupported('free_page_hinting: it is for live migration');
      draftOf(instance).set({ balloon: body });
      return undefined;
    },
  }),
  route({
    method: 'GET',
    path: '/balloon',
    summary: 'the balloon',
    reply: models.balloonDevice,
    handle: ({ instance }) => configuredBalloon(instance),
  }),
  route({
    ...after,
    method: 'PATCH',
    path: '/balloon',
    summary: 'asks the guest to give memory back, or lets it take some again',
    body: models.balloonUpdate,
    handle({ instance, body }) {
      const device = configuredBalloon(instance);
      instance.machine.balloon?.setTarget(body.amount_mib * MIB);
      draftOf(instance).set({ balloon: { ...device, amount_mib: body.amount_mib } });
      return undefined;
    },
  }),
  route({
    ...after,
    method: 'GET',
    path: '/balloon/statistics',
    summary: 'what the guest says of its memory, newly asked',
    reply: models.balloonStatistics,
    async handle({ instance }) {
      const device = configuredBalloon(instance);
      if ((device.stats_polling_interval_s ?? 0) === 0) {
        throw new ApiError('Statistics are not enabled: stats_polling_interval_s is 0');
      }
      const { balloon } = instance.machine;
      if (balloon === undefined) throw new ApiError(NO_BALLOON);
      return statistics(balloon.targetBytes, balloon.actualBytes, await balloon.stats());
    },
  }),
  route({
    method: 'PATCH',
    path: '/balloon/statistics',
    summary: 'how old statistics may be; they are always new here',
    body: models.balloonStatsUpdate,
    handle({ instance, body }) {
      const device = configuredBalloon(instance);
      if (
        (device.stats_polling_interval_s ?? 0) > 0 !== body.stats_polling_interval_s > 0 &&
        instance.hasStarted
      ) {
        throw new ApiError('Statistics cannot be turned on or off after the start');
      }
      draftOf(instance).set({ balloon: { ...device, ...body } });
      return undefined;
    },
  }),
];

const NO_BALLOON = 'Balloon device not found.';

function configuredBalloon(instance: Instance): z.infer<typeof models.balloonDevice> {
  const { setup } = draftOf(instance);
  if (setup.balloon == null) throw new ApiError(NO_BALLOON);
  return setup.balloon;
}

function statistics(
  targetBytes: number,
  actualBytes: number,
  stats: Readonly<Record<string, number | undefined>>,
): z.infer<typeof models.balloonStatistics> {
  const named = {
    swap_in: stats['swapInBytes'],
    swap_out: stats['swapOutBytes'],
    major_faults: stats['majorFaults'],
    minor_faults: stats['minorFaults'],
    free_memory: stats['freeBytes'],
    total_memory: stats['totalBytes'],
    available_memory: stats['availableBytes'],
    disk_caches: stats['cacheBytes'],
    hugetlb_allocations: stats['hugePageAllocations'],
    hugetlb_failures: stats['hugePageFailures'],
    oom_kill: stats['oomKills'],
    alloc_stall: stats['allocationStalls'],
    async_scan: stats['asyncScannedPages'],
    direct_scan: stats['directScannedPages'],
    async_reclaim: stats['asyncReclaimedPages'],
    direct_reclaim: stats['directReclaimedPages'],
  };
  return {
    target_pages: targetBytes / PAGE_BYTES,
    actual_pages: actualBytes / PAGE_BYTES,
    target_mib: Math.floor(targetBytes / MIB),
    actual_mib: Math.floor(actualBytes / MIB),
    ...named,
  };
}

function sameId(inPath: string | undefined, inBody: string): void {
  if (inPath === inBody) return;
  throw new ApiError(`The id from the path [${inPath}] does not match the id from the body [${inBody}]!`);
}
