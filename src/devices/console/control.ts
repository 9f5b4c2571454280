/**
 * Messages of a virtio-console with many ports to its driver: for each port, those that are due. It is a set and
 * not a queue, so a driver that asks a thousand times is answered once (virtio 1.3, 5.3.6.2).
 *
 * @spec virtio-1.3 5.3.6.2  Control messages  #yes
 */
import type { Virtqueue } from '../../virtio/device.js';

/** Events of struct virtio_console_control. */
export const VIRTIO_CONSOLE_DEVICE_READY = 0;
export const VIRTIO_CONSOLE_DEVICE_ADD = 1;
export const VIRTIO_CONSOLE_PORT_READY = 3;
export const VIRTIO_CONSOLE_CONSOLE_PORT = 4;
export const VIRTIO_CONSOLE_RESIZE = 5;
export const VIRTIO_CONSOLE_PORT_OPEN = 6;
export const VIRTIO_CONSOLE_PORT_NAME = 7;

/** struct virtio_console_control { le32 id; le16 event; le16 value; } */
export const CONTROL_BYTES = 8;

/** Bits of what is due, the first to be told lowest. */
export const DUE = { ADD: 1, CONSOLE: 2, RESIZE: 4, NAME: 8, OPEN: 16 } as const;
export const DUE_ALL = 31;

/** Contents of the messages about one port. */
export interface PortFacts {
  readonly name: string;
  readonly hostOpen: boolean;
  readonly columns: number;
  readonly rows: number;
}

function header(id: number, event: number, value: number, more = 0): Buffer {
  const message = Buffer.alloc(CONTROL_BYTES + more);
  message.writeUInt32LE(id, 0);
  message.writeUInt16LE(event, 4);
  message.writeUInt16LE(value, 6);
  return message;
}

function encode(id: number, bit: number, port: PortFacts): Uint8Array {
  switch (bit) {
    case DUE.ADD:
      return header(id, VIRTIO_CONSOLE_DEVICE_ADD, 1);
    case DUE.CONSOLE:
      return header(id, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
    case DUE.RESIZE: {
      const message = header(id, VIRTIO_CONSOLE_RESIZE, 0, 4);
      message.writeUInt16LE(port.columns, CONTROL_BYTES);
      message.writeUInt16LE(port.rows, CONTROL_BYTES + 2);
      return message;
    }
    case DUE.NAME:
      return Buffer.concat([header(id, VIRTIO_CONSOLE_PORT_NAME, 1), Buffer.from(port.name)]);
    default:
      return header(id, VIRTIO_CONSOLE_PORT_OPEN, port.hostOpen ? 1 : 0);
  }
}

export class ControlMessages {
  /** Bits of DUE by port. */
  readonly due: number[];
  readonly #facts: (id: number) => PortFacts;

  constructor(portCount: number, facts: (id: number) => PortFacts) {
    this.due = new Array<number>(portCount).fill(0);
    this.#facts = facts;
  }

  clear(): void {
    this.due.fill(0);
  }

  /** Tells as much as the driver left buffers for. One that is too small is returned empty. */
  send(queue: Virtqueue | undefined): void {
    if (queue === undefined) return;
    for (let id = this.#next(); id >= 0; id = this.#next()) {
      const chain = queue.pop();
      if (chain === undefined) break;
      const bits = this.due[id] as number;
      const bit = bits & -bits;
      const message = encode(id, bit, this.#facts(id));
      if (chain.writer.length >= message.length) {
        chain.writer.write(message);
        this.due[id] = bits & ~bit;
      }
      queue.complete(chain, chain.writer.written);
    }
    queue.signal();
  }

  #next(): number {
    return this.due.findIndex((bits) => bits !== 0);
  }
}
