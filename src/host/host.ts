/** The host as devices see it. */
import assert from 'node:assert';
import { randomFillSync } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type {
  BlockBackend,
  ConsolePort,
  DiskOptions,
  Host,
  PortHost,
  ShareOptions,
} from '../devices/host.js';
import type { NetBackend, NetPlace } from '../devices/net-backend.js';
import { TsvmError } from '../errors.js';
import type { NativeAddon } from '../native/binding.js';
import { Cleanup } from '../util/cleanup.js';
import type { DiskFacts } from './disk-facts.js';
import { type DiskPlace, factsOf, type OpenDisk, openDisk } from './open-disk.js';
import { openPasst } from './passt.js';
import { openPmemFile, type PmemFile } from './pmem-file.js';
import { PortSocket } from './port-socket.js';
import { openSharedFolder, type SharedFolder } from './shared-folder.js';
import { openTap } from './tap.js';
import { type MachineVsock, VsockEndpoint } from './vsock-endpoint.js';

export interface HostOptions {
  /** `overlay`: files are only read, and writes go to memory and are thrown away. Default `direct`. */
  readonly disks?: 'direct' | 'overlay';
  /** What relative paths are relative to. Default: the working directory. */
  readonly directory?: string;
  readonly ports?: HostPorts;
}

/** The host's side of the machine's ports, by their names. Undefined for a name that nobody has a use for. */
export type HostPorts = (name: string) => PortHost | undefined;

/** One machine's host, but for its memory. */
export interface MachineHost extends Omit<Host, 'openBalloon' | 'openPmem'> {
  readonly directory: string;
  /** A file to be mapped. @throws TsvmError `TSVM_PMEM` */
  openPmemFile(path: string): Promise<PmemFile>;
  /**
   * What the disks and files in memory opened so far are, after a flush.
   *
   * @throws TsvmError `TSVM_DISK` if a file cannot stand for its disk, because what was written is in memory.
   */
  disks(): Promise<readonly DiskFacts[]>;
  /**
   * Opens a disk that may take the place of another, which is the caller's to close then. What is written goes to the file.
   *
   * @throws TsvmError `TSVM_DISK`
   */
  openSuccessor(old: BlockBackend, path: string): Promise<Successor>;
  /** How large the file at `path` is now, if it is the one that `old` has open: a second time it cannot be, for its lock. */
  sizeOfSame(old: BlockBackend, path: string): Promise<number | undefined>;
  /** Undefined if the machine has none. */
  vsock(): MachineVsock | undefined;
  /**
   * The host of a fork of this machine, which must be paused. Its disks have the contents of this moment, and are handed out
   * in the order in which this machine opened them; so are its files in memory.
   */
  fork(console: ConsolePort, ports?: HostPorts): MachineHost;
  /** Closes the files that are waiting to be handed out. The others belong to who opened them. */
  close(): Promise<void>;
}

/** @param console the machine's terminal, for a device that asks for it. */
export function createHost(addon: NativeAddon, console: ConsolePort, options: HostOptions = {}): MachineHost {
  const directory = resolve(options.directory ?? '.');
  const source: FileSource = {
    open: ({ direct = options.disks !== 'overlay', ...place }) =>
      openDisk(addon, { ...place, throwAway: !direct }),
    openPmem: (path) => openPmemFile(addon, path),
    async close() {},
  };
  const vsock = { path: undefined, inherited: false };
  const openPortSocket = (_name: string, path: string | undefined): Promise<PortHost> =>
    PortSocket.open(path && resolve(directory, path));
  const openNet = async (place: NetPlace): Promise<NetBackend> =>
    place.kind === 'tap' ? openTap(addon, place.name) : await openPasst(place);
  const openShare = (path: string, how?: ShareOptions): Promise<SharedFolder> =>
    openSharedFolder(addon, path, how);
  return machineHost({
    addon,
    console,
    directory,
    source,
    ports: options.ports,
    openPortSocket,
    openNet,
    openShare,
    vsock,
  });
}

export interface Successor {
  readonly disk: BlockBackend;
  /** It is the machine's now. */
  succeed(): void;
}

/** Where a host's disks and files in memory come from. Paths are absolute. */
interface FileSource {
  open(place: Omit<DiskPlace, 'throwAway'> & Pick<DiskOptions, 'direct'>): Promise<OpenDisk>;
  openPmem(path: string): Promise<PmemFile>;
  close(): Promise<void>;
}

