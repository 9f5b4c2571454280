/**
 * passt: what a guest sends as frames, an unprivileged process of the host's sends through its own sockets.
 *
 * It runs as a child with one end of a socket pair, so that nothing is left in the file system, and ends when the other end
 * is closed: also when this process is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import {
  type FrameSource,
  type NetBackend,
  type NetClient,
  type PortForward,
  USER_NET,
  type UserNet,
} from '../../devices/backends/net.js';
import { TsvmError } from '../../errors.js';
import { FrameBatcher, FrameDecoder } from './frame-stream.js';
import { mayLeave } from './passt-filter.js';

/** Time limit for it to bind its ports and answer once. It takes some tens of milliseconds. */
const READY_MS = 10_000;
/** Time limit from the end of its socket to its own. */
const EXIT_MS = 2_000;
/** Bound of what it writes to stderr, for the error message. */
const MAX_COMPLAINT_CHARACTERS = 4096;
/** Messages of good days too, where there is no system log, or a superuser. */
const NOISE = /^(Failed to send \d+ bytes to syslog|Don't run as root.*)?$/;

/** Whoever asks before there is a guest. */
const NOBODY = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** Frame that asks all, from `mac`, which is at 10.0.2.15, who has `address`; with its length before it, as passt takes frames. */
function arpRequest(mac: Uint8Array, address: string): Buffer {
  const inet = (text: string): number[] => text.split('.').map(Number);
  const ethernet = [...BROADCAST, ...mac, 0x08, 0x06];
  const whoHas = [0, 1, 8, 0, 6, 4, 0, 1]; // Ethernet, IPv4
  const frame = [...ethernet, ...whoHas, ...mac, ...inet(USER_NET.guestAddress), ...NO_MAC, ...inet(address)];
  return Buffer.from([0, 0, 0, frame.length, ...frame]);
}

const BROADCAST = new Uint8Array(6).fill(0xff);
const NO_MAC = new Uint8Array(6);

/**
 * Starts passt.
 *
 * @throws TsvmError `TSVM_HOST` if it is not installed, `TSVM_NET` if it ends: a port is taken, there is no network.
 */
export async function openPasst(place: UserNet): Promise<NetBackend> {
  // A session of its own: Ctrl-C on the terminal is for the guest or for tsvm.
  const child = spawn('passt', passtArguments(place), {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const backend = new PasstBackend(child, place.mtu);
  try {
    await backend.ready(place.forwards);
    return backend;
  } catch (error) {
    await backend.close();
    throw error;
  }
}

/** Finds the first line of what passt or pasta said that tells of trouble. */
export function firstComplaint(text: string): string | undefined {
  return text
    .split('\n')
    .map((line) => line.trim())
    .find((line) => !NOISE.test(line));
}

/** Arguments of passt and pasta for what the guest is told of its network. */
export const ADDRESS_ARGUMENTS = [
  ...['--address', USER_NET.guestAddress, '--netmask', String(USER_NET.prefixBits)],
  ...['--gateway', USER_NET.gatewayAddress],
] as const;

/** passt 2023-03 and later. */
export function passtArguments({ mtu, forwards, loopback }: UserNet): string[] {
  const ports = (protocol: 'tcp' | 'udp'): string[] => {
    const flag = protocol === 'tcp' ? '-t' : '-u';
    const specs = forwards.filter((forward) => forward.protocol === protocol).flatMap((f) => [flag, spec(f)]);
    // Without it, UDP is forwarded where TCP is.
    return specs.length === 0 ? [flag, 'none'] : specs;
  };
  return [
    ...['--foreground', '--quiet', '--fd', '3'],
    ...ADDRESS_ARGUMENTS,
    ...['--mtu', String(mtu), '--dns-forward', USER_NET.nameServerAddress],
    ...(loopback ? [] : ['--no-map-gw']),
    ...ports('tcp'),
    ...ports('udp'),
  ];
}

function spec({ address, port, guestPort }: PortForward): string {
  return `${address === '' ? '' : `${address}/`}${port}:${guestPort}`;
}

class PasstBackend implements NetBackend {
  readonly mtu: number;
  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #ended: Promise<string>;
  readonly #decoder = new FrameDecoder((frame) => this.#deliver(frame));
  readonly #batcher: FrameBatcher;
  #client: NetClient | undefined;
  #answered: () => void = () => {};
  /** The guest has no room. */
  #paused = false;
  #closed = false;

  constructor(child: ChildProcess, mtu: number) {
    this.mtu = mtu;
    this.#child = child;
    const socket = child.stdio[3] as Socket;
    this.#socket = socket;
    this.#ended = endOf(child);
    this.#batcher = new FrameBatcher(
      // A batch that is lost with the connection is free as well.
      (bytes, done) => void socket.write(bytes, () => done()),
      () => this.#client?.onWritable(),
      mayLeave,
    );
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#unplugged());
    // A socket that is paused for a guest without room would not notice.
    child.once('exit', () => socket.destroy());
    socket.on('data', (piece: Buffer) => this.#take(() => this.#decoder.push(piece)));
  }

  /** Resolves when passt has answered; then it keeps this process alive no longer. */
  async ready(forwards: readonly PortForward[]): Promise<void> {
    const answer = new Promise<void>((resolve) => {
      this.#answered = resolve;
    });
    // Whatever comes back says that passt is there, with its ports bound.
    this.#socket.write(arpRequest(NOBODY, USER_NET.gatewayAddress));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve(`it did not answer within ${READY_MS / 1000} s`), READY_MS);
    });
    try {
      const complaint = await Promise.race([answer, this.#ended, late]);
      if (complaint !== undefined) throw passtError(complaint, forwards);
    } finally {
      clearTimeout(timer);
    }
    this.#socket.pause();
    this.#socket.unref();
    (this.#child.stderr as Socket).unref();
    this.#child.unref();
  }

  get writable(): boolean {
    return this.#batcher.writable;
  }

  connect(mac: Uint8Array, client: NetClient): void {
    this.#client = client;
    // An announcement: passt sends to whom it heard last, and a guest that serves a forwarded port may never speak first.
    if (!this.#socket.destroyed) this.#socket.write(arpRequest(mac, USER_NET.guestAddress));
    client.onLink(!this.#socket.destroyed);
    this.#socket.resume();
  }

  send(frame: FrameSource): void {
    this.#batcher.add(frame);
  }

  flush(): void {
    this.#batcher.flush();
  }

  resume(): void {
    this.#take(() => this.#decoder.resume());
    if (!this.#closed && this.#client !== undefined && !this.#paused) this.#socket.resume();
  }

  /** Lets the decoder deliver; a guest without room stops passt's side, and with it whoever sends to passt. */
  #take(deliver: () => boolean): void {
    if (this.#closed) return;
    try {
      this.#paused = !deliver();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#socket.destroy(); // out of step
      return;
    }
    if (this.#paused) this.#socket.pause();
    this.#client?.received();
  }

  #deliver(frame: Uint8Array): boolean {
    if (this.#client !== undefined) return this.#client.receive(frame);
    this.#answered();
    return true;
  }

  #unplugged(): void {
    if (!this.#closed) this.#client?.onLink(false);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#socket.destroy();
    this.#child.ref();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), EXIT_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}

/** Resolves, when the process has ended or never began, to what it said last. */
async function endOf(child: ChildProcess): Promise<string> {
  let complaint = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    if (complaint.length < MAX_COMPLAINT_CHARACTERS) complaint += text;
  });
  try {
    const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
    return firstComplaint(complaint) ?? `it ended with ${signal ?? `status ${status}`}`;
  } catch (cause) {
    return (cause as { code?: unknown }).code === 'ENOENT' ? NOT_INSTALLED : String(cause);
  }
}

const NOT_INSTALLED = 'not installed';

function passtError(complaint: string, forwards: readonly PortForward[]): TsvmError {
  if (complaint === NOT_INSTALLED) {
    return new TsvmError('TSVM_HOST', "net user: the program 'passt' is needed, and is not installed", {
      hint: "install it: apt-get install passt; or use a TAP interface: `net({ backend: 'tap', name: 'tap0' })`",
    });
  }
  const taken = forwards.find((forward) => complaint.includes(`${spec(forward)}'`));
  if (taken !== undefined && /bind/i.test(complaint)) {
    const { protocol, address, port } = taken;
    return new TsvmError(
      'TSVM_NET',
      `net user: ${protocol} port ${port} of ${address === '' ? 'this host' : address} cannot be had`,
      { hint: `choose another one, or see who has it: ss -Hnlp sport = :${port}` },
    );
  }
  const hint = /external|routable|interface/i.test(complaint)
    ? 'passt needs an interface with a default route: ip route'
    : 'see what it says by itself: passt --foreground --stderr';
  return new TsvmError('TSVM_NET', `net user: passt: ${complaint}`, { hint });
}
