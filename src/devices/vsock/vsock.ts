/**
 * virtio-vsock: stream sockets between programs in the guest and the host.
 *
 * The device buffers nothing. Bytes for the guest stay with the host until there are receive buffers and credit for them;
 * bytes from the guest are handed on at once, and credit for more is given when the host is done with them. What is bounded
 * here: the number of connections (MAX_CONNECTIONS), what each may have unread (BUF_ALLOC_BYTES), and resets that wait to be
 * sent (MAX_RESETS). When the last is full, packets stay in the transmit queue, in the guest's own memory.
 *
 * @spec virtio-1.3 5.10      Socket device                      #yes
 * @spec virtio-1.3 5.10.3    VIRTIO_VSOCK_F_STREAM              #yes
 * @spec virtio-1.3 5.10.3    VIRTIO_VSOCK_F_NO_IMPLIED_STREAM   #yes
 * @spec virtio-1.3 5.10.3    VIRTIO_VSOCK_F_SEQPACKET           #no   Unix stream sockets have no records
 * @spec virtio-1.3 5.10.6.3  Buffer space management            #yes
 * @spec virtio-1.3 5.10.6.7  Device events                      #yes
 */

import { type Clock, systemClock } from '../../util/clock.js';
import { checkState, checkStateVersion } from '../../util/state.js';
import type { Chain } from '../../virtio/chain.js';
import type {
  ConfigSpace,
  DeviceState,
  VirtioContext,
  VirtioDevice,
  Virtqueue,
} from '../../virtio/device.js';
import type { VsockControl, VsockEnd, VsockHost, VsockPeer } from '../backends/vsock.js';
import { BUF_ALLOC_BYTES, DEFAULT_CID, HOST_CID, isGuestCid, NO_CID } from '../backends/vsock.js';
import { CONNECTION_STATE, Connection, type ConnectionOwner } from './connection.js';
import { Outbox } from './outbox.js';
import {
  Packet,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE,
  VIRTIO_VSOCK_OP_RST,
  VIRTIO_VSOCK_OP_RW,
  VIRTIO_VSOCK_OP_SHUTDOWN,
  VIRTIO_VSOCK_TYPE_STREAM,
} from './packet.js';
import { ConnectionTable, isPortNumber } from './table.js';
import { TransportReset } from './transport-reset.js';
import { Waiting } from './waiting.js';

const DEVICE_ID = 19;
/** Linux fills a receive queue with buffers of 4 KiB or a little less. */
const QUEUE_SIZE = 128;
/** Linux sends 64 KiB and a header at most (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE), and receives into less. */
const MAX_REQUEST_BYTES = 128 << 10;
/** Linux makes eight buffers available at once, or none. */
const EVENT_QUEUE_SIZE = 16;

// Queue indices (virtio 1.3, 5.10.2).
const RECEIVE = 0;
const TRANSMIT = 1;
const EVENT = 2;

const VIRTIO_VSOCK_F_STREAM = 1n << 0n;
const VIRTIO_VSOCK_F_NO_IMPLIED_STREAM = 1n << 2n;

// struct virtio_vsock_config (virtio 1.3, 5.10.4)
const CONFIG_BYTES = 8;
const CONFIG_GUEST_CID = 0;

export interface VsockOptions {
  readonly host: Pick<VsockHost, 'onRequest'> & Partial<Pick<VsockHost, 'close'>>;
  readonly cid?: number;
  readonly clock?: Clock;
}

/** Counts of what a guest did that it should not have. */
export type VsockCounters = {
  /** Packets that were shorter than they said, from another CID, or for one that cannot be. */
  droppedPackets: number;
  /** Connections that ended because of a packet that broke the protocol, or the credit. */
  violations: number;
  /** Requests for connections that nobody serves, or for which there was no room. */
  refused: number;
  /** Receive and event buffers with no room for a header. */
  shortBuffers: number;
};

