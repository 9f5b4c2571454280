/** One of every registered device, on hosts that are not there, for tests that run against all of them. */

import { MemoryFileSystem } from '../../src/devices/fuse/memory-file-system.js';
import type {
  BalloonControl,
  ConsoleInput,
  Host,
  PortHost,
  VsockControl,
  VsockPeer,
} from '../../src/devices/host.js';
import { deviceKinds } from '../../src/devices/registry.js';
import type { VirtioDevice } from '../../src/virtio/device.js';
import { MemoryDisk } from './memory-disk.js';
import { TestCable } from './test-cable.js';

/** A device, and how the host's side of it is made to do something. */
export interface Specimen {
  readonly device: VirtioDevice;
  /** Something happens on the host: a key is pressed, a packet comes in. */
  stir(): void;
}

/** Words of the command line for one of each, or a configuration. A kind that is missing here fails the tests. */
const ARGUMENTS: Readonly<Record<string, string | object>> = {
  blk: 'disk.img,id=zoo',
  rng: '',
  console: {},
  net: 'user',
  vsock: 'vm.sock,cid=9',
  balloon: '',
  fs: '/zoo:zoo',
  pmem: 'root.img',
};

const IDLE_PEER: VsockPeer = {
  onOpen: () => {},
  onData: () => {},
  onDrain: () => {},
  onEnd: () => {},
  onClose: () => {},
};

const IDLE_PORT: PortHost = { onOutput: () => true, onDrain: () => {}, onOpen: () => {}, connect: () => {} };

export const KINDS = Object.keys(deviceKinds);

export async function makeSpecimen(kind: string): Promise<Specimen> {
  const row = deviceKinds[kind];
  const argument = ARGUMENTS[kind];
  if (row === undefined || argument === undefined) throw new Error(`no specimen of device kind '${kind}'`);
  let console: ConsoleInput | undefined;
  let vsock: VsockControl | undefined;
  let balloon: BalloonControl | undefined;
  const cable = new TestCable();
  const host: Host = {
    fillRandom: (target) => target.fill(0x5a),
    openDisk: async () => new MemoryDisk(),
    openConsole: () => ({
      onOutput: () => {},
      onDrain: () => {},
      connect: (input) => {
        console = input;
      },
    }),
    openNet: async () => cable,
    openShare: async () => new MemoryFileSystem({ 'a/b': 'c' }),
    openBalloon: () => ({
      attach: (control) => {
        balloon = control;
      },
      // A guest may well give its rings away, and is none the wiser for what tests look at then.
      release: async () => {},
    }),
    openPmem: async () => ({ addr: 2 ** 32, sizeBytes: 2 ** 21, close: async () => {} }),
    openPort: () => IDLE_PORT,
    openPortSocket: async () => IDLE_PORT,
    openVsock: async () => ({
      attach: (control) => {
        vsock = control;
      },
      onRequest: () => undefined,
      close: async () => {},
    }),
  };
  const request = typeof argument === 'string' ? row.fromCli(argument) : row.fromConfig(argument);
  const device = await request.open(host);
  const stir = (): void => {
    console?.input(Uint8Array.of(0x78));
    vsock?.connect(52, IDLE_PEER);
    vsock?.renumber(9);
    balloon?.setTarget(1 << 20);
    balloon?.stats().catch(() => {});
    cable.deliver(new Uint8Array(60));
  };
  return { device, stir };
}
