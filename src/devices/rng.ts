/**
 * virtio-rng: random bytes for the guest's pool. The model for new devices: copy this file.
 *
 * @spec virtio-1.3 5.4  Entropy device  #yes
 */
import { checkStateVersion } from '../util/state.js';
import type { DeviceState, VirtioDevice, Virtqueue } from '../virtio/device.js';
import type { Host } from './backends/host.js';
import type { DeviceKind, DeviceRequest } from './kind.js';
import { plainKind } from './plain-kind.js';

const DEVICE_ID = 4;
const QUEUE_SIZE = 64;
/** Linux asks for 64 bytes at a time. More than this a request does not get, whatever its size: it costs host CPU. */
const MAX_FILL_BYTES = 4096;
/** Buffer of a driver that asks for more than it gets, as it may. */
const MAX_REQUEST_BYTES = 1 << 20;

export class Rng implements VirtioDevice {
  readonly name = 'rng';
  readonly deviceId = DEVICE_ID;
  readonly features = 0n;
  readonly queueSizes = [QUEUE_SIZE];
  readonly maxRequestBytes = [MAX_REQUEST_BYTES];
  readonly #host: Pick<Host, 'fillRandom'>;

  constructor(host: Pick<Host, 'fillRandom'>) {
    this.#host = host;
  }

  activate(): void {}

  notify(queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const count = Math.min(chain.writer.remaining, MAX_FILL_BYTES);
      for (const bytes of chain.writer.take(count)) this.#host.fillRandom(bytes);
      queue.complete(chain, count);
    }
    queue.signal();
  }

  reset(): void {}

  save(): DeviceState {
    return { version: 1 };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 1);
  }
}

/** Asks for a virtio-rng. */
export function rng(): DeviceRequest {
  return { kind: 'rng', config: {}, open: async (host) => new Rng(host) };
}

export const rngKind: DeviceKind = plainKind(
  'rng',
  { summary: "random bytes for the guest's entropy pool", guestKconfig: 'CONFIG_HW_RANDOM_VIRTIO' },
  rng,
);
