/** What devices need of the host, as they see it. src/host implements it; tests do too. */
import type { BalloonStats } from './balloon-stats.js';
import type { FileSystem } from './fuse/file-system.js';
import type { NetBackend, NetPlace } from './net-backend.js';
import type { RateLimit } from './rate-limit.js';

/**
 * A disk's contents. Every method is asynchronous and works on the guest's memory as it is, without a copy.
 *
 * Reads and writes resolve to the number of bytes done; less than asked for is an error to the guest. Rejections are
 * errors to the guest too, and go no further.
 */
export interface BlockBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readv(buffers: readonly Uint8Array[], offset: number): Promise<number>;
  writev(buffers: readonly Uint8Array[], offset: number): Promise<number>;
  /** Everything written before is on stable storage when this resolves. */
  flush(): Promise<void>;
  /** The range's contents are no longer needed; reading it may give anything that was there, or zeroes. */
  discard?(offset: number, length: number): Promise<void>;
  /** The range reads as zeroes. `mayUnmap`: storage may be given back. */
  writeZeroes?(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  /** `sizeBytes` is `bytes` when this resolves. What it is kept in is made larger for that, and never smaller. */
  resize?(bytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface DiskOptions {
  readonly readOnly: boolean;
  /** A file that takes what is written; it is made if it is not there. */
  readonly overlay?: string | undefined;
  /** Tells whether what is written goes to the file, or to memory. Default: as the host was made. */
  readonly direct?: boolean | undefined;
}

export interface ShareOptions {
  /** Extended attributes of the user namespace. Default: the guest is told that there are none. */
  readonly xattr?: boolean;
}

/** A disk of a machine. */
export interface DiskControl {
  /** Its serial number; empty if it has none. */
  readonly id: string;
  readonly readOnly: boolean;
  readonly sizeBytes: number;
  /**
   * Makes the disk larger, and tells the guest. `bytes`: a multiple of 512.
   *
   * @throws TsvmError `TSVM_DISK` if it cannot: it is read-only, has an overlay, or there are forks of it; `TSVM_CONFIG` if that is not larger.
   */
  grow(bytes: number): Promise<void>;
  readonly limit: RateLimit;
  /** How fast it may be from now on, with full buckets; `{}`: as fast as it can. @throws TsvmError `TSVM_CONFIG` */
  setLimit(limit: RateLimit): void;
}

/** A network card, from outside the guest. */
export interface NetControl {
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly limits: { readonly sending: RateLimit; readonly receiving: RateLimit };
  /** How fast each direction may be from now on, as the guest sees it; one that is not given stays as it is. @throws TsvmError `TSVM_CONFIG` */
  setLimit(limits: { readonly sending?: RateLimit; readonly receiving?: RateLimit }): void;
}

/** The device's side of a console: where the host puts what was typed. */
export interface ConsoleInput {
  /** Returns how many bytes were taken; after less than all, the port's `onDrain` tells when to go on. */
  input(bytes: Uint8Array): number;
  resize(columns: number, rows: number): void;
}

/** The host's side of a console. */
export interface ConsolePort {
  /** What the guest printed, in order. The array is valid during the call only. */
  onOutput(bytes: Uint8Array): void;
  /** There is room for input again. */
  onDrain(): void;
  /** Called once, by the device. */
  connect(input: ConsoleInput): void;
}

/** The device's side of a port. */
export interface PortControl {
  /** Returns how many bytes were taken; after less than all, the port's `onDrain` tells when to go on. */
  input(bytes: Uint8Array): number;
  /**
   * The host has done with the port, for good: what the guest reads ends after all input that was taken, and what it
   * writes goes nowhere.
   */
  close(): void;
  /** Output is welcome again after `onOutput` refused. */
  resumeOutput(): void;
  /**
   * Somebody is at the host's side of the port now, as there is at first, or nobody. What the guest writes
   * waits meanwhile, and its programs can tell (virtio 1.3, 5.3.6.2, VIRTIO_CONSOLE_PORT_OPEN).
   */
  setHostOpen(open: boolean): void;
}

/** The host's side of a port: a stream of bytes each way between a program in the guest and the host. */
export interface PortHost {
  /**
   * What the guest wrote, in order. The array is valid during the call only. False: enough for now; apart from the rest of
   * the guest's current buffer nothing more comes until `resumeOutput`.
   */
  onOutput(bytes: Uint8Array): boolean;
  /** There is room for input again. */
  onDrain(): void;
  /** A program in the guest opened the port, or closed it. */
  onOpen(open: boolean): void;
  /** Called once, by the device. */
  connect(control: PortControl): void;
  /** The device goes. */
  release?(): Promise<void>;
}

/** How a vsock connection ended: in order, by a reset, or for want of an answer. */
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
  /** What the guest sent, in order. Valid during the call only; the host keeps a copy until it is `consumed`. */
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

/** The device's side of a balloon. */
export interface BalloonControl {
  /** What the guest has been asked to give back. */
  readonly targetBytes: number;
  /** What it says it has given back for that. Free page reports come on top. */
  readonly actualBytes: number;
  /** Asks the guest to give back so much, in all; less than before lets it take some again. It may be slow, or never do it. */
  setTarget(bytes: number): void;
  /**
   * What the guest says of its memory, newly asked.
   *
   * @throws TsvmError `TSVM_BALLOON` if it has no driver, or does not answer.
   */
  stats(): Promise<BalloonStats>;
}

/** The host's side of a balloon. */
export interface BalloonHost {
  /** Called once, by the device. */
  attach(control: BalloonControl): void;
  /** Drops what guest memory holds there; whole pages only. Reading it gives anything that was there before, or zeroes. */
  release(views: readonly Uint8Array[]): Promise<void>;
}

/** A file of the host in the guest's memory, beside RAM. */
export interface PmemBackend {
  /** Guest physical. */
  readonly addr: number;
  readonly sizeBytes: number;
  close(): Promise<void>;
}

/** A look at what a device names of the host, before anything is opened. What would be refused then is refused now, in the same words. */
export interface HostLook {
  /** @throws TsvmError `TSVM_DISK` */
  disk(path: string, options: DiskOptions): Promise<void>;
  /** @throws TsvmError `TSVM_PMEM` */
  pmem(path: string): Promise<void>;
  /** @throws TsvmError `TSVM_SHARE` */
  share(path: string): Promise<void>;
  /** @throws TsvmError `TSVM_PORT` */
  portSocket(path: string): Promise<void>;
  /** @throws TsvmError `TSVM_VSOCK` */
  vsock(path: string): Promise<void>;
}

export interface Host {
  /** Fills `target` with bytes from the host's random number generator. */
  fillRandom(target: Uint8Array): void;
  /** @throws TsvmError `TSVM_DISK` or `TSVM_FILE` when it cannot be opened or is in use. */
  openDisk(path: string, options: DiskOptions): Promise<BlockBackend>;
  /** The machine's terminal. */
  openConsole(): ConsolePort;
  /** The host's side of a port of this name. @throws TsvmError `TSVM_CONFIG` when nobody has a use for it. */
  openPort(name: string): PortHost;
  /**
   * The host's side of a port of this name that is a Unix socket at `path`, if it has one.
   *
   * @throws TsvmError `TSVM_PORT` when the path cannot be had.
   */
  openPortSocket(name: string, path: string | undefined): Promise<PortHost>;
  /**
   * The host's side of the machine's vsock. With a path, its ports are Unix sockets there.
   *
   * @throws TsvmError `TSVM_VSOCK` when the path cannot be had, or the machine has a vsock already.
   */
  openVsock(path: string | undefined): Promise<VsockHost>;
  /** @throws TsvmError `TSVM_NET` or `TSVM_HOST` when there is no such network, or it is in use. */
  openNet(place: NetPlace): Promise<NetBackend>;
  /** A folder of the host's. @throws TsvmError `TSVM_SHARE` when it cannot be had. */
  openShare(path: string, options?: ShareOptions): Promise<FileSystem>;
  /** @throws TsvmError `TSVM_CONFIG` when the machine has a balloon already. */
  openBalloon(): BalloonHost;
  /**
   * Maps a file into the guest's memory, where the guest finds it at once.
   *
   * @throws TsvmError `TSVM_PMEM` when it cannot be opened or mapped.
   */
  openPmem(path: string): Promise<PmemBackend>;
}