export class Vsock implements VirtioDevice, VsockControl, ConnectionOwner {
  readonly name = 'vsock';
  readonly deviceId = DEVICE_ID;
  readonly features = VIRTIO_VSOCK_F_STREAM | VIRTIO_VSOCK_F_NO_IMPLIED_STREAM;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, EVENT_QUEUE_SIZE];
  readonly maxRequestBytes = [MAX_REQUEST_BYTES, MAX_REQUEST_BYTES, MAX_REQUEST_BYTES];
  readonly config: ConfigSpace;
  readonly counters: VsockCounters = { droppedPackets: 0, violations: 0, refused: 0, shortBuffers: 0 };
  readonly #configView: DataView;
  readonly #host: VsockOptions['host'];
  readonly #table = new ConnectionTable();
  readonly #waiting: Waiting;
  readonly #outbox = new Outbox({
    receiveQueue: () => this.#context?.queues[RECEIVE],
    guestCid: () => this.cid,
    shortBuffer: () => this.counters.shortBuffers++,
    roomAgain: () => this.#takePackets(),
  });
  readonly #packet = new Packet(BUF_ALLOC_BYTES);
  readonly #transportReset: TransportReset;
  /** Connections whose requests wait until the driver is done with a transport reset. */
  #early: Connection[] = [];
  #context: VirtioContext | undefined;
  #streams = false;
  #taking = false;

  constructor(options: VsockOptions) {
    this.#host = options.host;
    const clock = options.clock ?? systemClock;
    this.#waiting = new Waiting(clock, (connection) => this.#enter(() => this.#onTimeout(connection)));
    this.#transportReset = new TransportReset(clock, {
      over: () => this.#enter(() => this.#sendEarly()),
      shortBuffer: () => this.counters.shortBuffers++,
    });
    this.config = { bytes: new Uint8Array(CONFIG_BYTES) };
    this.#configView = new DataView(this.config.bytes.buffer);
    this.#setCid(options.cid ?? DEFAULT_CID);
  }

  get cid(): number {
    return this.#configView.getUint32(CONFIG_GUEST_CID, true);
  }

  #setCid(cid: number): void {
    this.#configView.setUint32(CONFIG_GUEST_CID, cid, true);
  }

  /** Connections that are alive, or that the host has not let go of. */
  get connectionCount(): number {
    return this.#table.count;
  }

  activate(context: VirtioContext): void {
    this.#context = context;
    // virtio 1.3, 5.10.3.2 SHOULD: no feature at all means streams.
    const { features } = context;
    this.#streams =
      (features & VIRTIO_VSOCK_F_STREAM) !== 0n || (features & VIRTIO_VSOCK_F_NO_IMPLIED_STREAM) === 0n;
  }

  notify({ index }: Virtqueue): void {
    if (index === EVENT) this.#sendEvent();
    else if (index === TRANSMIT) this.#takePackets();
    else this.#outbox.pump();
  }

  // Packets from the guest

  #takePackets(): void {
    const queue = this.#context?.queues[TRANSMIT];
    if (queue === undefined || this.#taking) return;
    this.#taking = true;
    try {
      // virtio 1.3, 5.10.6.1 MUST: go on without receive buffers, as long as there is other room for the answers.
      while (!this.#outbox.full) {
        const chain = queue.pop();
        if (chain === undefined) break;
        this.#take(queue, chain);
      }
    } finally {
      this.#taking = false;
    }
    queue.signal();
    this.#outbox.pump();
  }

  /** The chain goes back before anybody is told of what was in it. */
  #take(queue: Virtqueue, chain: Chain): void {
    const packet = this.#packet;
    const shape = packet.read(chain.reader);
    queue.complete(chain, 0);
    if (shape !== 'whole') this.counters.droppedPackets++;
    if (shape === 'short') return;
    const { header } = packet;
    const whole = shape === 'whole';
    if (header.srcCid !== this.cid || header.dstCid === NO_CID) {
      if (whole) this.counters.droppedPackets++;
      return;
    }
    const connection = this.#isOurs() ? this.#table.get(header.srcPort, header.dstPort) : undefined;
    if (connection !== undefined) this.#onPacket(connection, whole ? header.op : 0);
    else if (header.op !== VIRTIO_VSOCK_OP_RST) this.#onUnknown(whole);
  }

  #isOurs(): boolean {
    return (
      this.#packet.header.dstCid === HOST_CID &&
      this.#packet.header.type === VIRTIO_VSOCK_TYPE_STREAM &&
      this.#streams
    );
  }

  /** A packet of no connection. virtio 1.3, 5.10.6.4 MUST: one of an unknown type is answered by a RST too. */
  #onUnknown(whole: boolean): void {
    const { srcPort: guestPort, dstCid: hostCid, dstPort: hostPort, type, op } = this.#packet.header;
    if (whole && op === VIRTIO_VSOCK_OP_REQUEST) {
      if (this.#isOurs() && !this.#table.full && this.#offer(guestPort, hostPort)) return;
      this.counters.refused++;
    }
    this.#outbox.addReset({ guestPort, hostCid, hostPort, type });
  }

  /** False: nobody serves that port. */
  #offer(guestPort: number, hostPort: number): boolean {
    const connection = new Connection(this, CONNECTION_STATE.OFFERED, { guestPort, hostPort });
    connection.credit.update(this.#packet.header.bufAlloc, this.#packet.header.fwdCnt);
    this.#table.add(connection);
    const peer = this.#host.onRequest(connection);
    if (connection.closed) return true; // and reset
    connection.peer = peer;
    if (peer !== undefined) return true;
    this.#forget(connection);
    connection.close();
    return false;
  }

  #onPacket(connection: Connection, op: number): void {
    const { header, payload } = this.#packet;
    const { flags, bufAlloc, fwdCnt } = header;
    const { credit, state } = connection;
    credit.update(bufAlloc, fwdCnt);
    this.#outbox.credited(connection);
    const open = state === CONNECTION_STATE.OPEN;
    switch (op) {
      case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        return;
      case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        connection.post(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        return;
      case VIRTIO_VSOCK_OP_RST:
        this.#finish(connection, connection.bothEnded ? 'closed' : 'reset');
        return;
      case VIRTIO_VSOCK_OP_RESPONSE:
        if (state !== CONNECTION_STATE.REQUESTED) break;
        this.#waiting.remove(connection);
        connection.state = CONNECTION_STATE.OPEN;
        connection.peer?.onOpen();
        return;
      case VIRTIO_VSOCK_OP_SHUTDOWN:
        if (!open && state !== CONNECTION_STATE.LINGERING) break;
        this.#onShutdown(connection, flags);
        return;
      case VIRTIO_VSOCK_OP_RW:
        // virtio 1.3, 5.10.6.5: sent before it heard that the host receives no more.
        if (state === CONNECTION_STATE.LINGERING && !connection.guestEnded) return;
        if (!open || connection.guestEnded || payload === undefined || !credit.receive(payload.length)) break;
        if (payload.length > 0) connection.peer?.onData(payload);
        return;
    }
    this.counters.violations++;
    this.#outbox.reset(connection);
    this.#finish(connection, 'reset');
  }

  #onShutdown(connection: Connection, flags: number): void {
    const { guestEnded, peer } = connection;
    const over = connection.shutDown(flags);
    this.#outbox.credited(connection);
    if (!guestEnded && connection.guestEnded) peer?.onEnd();
    if (!over) return;
    // All that it sent has been handed on, so the answer need not wait for the host to read it.
    this.#outbox.reset(connection);
    this.#finish(connection, 'closed');
  }

  #finish(connection: Connection, end: VsockEnd): void {
    const { peer } = connection;
    this.#forget(connection);
    peer?.onClose(end);
  }

  /** Frees the address of a connection, which counts until the host has let go of it, too. */
  #forget(connection: Connection): void {
    if (connection.state === CONNECTION_STATE.GONE) return;
    connection.state = CONNECTION_STATE.GONE;
    this.#table.remove(connection);
    this.#outbox.forget(connection);
    this.#waiting.remove(connection);
    if (connection.closed) this.#table.release();
  }

  #onTimeout(connection: Connection): void {
    this.#outbox.reset(connection);
    this.#finish(connection, 'timeout');
    this.#outbox.pump();
  }

  // What connections and the host ask for

  connect(port: number, peer: VsockPeer): Connection | undefined {
    if (this.#context === undefined || this.#table.full) return undefined;
    const ports = { guestPort: port, hostPort: this.#table.freePort() };
    const connection = new Connection(this, CONNECTION_STATE.REQUESTED, ports);
    connection.peer = peer;
    this.#table.add(connection);
    this.#waiting.add(connection);
    connection.post(VIRTIO_VSOCK_OP_REQUEST);
    return connection;
  }

  renumber(cid: number): void {
    this.#setCid(cid);
    if (this.#context === undefined) return;
    this.#dropAll();
    this.#transportReset.begin();
    this.#context.configChanged();
    this.#sendEvent();
  }

  packetPending(connection: Connection): void {
    if (this.#transportReset.underway && connection.unheard) {
      this.#early.push(connection);
      return;
    }
    this.#outbox.enqueue(connection);
    this.#pump();
  }

  /** For what comes from the host's side. Without a driver nothing of the guest's is touched. */
  #enter(call: () => void): void {
    if (this.#context === undefined) call();
    else this.#context.enter(call);
  }

  #sendEarly(): void {
    const early = this.#early;
    this.#early = [];
    for (const connection of early)
      if (connection.state === CONNECTION_STATE.REQUESTED) this.#outbox.enqueue(connection);
    this.#pump();
  }

  transmit(connection: Connection, bytes: Uint8Array): number {
    let taken = 0;
    this.#enter(() => {
      taken = this.#outbox.transmit(connection, bytes);
    });
    return taken;
  }

  abort(connection: Connection): void {
    this.#outbox.reset(connection);
    this.#forget(connection);
    this.#pump();
  }

  linger(connection: Connection): void {
    connection.state = CONNECTION_STATE.LINGERING;
    this.#waiting.add(connection);
  }

  released(): void {
    this.#table.release();
  }

  /** Packets that are being taken are answered all together, afterwards. */
  #pump(): void {
    if (!this.#taking) this.#enter(() => this.#outbox.pump());
  }

  #sendEvent(): void {
    const queue = this.#context?.queues[EVENT];
    // The driver's time to take it in begins when it runs.
    if (queue?.held === false) this.#transportReset.send(queue);
  }

  /** Ends every connection without a word to the guest, which knows, or is told otherwise. */
  #dropAll(): void {
    this.#outbox.clear();
    this.#early = [];
    for (const connection of this.#table.all()) this.#finish(connection, 'reset');
  }

  reset(): void {
    this.#context = undefined;
    this.#transportReset.cancel();
    this.#dropAll();
  }

  /**
   * Connections are not saved: what is at their other end is not. The guest has sockets of them until its programs close them, so that their
   * addresses are not to be used again.
   */
  save(): DeviceState {
    return { version: 1, cid: this.cid, nextPort: this.#table.nextPort };
  }

  restore(state: DeviceState): void {
    checkStateVersion(this.name, state, 1);
    const { cid, nextPort = 0 } = state as { cid?: unknown; nextPort?: unknown };
    checkState(isGuestCid(cid), 'vsock: the CID');
    checkState(isPortNumber(nextPort), 'vsock: the next port');
    this.#table.nextPort = nextPort;
    this.#setCid(cid);
    // The guest may believe in connections; a driver that is not at work yet has none, and `reset` comes before it is.
    this.#transportReset.begin();
  }

  async close(): Promise<void> {
    this.reset();
    await this.#host.close?.();
  }
}
