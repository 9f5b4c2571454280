/**
 * virtio-fs: files for the guest, out of any {@link FileSystem}. Requests are FUSE's; the session answers them, this file moves
 * them.
 *
 * @spec virtio-1.3 5.11        File system device            #yes
 * @spec virtio-1.3 5.11.2      Notification queue            #no   what changes on the host is seen after a second
 * @spec virtio-1.3 5.11.6.4    DAX window                    #no
 */
import { TsvmError } from '../../errors.js';
import { DurationHistogram } from '../../util/histogram.js';
import { checkStateVersion } from '../../util/state.js';
import type { Chain } from '../../virtio/chain.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import type { DeviceKind, DeviceRequest } from '../device-kind.js';
import type { FileSystem } from '../fuse/file-system.js';
import { MAX_TRANSFER_BYTES } from '../fuse/messages.js';
import { FuseSession } from '../fuse/session.js';
import { InFlight } from '../in-flight.js';
import {
  checkShareConfig,
  isTag,
  parseShare,
  SHARE_ARGUMENT,
  type ShareConfig,
  shareHostUse,
  TAG_BYTES,
} from '../share-config.js';

const DEVICE_ID = 26;
/** A request of 256 pages, with its header, fits (fs/fuse/virtio_fs.c asks for so many). */
const QUEUE_SIZE = 512;
/** hiprio, which has what must not wait behind requests: forgets (virtio 1.3, 5.11.2). */
const HIPRIO = 0;

// struct virtio_fs_config (virtio 1.3, 5.11.4)
const CONFIG_BYTES = TAG_BYTES + 4;
const CONFIG_NUM_REQUEST_QUEUES = TAG_BYTES;

/** The longest is a READ or WRITE of {@link MAX_TRANSFER_BYTES}, with headers of less than a page on each side. */
const MAX_REQUEST_BYTES = MAX_TRANSFER_BYTES + 2 * 4096;

/** Requests at a time: what may wait for a share's threads. */
const MAX_IN_FLIGHT = 32;

export interface FsOptions {
  readonly fileSystem: FileSystem;
  readonly tag: string;
  readonly readOnly: boolean;
}

export type FsCounters = { requests: number; forgets: number };

export class Fs implements VirtioDevice {
  readonly name = 'fs';
  readonly deviceId = DEVICE_ID;
  readonly features = 0n;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE];
  readonly maxRequestBytes = [MAX_REQUEST_BYTES, MAX_REQUEST_BYTES];
  readonly config: ConfigSpace;
  readonly counters: FsCounters = { requests: 0, forgets: 0 };
  readonly durations = { request: new DurationHistogram() };
  readonly #fileSystem: FileSystem;
  readonly #session: FuseSession;
  #context: VirtioContext | undefined;
  readonly #inFlight = new InFlight(MAX_IN_FLIGHT);
  /** Counts resets: what was begun before one must not touch guest memory after it. */
  #epoch = 0;

  constructor({ fileSystem, tag, readOnly }: FsOptions) {
    this.#fileSystem = fileSystem;
    this.#session = new FuseSession(fileSystem, { readOnly });
    const bytes = new Uint8Array(CONFIG_BYTES);
    new TextEncoder().encodeInto(tag, bytes.subarray(0, TAG_BYTES));
    new DataView(bytes.buffer).setUint32(CONFIG_NUM_REQUEST_QUEUES, 1, true);
    this.config = { bytes };
  }

  activate(context: VirtioContext): void {
    this.#context = context;
  }

  notify(): void {
    this.#pump();
  }

  #pump(): void {
    const context = this.#context;
    for (const queue of context?.queues ?? []) {
      while (queue !== undefined && this.#inFlight.hasRoom) {
        const chain = queue.pop();
        if (chain === undefined) break;
        this.#start(context as VirtioContext, queue, chain);
      }
      queue?.signal();
    }
  }

  #start(context: VirtioContext, queue: Virtqueue, chain: Chain): void {
    if (queue.index === HIPRIO) this.counters.forgets++;
    else this.counters.requests++;
    const epoch = this.#epoch;
    const startMs = performance.now();
    this.#inFlight.begin();
    const finish = (written: number): void =>
      context.enter(() => {
        this.durations.request.record(performance.now() - startMs);
        if (epoch === this.#epoch) queue.complete(chain, written);
        this.#inFlight.end();
        this.#pump();
      });
    // A session answers what goes wrong. What it cannot has no room for an answer.
    this.#session.handle(chain).then(finish, () => finish(0));
  }

  reset(): void | Promise<void> {
    this.#epoch++;
    this.#context = undefined;
    if (!this.#inFlight.isEmpty || !this.#session.isEmpty) return this.#forgetAll();
  }

  async #forgetAll(): Promise<void> {
    this.#session.stopRecalling();
    await this.#inFlight.none();
    await this.#session.clear();
  }

  drain(): Promise<void> {
    return this.#inFlight.drain();
  }

  resume(): void {
    this.#inFlight.resume();
  }

  save(): DeviceState {
    return { version: 1, ...this.#session.save() };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 1);
    this.#session.restore(state as DeviceState & Readonly<Record<string, unknown>>);
  }

  async close(): Promise<void> {
    await this.reset();
    await this.#fileSystem.close?.();
  }
}

/** Options of {@link share}: a folder of the host's, or a file system in TypeScript. */
export type Share = ShareConfig | (Omit<ShareConfig, 'path' | 'xattr'> & { readonly fileSystem: FileSystem });

/**
 * Asks for a virtio-fs. One with a folder is saved by the names of what the guest uses; a machine with a file system of its own
 * cannot be saved or forked.
 *
 * @example
 * ```ts
 * import { share } from 'tsvm';
 *
 * share({ path: 'src', tag: 'src', readOnly: true }); // in the guest: mount -t virtiofs src /mnt
 * ```
 */
export function share(config: Share): DeviceRequest {
  const { tag, readOnly = false } = config;
  if (!isTag(tag))
    throw new TsvmError(
      'TSVM_CONFIG',
      `share: the tag '${tag}' is not 1 to ${TAG_BYTES} printable ASCII characters`,
    );
  if ('fileSystem' in config) {
    const { fileSystem } = config;
    return { kind: 'fs', open: async () => new Fs({ fileSystem, tag, readOnly }) };
  }
  const { path, xattr = false } = checkShareConfig(config);
  return {
    kind: 'fs',
    config: { path, tag, readOnly, xattr },
    look: (host) => host.share(path),
    open: async (host) => new Fs({ fileSystem: await host.openShare(path, { xattr }), tag, readOnly }),
  };
}

export const fsKind: DeviceKind = {
  summary: 'a folder of the host (mount -t virtiofs TAG /mnt)',
  guestKconfig: 'CONFIG_VIRTIO_FS',
  cliFlag: 'share',
  cliRepeatable: true,
  cliArgument: SHARE_ARGUMENT,
  fromCli: (text) => share(parseShare(text)),
  fromConfig: (config) => share(checkShareConfig(config)),
  hostUse: shareHostUse,
};
