/**
 * Packets for the guest that wait for receive buffers: resets first, then pending packets of connections, then their data.
 *
 * So nothing that says how a connection stands is overtaken by its data, and senders share the buffers by turns.
 */

import type { Chain } from '../../virtio/chain.js';
import type { Virtqueue } from '../../virtio/device.js';
import { BUF_ALLOC_BYTES, HOST_CID } from '../backends/vsock.js';
import type { Connection } from './connection.js';
import {
  HEADER_BYTES,
  newHeader,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_RST,
  VIRTIO_VSOCK_OP_RW,
  VIRTIO_VSOCK_OP_SHUTDOWN,
  VIRTIO_VSOCK_TYPE_STREAM,
  writeHeader,
} from './packet.js';

/** Resets that wait to be sent before the guest's packets have to wait: what a burst of requests to nobody may take. */
export const MAX_RESETS = 1024;

/** A RST to somebody that is no connection, or no longer. */
export interface Reset {
  readonly guestPort: number;
  readonly hostCid: number;
  readonly hostPort: number;
  readonly type: number;
}

/** Services of the device for an outbox, and events for it. */
export interface OutboxOwner {
  /** Queue of receive buffers, while the driver has one. */
  receiveQueue(): Virtqueue | undefined;
  guestCid(): number;
  /** A receive buffer had no room for a header. */
  shortBuffer(): void;
  /** It was full, and has room again. */
  roomAgain(): void;
}

export class Outbox {
  readonly #owner: OutboxOwner;
  readonly #resets: Reset[] = [];
  // Sets keep the order of arrival, and hold nobody twice.
  readonly #hasPending = new Set<Connection>();
  readonly #senders = new Set<Connection>();
  readonly #header = newHeader();
  #pumping = false;
  /** The last look for a receive buffer found none. */
  #dry = false;
  #wasFull = false;

  constructor(owner: OutboxOwner) {
    this.#owner = owner;
  }

  get full(): boolean {
    this.#wasFull ||= this.#resets.length >= MAX_RESETS;
    return this.#resets.length >= MAX_RESETS;
  }

  addReset(reset: Reset): void {
    this.#resets.push(reset);
  }

  /** A RST for a connection that ends. */
  reset({ guestPort, hostPort, unheard }: Connection): void {
    if (!unheard) this.addReset({ guestPort, hostCid: HOST_CID, hostPort, type: VIRTIO_VSOCK_TYPE_STREAM });
  }

  enqueue(connection: Connection): void {
    this.#hasPending.add(connection);
  }

  /** The guest has room for more, perhaps, or wants nothing any more; then a sender must not wait for it. */
  credited(connection: Connection): void {
    const { starved, credit, guestReceives } = connection;
    if (!starved || (credit.sendable === 0 && guestReceives)) return;
    connection.starved = false;
    this.#senders.add(connection);
  }

  forget(connection: Connection): void {
    this.#hasPending.delete(connection);
    this.#senders.delete(connection);
  }

  clear(): void {
    this.#resets.length = 0;
    this.#hasPending.clear();
    this.#senders.clear();
  }

  /** Sends what waits, as far as there are receive buffers. */
  pump(): void {
    const queue = this.#owner.receiveQueue();
    if (queue === undefined || this.#pumping) return;
    this.#pumping = true;
    this.#dry = false;
    try {
      while (this.#sendNext(queue));
    } finally {
      this.#pumping = false;
    }
    queue.signal();
    if (!this.#wasFull || this.#resets.length > MAX_RESETS / 2) return;
    this.#wasFull = false;
    this.#owner.roomAgain();
  }

  /** False: there is nothing to send, or no buffer to send it in. */
  #sendNext(queue: Virtqueue): boolean {
    const reset = this.#resets[0];
    if (reset !== undefined) return this.#sendReset(queue, reset);
    const [connection] = this.#hasPending;
    if (connection !== undefined) return this.#sendPending(queue, connection);
    const [sender] = this.#senders;
    if (sender === undefined) return false;
    this.#senders.delete(sender);
    sender.peer?.onDrain();
    return !this.#dry;
  }

  #sendReset(queue: Virtqueue, reset: Reset): boolean {
    const chain = this.#room(queue);
    if (chain === undefined) return false;
    this.#resets.shift();
    const header = this.#header;
    header.srcCid = reset.hostCid;
    header.srcPort = reset.hostPort;
    header.dstPort = reset.guestPort;
    header.type = reset.type;
    header.op = VIRTIO_VSOCK_OP_RST;
    header.flags = 0;
    header.bufAlloc = 0;
    header.fwdCnt = 0;
    this.#complete(queue, chain, undefined);
    return true;
  }

  #sendPending(queue: Virtqueue, connection: Connection): boolean {
    const chain = this.#room(queue);
    if (chain === undefined) return false;
    const op = connection.takePending();
    if (!connection.hasPending) this.#hasPending.delete(connection);
    const flags = op === VIRTIO_VSOCK_OP_SHUTDOWN ? connection.takeShutdownFlags() : 0;
    this.#address(connection, op, flags);
    this.#complete(queue, chain, undefined);
    return true;
  }