/** Hands out what is waiting, in its order. What is refused waits on, and is closed with the rest. */
function inheritedFiles(waiting: OpenDisk[], waitingPmem: PmemFile[]): FileSource {
  return {
    async open({ path, readOnly }) {
      const [next] = waiting;
      assert(
        next?.path === path && next.disk.readOnly === readOnly,
        `a fork opens ${path}, not ${next?.path}`,
      );
      waiting.shift();
      return next;
    },
    async openPmem(path) {
      const [next] = waitingPmem;
      assert(next?.path === path, `a fork maps ${path}, not ${next?.path}`);
      waitingPmem.shift();
      return next;
    },
    async close() {
      const cleanup = new Cleanup();
      for (const { disk } of waiting.splice(0)) cleanup.defer(() => disk.close());
      for (const file of waitingPmem.splice(0)) cleanup.defer(() => file.close());
      await cleanup.run();
    },
  };
}

interface HostParts {
  readonly addon: NativeAddon;
  readonly console: ConsolePort;
  readonly directory: string;
  readonly source: FileSource;
  readonly ports: HostPorts | undefined;
  /** `inherited`: another machine, of which this one is a fork, listens at the path. */
  readonly vsock: { readonly path: string | undefined; readonly inherited: boolean };
  readonly openPortSocket: Host['openPortSocket'];
  readonly openNet: Host['openNet'];
  readonly openShare: Host['openShare'];
}

function machineHost({
  addon,
  console,
  directory,
  source,
  ports,
  openPortSocket,
  openNet,
  openShare,
  vsock,
}: HostParts): MachineHost {
  const opened: OpenDisk[] = [];
  const openedPmem: PmemFile[] = [];
  let endpoint: VsockEndpoint | undefined;
  const indexOf = (backend: BlockBackend): number => {
    const at = opened.findIndex(({ disk }) => disk === backend);
    assert(at >= 0, 'a disk that this host did not open');
    return at;
  };
  return {
    directory,
    fillRandom: (target) => void randomFillSync(target),
    openConsole: () => console,
    openPort(name) {
      const port = ports?.(name);
      if (port !== undefined) return port;
      throw new TsvmError('TSVM_CONFIG', `port ${name}: nobody on the host's side has a use for it`);
    },
    openPortSocket,
    openNet,
    openShare: (path, how) => openShare(resolve(directory, path), how),
    async openDisk(path, { readOnly, overlay, direct }) {
      const open = await source.open({
        path: resolve(directory, path),
        readOnly,
        direct,
        overlay: overlay && resolve(directory, overlay),
      });
      opened.push(open);
      return open.disk;
    },
    async openPmemFile(path) {
      const file = await source.openPmem(resolve(directory, path));
      openedPmem.push(file);
      return file;
    },
    async openVsock(path) {
      if (endpoint !== undefined) {
        throw new TsvmError('TSVM_VSOCK', 'vsock: a machine has no more than one', {
          hint: 'give --vsock once; one serves any number of ports and connections',
        });
      }
      const at = vsock.path ?? path;
      endpoint = await VsockEndpoint.open(at && resolve(directory, at), vsock.inherited);
      return endpoint;
    },
    async openSuccessor(old, path) {
      const at = indexOf(old);
      const { readOnly } = old;
      const next = await openDisk(addon, { path: resolve(directory, path), readOnly, throwAway: false });
      return {
        disk: next.disk,
        succeed() {
          opened[at] = next;
        },
      };
    },
    async sizeOfSame(old, path) {
      const image = opened[indexOf(old)]?.files[0];
      if (image === undefined) return undefined;
      const at = resolve(directory, path);
      const [there, here] = await Promise.all([
        stat(at, { bigint: true }).catch(() => undefined), // who opens it says why
        image.file.stat(),
      ]);
      return there?.dev === here.dev && there.ino === here.ino ? await image.file.measure(at) : undefined;
    },
    vsock: () => endpoint,
    async disks() {
      const facts = await Promise.all([
        ...opened.map(factsOf),
        ...openedPmem.map(async (file) => [await file.facts()]),
      ]);
      return facts.flat();
    },
    fork(forkConsole, forkPorts) {
      const disks = opened.map((open) => ({ ...open, disk: open.disk.fork() }));
      const pmem = openedPmem.map((file) => file.share());
      return machineHost({
        addon,
        console: forkConsole,
        directory,
        source: inheritedFiles(disks, pmem),
        ports: forkPorts,
        vsock: { path: endpoint?.path, inherited: true },
        // The parent listens at its paths.
        openPortSocket: () => PortSocket.open(undefined),
        openShare,
        // The host's ports stay with the machine that has them.
        openNet: (place) => openNet(place.kind === 'user' ? { ...place, forwards: [] } : place),
      });
    },
    close: () => source.close(),
  };
}
