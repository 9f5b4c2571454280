/**
 * virtio-console: one terminal, without the multiport extension.
 *
 * @spec virtio-1.3 5.3    Console device               #yes
 * @spec virtio-1.3 5.3.3  VIRTIO_CONSOLE_F_SIZE        #yes
 * @spec virtio-1.3 5.3.3  VIRTIO_CONSOLE_F_MULTIPORT   #no  one terminal is what a console is for
 * @spec virtio-1.3 5.3.3  VIRTIO_CONSOLE_F_EMERG_WRITE #no  the serial port serves for that
 */
import { TsvmError } from '../../errors.js';
import { ByteQueue } from '../../util/byte-queue.js';
import { checkState, checkStateVersion } from '../../util/state.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import type { DeviceKind, DeviceRequest } from '../device-kind.js';
import type { ConsoleInput, ConsolePort } from '../host.js';
import { checkRequestConfig } from '../request-config.js';

const DEVICE_ID = 3;
const QUEUE_SIZE = 64;
const RECEIVE = 0;
const TRANSMIT = 1;

const VIRTIO_CONSOLE_F_SIZE = 1n << 0n;

// struct virtio_console_config (virtio 1.3, 5.3.4)
const CONFIG_BYTES = 12;
const CONFIG_COLS = 0;
const CONFIG_ROWS = 2;
const CONFIG_MAX_PORTS = 4;

/** Typed, pasted or piped text that waits for the guest's buffers; what does not fit stays with the sender. */
const INPUT_QUEUE_BYTES = 16 * 1024;
/** Output handed to the host in one call. Guest memory is copied out first, since the guest may change it meanwhile. */
const OUTPUT_BATCH_BYTES = 16 * 1024;
/** Of one transmit buffer; the rest is dropped and counted. Linux sends 32 KiB at most, a hostile driver 4 GiB. */
const MAX_TRANSMIT_BYTES = 64 * 1024;

export interface ConsoleOptions {
  /** What the guest printed, in order. The array is valid during the call only. */
  onOutput(bytes: Uint8Array): void;
  /** There is room for input again after `input` took less than it was given. */
  onDrain?(): void;
  readonly columns?: number;
  readonly rows?: number;
}

export class Console implements VirtioDevice, ConsoleInput {
  readonly name = 'console';
  readonly deviceId = DEVICE_ID;
  readonly features = VIRTIO_CONSOLE_F_SIZE;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE];
  readonly config: ConfigSpace;
  /** Output that was beyond MAX_TRANSMIT_BYTES. */
  droppedBytes = 0;
  readonly #options: ConsoleOptions;
  readonly #configView: DataView;
  readonly #pending = new ByteQueue(INPUT_QUEUE_BYTES);
  readonly #batch = new Uint8Array(OUTPUT_BATCH_BYTES);
  #refusedInput = false;
  #context: VirtioContext | undefined;

  constructor(options: ConsoleOptions) {
    this.#options = options;
    const bytes = new Uint8Array(CONFIG_BYTES);
    this.config = { bytes };
    this.#configView = new DataView(bytes.buffer);
    this.#configView.setUint16(CONFIG_COLS, options.columns ?? 80, true);
    this.#configView.setUint16(CONFIG_ROWS, options.rows ?? 25, true);
    this.#configView.setUint32(CONFIG_MAX_PORTS, 1, true);
  }

  activate(context: VirtioContext): void {
    this.#context = context;
  }

  notify(queue: Virtqueue): void {
    if (queue.index === TRANSMIT) this.#transmit(queue);
    else this.#receive();
  }

  /** Input from the host. Returns how many bytes were taken. */
  input(bytes: Uint8Array): number {
    const taken = this.#pending.push(bytes);
    this.#refusedInput ||= taken < bytes.length;
    this.#receive();
    return taken;
  }

  /** The host's terminal changed its size. */
  resize(columns: number, rows: number): void {
    this.#configView.setUint16(CONFIG_COLS, columns, true);
    this.#configView.setUint16(CONFIG_ROWS, rows, true);
    this.#context?.configChanged();
  }

  #transmit(queue: Virtqueue): void {
    const batch = this.#batch;
    let used = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const { reader } = chain;
      const dropped = Math.max(reader.length - MAX_TRANSMIT_BYTES, 0);
      this.droppedBytes += dropped;
      while (reader.remaining > dropped) {
        used += reader.read(batch.subarray(used, used + reader.remaining - dropped));
        if (used === batch.length) {
          this.#options.onOutput(batch);
          used = 0;
        }
      }
      queue.complete(chain, 0);
    }
    if (used > 0) this.#options.onOutput(batch.subarray(0, used));
    queue.signal();
  }

  /** Moves input into the guest's buffers, as far as there are any. Without input, no buffer is taken. */
  #receive(): void {
    const queue = this.#context?.queues[RECEIVE];
    if (queue === undefined) return;
    while (this.#pending.length > 0) {
      const chain = queue.pop();
      if (chain === undefined) break;
      for (const bytes of chain.writer.take(Math.min(chain.writer.length, this.#pending.length))) {
        this.#pending.shiftInto(bytes);
      }
      queue.complete(chain, chain.writer.written);
    }
    queue.signal();
    if (this.#refusedInput && this.#pending.length <= INPUT_QUEUE_BYTES / 2) {
      this.#refusedInput = false;
      this.#options.onDrain?.();
    }
  }

  /** What was typed and not yet read stays for the next driver. */
  reset(): void {
    this.#context = undefined;
  }

  save(): DeviceState {
    return {
      version: 1,
      columns: this.#configView.getUint16(CONFIG_COLS, true),
      rows: this.#configView.getUint16(CONFIG_ROWS, true),
      pending: this.#pending.toArray(),
    };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 1);
    const { columns, rows, pending } = state as { columns?: unknown; rows?: unknown; pending?: unknown };
    checkState(typeof columns === 'number' && typeof rows === 'number', 'console: size');
    checkState(Array.isArray(pending) && pending.length <= INPUT_QUEUE_BYTES, 'console: pending input');
    this.#configView.setUint16(CONFIG_COLS, columns, true);
    this.#configView.setUint16(CONFIG_ROWS, rows, true);
    this.#pending.clear();
    this.#pending.push(Uint8Array.from(pending as number[]));
  }
}

/** Asks for a virtio-console at the machine's terminal. */
export function virtioConsole(): DeviceRequest {
  return {
    kind: 'console',
    config: {},
    async open(host) {
      const port: ConsolePort = host.openConsole();
      const device = new Console({
        onOutput: (bytes) => port.onOutput(bytes),
        onDrain: () => port.onDrain(),
      });
      port.connect(device);
      return device;
    },
  };
}

export const consoleKind: DeviceKind = {
  summary: 'a terminal (hvc0) that moves whole buffers, not single bytes',
  guestKconfig: 'CONFIG_VIRTIO_CONSOLE',
  cliArgument: 'virtio',
  fromCli(text) {
    if (text !== 'virtio' && text !== '') {
      throw new TsvmError('TSVM_USAGE', `--console: there is no console '${text}'`, {
        hint: 'one of serial, virtio, none',
      });
    }
    return virtioConsole();
  },
  fromConfig(config) {
    checkRequestConfig('console', config, {});
    return virtioConsole();
  },
};
