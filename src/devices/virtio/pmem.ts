/**
 * virtio-pmem: a file of the host as memory of the guest's, read-only. Reading it is no request and no exit, and what the
 * guest reads is the host's page cache: machines that have the same file share it.
 *
 * @spec virtio-1.3 5.19    PMEM device                   #yes
 * @spec virtio-1.3 5.19.3  VIRTIO_PMEM_F_SHMEM_REGION    #no   the configuration says where it is
 */

import { TsvmError } from '../../errors.js';
import { checkState, checkStateVersion } from '../../util/state.js';
import type { Chain } from '../../virtio/chain.js';
import type { ConfigSpace, DeviceState, VirtioDevice, Virtqueue } from '../../virtio/device.js';
import type { DeviceKind, DeviceRequest } from '../device-kind.js';
import type { PmemBackend } from '../host.js';
import { type HostUse, numberedSlot } from '../host-slot.js';
import { checkRequestConfig, isPath } from '../request-config.js';

const DEVICE_ID = 27;
const QUEUE_SIZE = 64;

// struct virtio_pmem_config (virtio 1.3, 5.19.4)
const CONFIG_BYTES = 16;
const CONFIG_START = 0;
const CONFIG_SIZE = 8;

// struct virtio_pmem_req and virtio_pmem_resp (virtio 1.3, 5.19.6 and 5.19.7): a word each
const REQUEST_BYTES = 4;
const RESPONSE_BYTES = 4;
/** Requests and responses are words; a page is room for any that may come. */
const MAX_REQUEST_BYTES = 4096;
const VIRTIO_PMEM_REQ_TYPE_FLUSH = 0;
const SUCCESS = 0;
/** virtio 1.3, 5.19.7: -1. */
const FAILURE = 0xffff_ffff;

export type PmemCounters = {
  flushes: number;
  /** Requests of another type, shorter than one, or without room for a response. */
  badRequests: number;
};

export class Pmem implements VirtioDevice {
  readonly name = 'pmem';
  readonly deviceId = DEVICE_ID;
  readonly features = 0n;
  readonly queueSizes = [QUEUE_SIZE];
  readonly maxRequestBytes = [MAX_REQUEST_BYTES];
  readonly config: ConfigSpace;
  readonly counters: PmemCounters = { flushes: 0, badRequests: 0 };
  readonly #backend: PmemBackend;

  constructor(backend: PmemBackend) {
    this.#backend = backend;
    const bytes = new Uint8Array(CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(CONFIG_START, BigInt(backend.addr), true);
    view.setBigUint64(CONFIG_SIZE, BigInt(backend.sizeBytes), true);
    this.config = { bytes };
  }

  activate(): void {}

  notify(queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) this.#answer(queue, chain);
    queue.signal();
  }

  /** Nothing was written, so a flush has nothing to do. */
  #answer(queue: Virtqueue, chain: Chain): void {
    const { reader, writer } = chain;
    const hasRoom = writer.length >= RESPONSE_BYTES;
    const isFlush = reader.length >= REQUEST_BYTES && reader.readU32() === VIRTIO_PMEM_REQ_TYPE_FLUSH;
    if (isFlush && hasRoom) this.counters.flushes++;
    else this.counters.badRequests++;
    if (hasRoom) writer.writeU32(isFlush ? SUCCESS : FAILURE);
    queue.complete(chain, hasRoom ? RESPONSE_BYTES : 0);
  }

  reset(): void {}

  save(): DeviceState {
    const { addr, sizeBytes } = this.#backend;
    return { version: 1, addr, sizeBytes };
  }

  /** The guest has been told where it is, and does not ask again. */
  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 1);
    const { addr, sizeBytes } = this.#backend;
    checkState(
      state['addr'] === addr && state['sizeBytes'] === sizeBytes,
      `pmem: it had ${state['sizeBytes']} bytes at ${state['addr']}, not ${sizeBytes} at ${addr}`,
    );
  }

  async close(): Promise<void> {
    await this.#backend.close();
  }
}

export interface PmemConfig {
  /** A regular file, which nobody may write to while a machine has it. */
  readonly path: string;
}

/**
 * Asks for a virtio-pmem over a file: /dev/pmem0 and so on in the guest, read-only.
 *
 * The guest's kernel keeps 64 bytes for each page of it (struct page): 16 MiB for a GiB, of the guest's memory.
 */
export function pmem(config: PmemConfig): DeviceRequest {
  const { path } = config;
  return {
    kind: 'pmem',
    config: { path },
    look: (host) => host.pmem(path),
    open: async (host) => new Pmem(await host.openPmem(path)),
  };
}

const checkPmemConfig = (config: unknown): PmemConfig =>
  checkRequestConfig<PmemConfig>('pmem', config, { path: ['a path', isPath] });

/** A file of the host's, which is only read. */
const pmemHostUse: HostUse = {
  cliArgument: 'N=PATH',
  ownFolder: true,
  pathFields: ['path'],
  slots: (config, ordinal) => [
    { name: `pmem ${ordinal}`, key: `${ordinal}`, wish: { ...checkPmemConfig(config) } },
  ],
  bind: (_config, _slot, binding) => ({ ...checkPmemConfig(binding) }),
  describe: ({ path }, show) => `the file ${show(String(path))}, to read`,
  toCli: ({ key }, { path }) => `${key}=${path}`,
  fromCli(text) {
    const [ordinal, path] = numberedSlot('pmem', text, '0=root.ext4');
    if (!isPath(path)) throw new TsvmError('TSVM_USAGE', `--pmem ${ordinal} needs a path`);
    return [{ slot: `pmem ${ordinal}`, binding: { path } }];
  },
};

export const pmemKind: DeviceKind = {
  summary:
    'a file as read-only memory of the guest’s (/dev/pmem0, ...), shared through the host’s page cache',
  guestKconfig: 'CONFIG_VIRTIO_PMEM',
  cliFlag: 'pmem',
  cliRepeatable: true,
  cliArgument: 'PATH',
  fromCli(text) {
    if (isPath(text)) return pmem({ path: text });
    throw new TsvmError('TSVM_USAGE', '--pmem needs a path', { hint: 'for example: --pmem root.ext4' });
  },
  fromConfig: (config) => pmem(checkPmemConfig(config)),
  hostUse: pmemHostUse,
};
