/** Plays the guest's vsock driver: packets as objects, receive buffers that it replaces or withholds. */
import type { VsockConnection, VsockEnd, VsockPeer } from '../../src/devices/backends/vsock.js';
import type { MockQueue, Rig, StartOptions } from './mock-driver.js';

export const OP = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;

export const GUEST_CID = 3;

export interface GuestPacket {
  readonly op: number;
  readonly guestPort: number;
  readonly hostPort: number;
  readonly payload?: Uint8Array;
  readonly flags?: number;
  readonly bufAlloc?: number;
  readonly fwdCnt?: number;
  readonly type?: number;
  readonly srcCid?: bigint;
  readonly dstCid?: bigint;
  /** Length that the header says, if that is not the payload's. */
  readonly len?: number;
}

export interface HostPacket {
  readonly op: number;
  readonly guestPort: number;
  readonly hostPort: number;
  readonly payload: Buffer;
  readonly flags: number;
  readonly bufAlloc: number;
  readonly fwdCnt: number;
  readonly type: number;
  readonly srcCid: bigint;
  readonly dstCid: bigint;
}

export const BUFFER_BYTES = 4096;
/** Flags of descriptors; bytes of a table of two. */
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const TABLE_BYTES = 32;

export class VsockDriver {
  /** Bytes of a buffer's first descriptor, the second has the rest; 0: each buffer is one descriptor. */
  cutBytes = 0;
  readonly rig: Rig;
  readonly rx: MockQueue;
  readonly tx: MockQueue;
  readonly events: MockQueue;
  /** Descriptors of the transmit queue are used round and round. Big packets must not wait, or they are written over. */
  readonly #txBuffers: number;
  readonly #smallBuffers: number;
  readonly #tables: number;
  #nextTx = 0;
  readonly #rxBuffers = new Map<number, { addr: number; length: number }>();

  constructor(rig: Rig, options: StartOptions = {}) {
    this.rig = rig;
    rig.driver.start(options);
    this.rx = rig.driver.queue(0);
    this.tx = rig.driver.queue(1);
    this.events = rig.driver.queue(2);
    this.#txBuffers = rig.driver.allocate(BIG_BUFFERS * TX_BYTES);
    this.#smallBuffers = rig.driver.allocate(this.tx.size * SMALL_BYTES);
    this.#tables = rig.driver.allocate((this.rx.size + this.tx.size) * TABLE_BYTES, TABLE_BYTES);
  }

  /** Adds receive buffers and kicks. They are written over and over: read what came before adding `rx.size` more. */
  give(count: number, length: number = BUFFER_BYTES): this {
    for (let i = 0; i < count; i++) {
      const [head] = this.#free;
      if (head === undefined) throw new Error('the driver is out of receive buffers');
      const addr = this.#addrOf(head);
      this.#free.delete(head);
      this.#describe(this.rx, head, { addr, length, flags: WRITE });
      this.#rxBuffers.set(head, { addr, length });
      this.rx.rawPublish(head);
    }
    this.rx.kick();
    return this;
  }

  readonly #free = new Set(Array.from({ length: 128 }, (_, i) => i));
  readonly #addrs = new Map<number, number>();