  /** Moves bytes of a connection's into receive buffers; returns how many. The connection is told when it can go on. */
  transmit(connection: Connection, bytes: Uint8Array): number {
    const queue = this.#owner.receiveQueue();
    // Others have waited longer for buffers, or have to be told first of what comes before.
    const others = this.#resets.length + this.#hasPending.size + (this.#pumping ? 0 : this.#senders.size);
    let sent = 0;
    if (queue !== undefined && others === 0) {
      while (sent < bytes.length) {
        const count = Math.min(bytes.length - sent, connection.credit.sendable);
        const chain = count === 0 ? undefined : this.#room(queue);
        if (chain === undefined) break;
        sent += this.#sendData(queue, chain, connection, bytes.subarray(sent, sent + count));
      }
      if (!this.#pumping) queue.signal();
    }
    if (sent < bytes.length) this.#wait(connection);
    return sent;
  }

  #wait(connection: Connection): void {
    if (connection.credit.sendable > 0) {
      this.#senders.add(connection);
    } else if (!connection.starved) {
      connection.starved = true;
      // virtio 1.3, 5.10.6.3: a driver may say how much room there is only when it is asked.
      connection.post(VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    }
  }

  /** A packet with as many of `bytes` as the buffer has room for; none of them makes it a CREDIT_UPDATE. */
  #sendData(queue: Virtqueue, chain: Chain, connection: Connection, bytes: Uint8Array): number {
    const count = Math.min(bytes.length, chain.writer.length - HEADER_BYTES);
    this.#address(connection, count === 0 ? VIRTIO_VSOCK_OP_CREDIT_UPDATE : VIRTIO_VSOCK_OP_RW, 0);
    connection.credit.sent(count);
    this.#complete(queue, chain, bytes.subarray(0, count));
    return count;
  }

  /** virtio 1.3, 5.10.6.3 MUST: every packet of a flow says truly how much room there is. */
  #address(connection: Connection, op: number, flags: number): void {
    const header = this.#header;
    header.srcCid = HOST_CID;
    header.srcPort = connection.hostPort;
    header.dstPort = connection.guestPort;
    header.type = VIRTIO_VSOCK_TYPE_STREAM;
    header.op = op;
    header.flags = flags;
    header.bufAlloc = BUF_ALLOC_BYTES;
    header.fwdCnt = connection.credit.announce();
  }

  #complete(queue: Virtqueue, chain: Chain, payload: Uint8Array | undefined): void {
    const header = this.#header;
    header.dstCid = this.#owner.guestCid();
    header.len = payload?.length ?? 0;
    writeHeader(chain.writer, header);
    if (payload !== undefined) chain.writer.write(payload);
    queue.complete(chain, chain.writer.written);
  }

  /** A receive buffer with room for a header. */
  #room(queue: Virtqueue): Chain | undefined {
    for (;;) {
      const chain = queue.pop();
      this.#dry = chain === undefined;
      if (chain === undefined || chain.writer.length >= HEADER_BYTES) return chain;
      this.#owner.shortBuffer();
      queue.complete(chain, 0);
    }
  }
}
