/**
 * One vsock connection: its state, the packets that are pending for the guest, and what the guest may do to it.
 *
 * ```text
 * host asks:   REQUESTED ── RESPONSE ──▶ OPEN ── host let go: both ended, or it left ▶ LINGERING ─ RST ▶ GONE
 * guest asks:  OFFERED ──── accept() ──▶ OPEN ── SHUTDOWN of both, answered by RST ─────────────────▶ GONE
 * ```
 *
 * From everywhere a RST, either side's, leads to GONE.
 *
 * @spec virtio-1.3 5.10.6.5  Stream sockets  #yes
 */
import type { VsockConnection, VsockPeer } from '../backends/vsock.js';
import { Credit } from './credit.js';
import {
  SHUTDOWN_BOTH,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE,
  VIRTIO_VSOCK_OP_SHUTDOWN,
  VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE,
  VIRTIO_VSOCK_SHUTDOWN_F_SEND,
} from './packet.js';

export const CONNECTION_STATE = { REQUESTED: 0, OFFERED: 1, OPEN: 2, LINGERING: 3, GONE: 4 } as const;
export type ConnectionState = (typeof CONNECTION_STATE)[keyof typeof CONNECTION_STATE];

/** Packets in the order in which they go out. A bit each: of one kind, one is enough. */
const PENDING_OPS = [
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE,
  VIRTIO_VSOCK_OP_SHUTDOWN,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE,
] as const;

/** Services of the device for a connection. */
export interface ConnectionOwner {
  /** A packet for the guest is pending. */
  packetPending(connection: Connection): void;
  /** Moves bytes into receive buffers, as far as there are any; returns how many. */
  transmit(connection: Connection, bytes: Uint8Array): number;
  /** Ends it, and tells the guest. */
  abort(connection: Connection): void;
  /** Waits for the guest's RST. */
  linger(connection: Connection): void;
  /** It is gone, and the host has let go of it. */
  released(connection: Connection): void;
}

export class Connection implements VsockConnection {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly credit = new Credit();
  state: ConnectionState;
  peer: VsockPeer | undefined;
  /** Bytes of the host's wait for the guest to have room. */
  starved = false;
  /** Time by which the guest's answer must have come, for one that waits for it. */
  deadlineMs = 0;
  readonly #owner: ConnectionOwner;
  #pending = 0;
  /** SHUTDOWN flags that came, and that were sent; they never go away again (virtio 1.3, 5.10.6.5). */
  #guestShutdown = 0;
  #sentShutdown = 0;
  #hostEnded = false;
  #hostLeft = false;
  #closed = false;

  constructor(
    owner: ConnectionOwner,
    state: typeof CONNECTION_STATE.REQUESTED | typeof CONNECTION_STATE.OFFERED,
    ports: { readonly guestPort: number; readonly hostPort: number },
  ) {
    this.#owner = owner;
    this.state = state;
    this.guestPort = ports.guestPort;
    this.hostPort = ports.hostPort;
  }

  get hasPending(): boolean {
    return this.#pending !== 0;
  }

  /** The guest never heard of it. */
  get unheard(): boolean {
    return (this.#pending & (1 << VIRTIO_VSOCK_OP_REQUEST)) !== 0;
  }

  /** The host has let go of it. */
  get closed(): boolean {
    return this.#closed;
  }

  get guestEnded(): boolean {
    return (this.#guestShutdown & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0;
  }

  get guestReceives(): boolean {
    return (this.#guestShutdown & VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE) === 0;
  }

  /** Each side has said that it sends no more. */
  get bothEnded(): boolean {
    return this.#hostEnded && this.guestEnded;
  }

  /** Adds the guest's flags. True if it neither sends nor receives any more. */
  shutDown(flags: number): boolean {
    this.#guestShutdown |= flags & SHUTDOWN_BOTH;
    this.#updateShutdown();
    return this.#guestShutdown === SHUTDOWN_BOTH;
  }

  post(op: (typeof PENDING_OPS)[number]): void {
    this.#pending |= 1 << op;
    this.#owner.packetPending(this);
  }

  /** The next pending packet. It counts as sent, and as news of credit, which every packet has with it. */
  takePending(): number {
    const op =
      PENDING_OPS.find((candidate) => (this.#pending & (1 << candidate)) !== 0) ??
      VIRTIO_VSOCK_OP_CREDIT_UPDATE;
    this.#pending &= ~((1 << op) | (1 << VIRTIO_VSOCK_OP_CREDIT_UPDATE));
    return op;
  }

  /** For a SHUTDOWN packet that goes out now. */
  takeShutdownFlags(): number {
    this.#sentShutdown = this.#shutdownFlags;
    return this.#sentShutdown;
  }

  /** The host receives for as long as the guest sends, if it does not leave. */
  get #shutdownFlags(): number {
    if (!this.#hostEnded) return 0;
    return this.guestEnded || this.#hostLeft ? SHUTDOWN_BOTH : VIRTIO_VSOCK_SHUTDOWN_F_SEND;
  }

  #updateShutdown(): void {
    if (this.state === CONNECTION_STATE.OPEN && this.#shutdownFlags !== this.#sentShutdown)
      this.post(VIRTIO_VSOCK_OP_SHUTDOWN);
  }

  accept(): void {
    if (this.state !== CONNECTION_STATE.OFFERED) return;
    this.state = CONNECTION_STATE.OPEN;
    this.post(VIRTIO_VSOCK_OP_RESPONSE);
  }

  send(bytes: Uint8Array): number {
    if (this.state !== CONNECTION_STATE.OPEN) return 0;
    // Nobody will read it; a sender that waits for room would wait for ever.
    if (!this.guestReceives) return bytes.length;
    return this.#owner.transmit(this, bytes);
  }

  end(): void {
    this.#hostEnded = true;
    this.#updateShutdown();
  }

  leave(): void {
    this.#hostLeft = true;
    this.end();
  }

  consumed(count: number): void {
    this.credit.consume(count);
    if (this.state === CONNECTION_STATE.OPEN && this.credit.updateDue)
      this.post(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.peer = undefined;
    if (this.state === CONNECTION_STATE.GONE) this.#owner.released(this);
    else if (this.state === CONNECTION_STATE.OPEN && this.#shutdownFlags === SHUTDOWN_BOTH)
      this.#owner.linger(this);
    else this.#owner.abort(this);
  }
}