  #addrOf(head: number): number {
    const known = this.#addrs.get(head);
    if (known !== undefined) return known;
    const addr = this.rig.driver.allocate(BUFFER_BYTES);
    this.#addrs.set(head, addr);
    return addr;
  }

  /** Puts a buffer into one descriptor, or into a table of two. */
  #describe(queue: MockQueue, head: number, buffer: { addr: number; length: number; flags: number }): void {
    const { addr, length, flags } = buffer;
    if (this.cutBytes === 0 || this.cutBytes >= length) {
      queue.rawDescriptor(head, buffer);
      return;
    }
    const table = this.#tables + (queue.index * this.rx.size + head) * TABLE_BYTES;
    queue.rawDescriptor(0, { addr, length: this.cutBytes, flags: flags | NEXT, next: 1 }, table);
    queue.rawDescriptor(1, { addr: addr + this.cutBytes, length: length - this.cutBytes, flags }, table);
    queue.rawDescriptor(head, { addr: table, length: TABLE_BYTES, flags: INDIRECT });
  }

  /** Sends a packet; the device must have returned the ones before by then, unless they wait. */
  send(packet: GuestPacket): void {
    this.queueUp(packet);
    this.tx.kick();
  }

  /** Makes a packet available without telling. */
  queueUp(packet: GuestPacket): void {
    const payload = packet.payload ?? new Uint8Array(0);
    const header = Buffer.alloc(44);
    header.writeBigUInt64LE(packet.srcCid ?? BigInt(GUEST_CID), 0);
    header.writeBigUInt64LE(packet.dstCid ?? 2n, 8);
    header.writeUInt32LE(packet.guestPort, 16);
    header.writeUInt32LE(packet.hostPort, 20);
    header.writeUInt32LE(packet.len ?? payload.length, 24);
    header.writeUInt16LE(packet.type ?? 1, 28);
    header.writeUInt16LE(packet.op, 30);
    header.writeUInt32LE(packet.flags ?? 0, 32);
    header.writeUInt32LE(packet.bufAlloc ?? 0, 36);
    header.writeUInt32LE(packet.fwdCnt ?? 0, 40);
    this.sendBytes(Buffer.concat([header, payload]));
  }

  sendBytes(bytes: Uint8Array): void {
    const slot = this.#nextTx;
    const small = bytes.length <= SMALL_BYTES;
    const addr = small
      ? this.#smallBuffers + slot * SMALL_BYTES
      : this.#txBuffers + (slot % BIG_BUFFERS) * TX_BYTES;
    this.#nextTx = (slot + 1) % this.tx.size;
    this.rig.memory.write(addr, bytes);
    this.#describe(this.tx, slot, { addr, length: bytes.length, flags: 0 });
    this.tx.rawPublish(slot);
  }

  /** Packets that came since the last call. */
  take(): HostPacket[] {
    return this.rx.used().map(({ head, length }) => {
      const { addr } = this.#rxBuffers.get(head) as { addr: number };
      this.#free.add(head);
      const bytes = Buffer.from(this.rig.memory.read(addr, length));
      if (length < 44) throw new Error(`a packet of ${length} bytes`);
      const len = bytes.readUInt32LE(24);
      if (len !== length - 44) throw new Error(`len ${len} in a packet of ${length} bytes`);
      return {
        srcCid: bytes.readBigUInt64LE(0),
        dstCid: bytes.readBigUInt64LE(8),
        hostPort: bytes.readUInt32LE(16),
        guestPort: bytes.readUInt32LE(20),
        type: bytes.readUInt16LE(28),
        op: bytes.readUInt16LE(30),
        flags: bytes.readUInt32LE(32),
        bufAlloc: bytes.readUInt32LE(36),
        fwdCnt: bytes.readUInt32LE(40),
        payload: bytes.subarray(44),
      };
    });
  }

  /** Adds event buffers and kicks; returns a function that says what came into them since. */
  giveEvents(count: number): () => number[] {
    const requests = Array.from({ length: count }, () => this.events.add([], [4]));
    this.events.kick();
    return () =>
      this.events.used().map(({ head, length }) => {
        const addr = requests.find((request) => request.head === head)?.writable[0]?.addr ?? 0;
        if (length !== 4) throw new Error(`an event of ${length} bytes`);
        return this.rig.memory.readU32(addr);
      });
  }
}

const TX_BYTES = 72 * 1024;
const BIG_BUFFERS = 8;
const SMALL_BYTES = 256;

/** The host's side of a connection that keeps what it is told, and is done with bytes when it is told to be. */
export class RecordingPeer implements VsockPeer {
  readonly log: string[] = [];
  received = '';
  connection: VsockConnection | undefined;
  /** Bytes that wait to be sent. */
  unsent: Uint8Array = new Uint8Array(0);

  onOpen(): void {
    this.log.push('open');
  }

  onData(bytes: Uint8Array): void {
    this.received += Buffer.from(bytes).toString('latin1');
  }

  onDrain(): void {
    this.send(new Uint8Array(0));
  }

  onEnd(): void {
    this.log.push('end');
  }

  onClose(end: VsockEnd): void {
    this.log.push(end);
  }

  /** Sends these bytes after all that waits. */
  send(bytes: Uint8Array): void {
    const all = Buffer.concat([this.unsent, bytes]);
    this.unsent = all.subarray(this.connection?.send(all) ?? 0);
  }
}
