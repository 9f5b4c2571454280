/** A device that leaves all to the test. */
import type { DeviceState, VirtioContext, VirtioDevice, Virtqueue } from '../../src/virtio/device.js';

export const PROBE_FEATURE = 1n << 5n;

/** Two queues, seven bytes of configuration of which the first may be written, and a reset as slow as the test likes. */
export class Probe implements VirtioDevice {
  readonly name = 'probe';
  readonly deviceId = 42;
  readonly features = PROBE_FEATURE;
  readonly queueSizes = [8, 16];
  readonly config = {
    bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7),
    write: (offset: number, data: Uint8Array): void => {
      if (offset === 0) this.config.bytes.set(data);
    },
  };
  context: VirtioContext | undefined;
  resets = 0;
  notified: number[] = [];
  finishReset: (() => void) | undefined;
  slowReset = false;
  state: DeviceState = { version: 1, secret: 7 };
  onNotify: (queue: Virtqueue) => void = () => {};

  activate(context: VirtioContext): void {
    this.context = context;
  }

  notify(queue: Virtqueue): void {
    this.notified.push(queue.index);
    this.onNotify(queue);
  }

  reset(): void | Promise<void> {
    this.resets++;
    this.context = undefined;
    if (this.slowReset) {
      return new Promise((resolve) => {
        this.finishReset = resolve;
      });
    }
  }

  save(): DeviceState {
    return this.state;
  }

  restore(state: DeviceState): void {
    this.state = state;
  }

  /** A queue that works. */
  queue(index: number): Virtqueue {
    const queue = this.context?.queues[index];
    if (queue === undefined) throw new Error(`queue ${index} does not work`);
    return queue;
  }
}

/** Serves whatever comes, a byte each. */
export function serve(queue: Virtqueue): void {
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) queue.complete(chain, 1);
  queue.signal();
}
