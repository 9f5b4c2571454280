/** All that devices need of the host, as they see it. src/host implements it; tests do too. */
import type { BalloonHost } from './balloon.js';
import type { ConsolePort, PortHost } from './console.js';
import type { BlockBackend, DiskOptions } from './disk.js';
import type { FileSystem, ShareOptions } from './file-system.js';
import type { NetBackend, NetPlace } from './net.js';
import type { PmemBackend } from './pmem.js';
import type { VsockHost } from './vsock.js';

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
