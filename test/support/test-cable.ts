/** A network that a test holds the other end of. */
import type { FrameSource, NetBackend, NetClient } from '../../src/devices/net-backend.js';

/** Header of a frame that leaves nothing to anybody. */
export const PLAIN_HEADER: Uint8Array = new Uint8Array(12);

/** A frame as if it were in a guest's memory. */
export function frameSource(bytes: Uint8Array): FrameSource {
  return {
    remaining: bytes.length,
    read(target) {
      target.set(bytes);
      return bytes.length;
    },
  };
}

export class TestCable implements NetBackend {
  readonly mtu: number;
  /** Frames that the guest sent. */
  readonly sent: Uint8Array[] = [];
  /** Frames that the guest had no room for, oldest first; while there are any, later ones queue up behind. */
  readonly waiting: Uint8Array[] = [];
  writable = true;
  /** After so many frames it is not writable any more. */
  capacity = Number.POSITIVE_INFINITY;
  flushes = 0;
  closed = false;
  mac: Uint8Array | undefined;
  #client: NetClient | undefined;

  constructor(mtu = 1500) {
    this.mtu = mtu;
  }

  connect(mac: Uint8Array, client: NetClient): void {
    this.mac = mac;
    this.#client = client;
  }

  send(frame: FrameSource): void {
    if (!this.writable) throw new Error('sent while not writable');
    const bytes = new Uint8Array(frame.remaining);
    frame.read(bytes);
    this.sent.push(bytes);
    if (this.sent.length >= this.capacity) this.writable = false;
  }

  flush(): void {
    this.flushes++;
  }

  /** There is room again, for `count` frames. */
  drain(count = Number.POSITIVE_INFINITY): void {
    this.capacity = this.sent.length + count;
    this.writable = true;
    this.#client?.onWritable();
  }

  /** Frames come for the guest. */
  deliver(...frames: Uint8Array[]): void {
    const client = this.#client;
    if (client === undefined) return;
    for (const frame of frames) {
      if (this.waiting.length > 0 || !client.receive(frame)) this.waiting.push(frame);
    }
    client.received();
  }

  resume(): void {
    this.deliver(...this.waiting.splice(0));
  }

  link(up: boolean): void {
    this.#client?.onLink(up);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}
