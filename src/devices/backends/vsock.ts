/** The two sides of a vsock and of its connections: the device's and the host's. */
import { TsvmError } from '../../errors.js';

/** Room that the device has for one connection: all that a guest can make the host hold of it, unread. */
export const BUF_ALLOC_BYTES = 64 * 1024;

/**
 * Connections of a guest, those too that have ended and that the host still reads from. Of each, BUF_ALLOC_BYTES (64 KiB) may
 * be unread and twice that be on their way to a reader: 384 MiB is the most that a guest can make the host hold.
 */
export const MAX_CONNECTIONS = 2048;

export const HOST_CID = 2;
/** Reserved. Also what a CID with upper bits reads as here, since nobody has either. */
export const NO_CID = 0xffff_ffff;
export const DEFAULT_CID = 3;
export const CID_RANGE = `a whole number from ${DEFAULT_CID} to ${NO_CID - 1}`;

/** virtio 1.3, 5.10.4: 0, 1, 2 and 2^32 - 1 are nobody's, or the host's. */
export function isGuestCid(cid: unknown): cid is number {
  return Number.isInteger(cid) && (cid as number) > HOST_CID && (cid as number) < NO_CID;
}

/** @throws TsvmError `TSVM_CONFIG` */
export function checkCid(cid: unknown): asserts cid is number {
  if (isGuestCid(cid)) return;
  throw new TsvmError('TSVM_CONFIG', `vsock: the cid ${cid} is not ${CID_RANGE}`, {
    hint: `for example: ${DEFAULT_CID}`,
  });
}

/** End of a vsock connection: in order, by a reset, or for want of an answer. */
export type VsockEnd = 'closed' | 'reset' | 'timeout';

/** The device's side of a vsock connection. Once it has ended, every call but `close` does nothing. */
export interface VsockConnection {
  readonly guestPort: number;
  readonly hostPort: number;
  /** The guest asked for it, and gets it. */
  accept(): void;
  /** Moves bytes into the guest's buffers. Returns how many; after less than all, `onDrain` tells when to go on. */
  send(bytes: Uint8Array): number;
  /** The host sends no more. */
  end(): void;
  /** The host sends no more, and reads no more. */
  leave(): void;
  /** The host is done with `count` bytes of those from `onData`: the guest may send as many more. */
  consumed(count: number): void;
  /**
   * The host has let go of it. Must be called once, also when it has ended: until then it counts. Resets it if it is alive and
   * neither have both sides ended nor has the host left.
   */
  close(): void;
}

/** The host's side of a vsock connection. */
export interface VsockPeer {
  /** The guest took up a connection that the host asked for. */
  onOpen(): void;
  /** Takes what the guest sent, in order. Valid during the call only; the host keeps a copy until it is `consumed`. */
  onData(bytes: Uint8Array): void;
  /** There is room again after `send` took less than it was given. Never comes from within `send`. */
  onDrain(): void;
  /** The guest sends no more. */
  onEnd(): void;
  /** Nothing follows. */
  onClose(end: VsockEnd): void;
}

/** The device's side of a vsock, for the host. */
export interface VsockControl {
  readonly cid: number;
  /** Asks the guest for a connection. Undefined: it has no driver at work, or there are too many connections. */
  connect(port: number, peer: VsockPeer): VsockConnection | undefined;
  /** Gives the guest another CID; all its connections end. */
  renumber(cid: number): void;
}

/** The host's side of a vsock. */
export interface VsockHost {
  /** Called once, by the device. */
  attach(control: VsockControl): void;
  /** The guest asks for a connection to `hostPort`: who serves it, and will `accept` or `close` it. Undefined: nobody. */
  onRequest(connection: VsockConnection): VsockPeer | undefined;
  /** Ends whatever the host does for it. */
  close(): Promise<void>;
}
