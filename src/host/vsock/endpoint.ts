/** The host's side of a machine's vsock: connections as streams, and Unix sockets for other programs. */
import { resolve } from 'node:path';
import type { Duplex } from 'node:stream';
import type {
  VsockConnection,
  VsockControl,
  VsockEnd,
  VsockHost,
  VsockPeer,
} from '../../devices/backends/vsock.js';
import { checkCid } from '../../devices/backends/vsock.js';
import { TsvmError } from '../../errors.js';
import { type Abortable, untilAborted } from '../../util/abort.js';
import { UnixSockets } from './sockets.js';
import { VsockStream } from './stream.js';

/** VMADDR_PORT_ANY of Linux: nobody's. */
const PORT_ANY = 0xffff_ffff;

/**
 * Stream sockets between the host and programs in the guest.
 *
 * @example
 * ```ts
 * import { createMachine, findGuest, vsock } from 'tsvm';
 *
 * await using machine = await createMachine({ ...(await findGuest()), devices: [vsock()] });
 * const sockets = machine.vsock;
 * sockets.listen(1024, (stream) => stream.pipe(stream)); // the guest connects to CID 2, port 1024
 * await machine.start();
 * const stream = await sockets.connect(52); // a program in the guest listens there
 * stream.pipe(process.stdout);
 * ```
 */
export interface MachineVsock {
  /** The guest's context ID. */
  readonly cid: number;
  /**
   * Connects to a program that listens in the guest. A stream that the guest resets is destroyed without an error.
   *
   * @throws TsvmError `TSVM_VSOCK` when nobody listens there or answers, or the guest has no driver at work.
   */
  connect(port: number, options?: Abortable): Promise<Duplex>;
  /**
   * Serves a port of the host to the guest, until it is disposed of. Connections that were made by then live on. A listener that throws,
   * or whose promise rejects, ends the machine (`bug`).
   *
   * @throws TsvmError `TSVM_VSOCK` if it is served already.
   */
  listen(port: number, onConnection: (stream: Duplex) => void): Disposable;
  /**
   * Serves Unix sockets at `path` from now on, instead of those that were served: what a fork needs, whose parent has the path.
   *
   * @throws TsvmError `TSVM_VSOCK` if somebody else listens there.
   */
  bind(path: string): Promise<void>;
  /** Gives the guest another context ID, from 3 to 2^32 - 2. All its connections are reset. */
  renumber(cid: number): void;
}

export class VsockEndpoint implements VsockHost, MachineVsock {
  readonly #listeners = new Map<number, (stream: Duplex) => void>();
  #control: VsockControl | undefined;
  #sockets: UnixSockets | undefined;
  #closed = false;

  /** @param inherited the path is another machine's, which listens there. Its services are this machine's too. */
  static async open(path: string | undefined, inherited: boolean): Promise<VsockEndpoint> {
    const endpoint = new VsockEndpoint();
    if (path !== undefined && inherited) endpoint.#sockets = new UnixSockets(path, endpoint);
    else if (path !== undefined) await endpoint.bind(path);
    return endpoint;
  }

  attach(control: VsockControl): void {
    this.#control = control;
  }

  /** Path of the Unix sockets. */
  get path(): string | undefined {
    return this.#sockets?.path;
  }

  get cid(): number {
    return this.#control?.cid ?? 0;
  }

  async connect(port: number, { signal }: Abortable = {}): Promise<VsockStream> {
    let stream: VsockStream | undefined;
    const begin = (): Promise<VsockStream> =>
      this.#connect(port, (made) => {
        stream = made;
      });
    return await untilAborted(signal, begin, () => stream?.destroy());
  }

  /** @param onAsked - called with the stream while the guest has not answered */
  #connect(port: number, onAsked: (stream: VsockStream) => void): Promise<VsockStream> {
    return new Promise((accept, reject) => {
      checkPort(port);
      const stream = new VsockStream({
        onOpen: () => accept(stream),
        onClose: (end) => reject(connectError(port, end)),
      });
      const connection = this.#control?.connect(port, stream);
      if (connection !== undefined) {
        onAsked(stream.attach(connection));
        return;
      }
      const message = `vsock: port ${port} of the guest cannot be asked for a connection`;
      reject(
        new TsvmError('TSVM_VSOCK', message, {
          hint: 'wait until the guest’s driver is at work, and close connections that are no longer used',
        }),
      );
    });
  }

  listen(port: number, onConnection: (stream: Duplex) => void): Disposable {
    checkPort(port);
    if (this.#listeners.has(port)) {
      throw new TsvmError('TSVM_VSOCK', `vsock: port ${port} is served already`, {
        hint: 'dispose of what listen() returned for it',
      });
    }
    this.#listeners.set(port, onConnection);
    return {
      [Symbol.dispose]: () => {
        if (this.#listeners.get(port) === onConnection) this.#listeners.delete(port);
      },
    };
  }

  onRequest(connection: VsockConnection): VsockPeer | undefined {
    const listener = this.#listeners.get(connection.hostPort);
    if (listener === undefined) return this.#sockets?.onRequest(connection);
    const stream = new VsockStream().attach(connection);
    connection.accept();
    process.nextTick(() => listener(stream));
    return stream;
  }

  async bind(path: string): Promise<void> {
    const sockets = new UnixSockets(resolve(path), this);
    await sockets.listen();
    const before = this.#sockets;
    this.#sockets = sockets;
    await before?.close();
    if (this.#closed) await sockets.close();
  }

  renumber(cid: number): void {
    checkCid(cid);
    this.#control?.renumber(cid);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#control = undefined;
    await this.#sockets?.close();
  }
}

function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 0 && port < PORT_ANY) return;
  throw new TsvmError('TSVM_VSOCK', `vsock: port ${port} is not a whole number from 0 to ${PORT_ANY - 1}`, {
    hint: 'for example: 1024',
  });
}

function connectError(port: number, end: VsockEnd): TsvmError {
  const why = end === 'timeout' ? 'does not answer' : 'refused the connection, or nobody listens there';
  return new TsvmError('TSVM_VSOCK', `vsock: port ${port} of the guest ${why}`, {
    hint: 'start the program in the guest that listens on it',
  });
}
