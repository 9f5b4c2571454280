/**
 * A port of a virtio-console as a Unix socket: one program of the host's at a time, which may go and come again.
 *
 * While nobody is connected the guest sees the port closed on the host's side: its writes wait, and what it reads ends. A
 * client that says that it sends no more has gone: of a Unix socket, the two look the same.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { PortControl, PortHost } from '../devices/host.js';
import { type ListenAt, listenAt, type UnixListener } from './unix-listener.js';

/** Place of a port's socket. */
export function portPlace(path: string): ListenAt {
  return { path, what: 'port', code: 'TSVM_PORT' };
}

export class PortSocket implements PortHost {
  #listener: UnixListener | undefined;
  #control: PortControl | undefined;
  #client: Socket | undefined;
  /** What the client sent and the port has not taken yet. */
  #waiting: Uint8Array | undefined;

  /** Without a path nobody can connect. @throws TsvmError `TSVM_PORT` */
  static async open(path: string | undefined): Promise<PortSocket> {
    const server = path === undefined ? undefined : createServer();
    const port = new PortSocket(server);
    if (server === undefined || path === undefined) return port;
    port.#listener = await listenAt(server, portPlace(path));
    server.on('error', () => {}); // of accept: the client is told by the kernel
    return port;
  }

  private constructor(server: Server | undefined) {
    server?.on('connection', (socket) => this.#onClient(socket));
  }

  connect(control: PortControl): void {
    this.#control = control;
    control.setHostOpen(this.#client !== undefined);
  }

  onOutput(bytes: Uint8Array): boolean {
    // Without a client, this is the rest of a buffer that the last one had the beginning of.
    return this.#client?.write(Buffer.from(bytes)) === true;
  }

  onDrain(): void {
    const bytes = this.#waiting;
    if (bytes === undefined) return;
    this.#waiting = undefined;
    this.#send(bytes);
  }

  onOpen(): void {}

  async release(): Promise<void> {
    this.#client?.destroy();
    await this.#listener?.close();
  }

  #onClient(socket: Socket): void {
    if (this.#client !== undefined) {
      socket.destroy();
      return;
    }
    this.#client = socket;
    socket.on('data', (bytes) => this.#send(bytes));
    socket.on('drain', () => this.#control?.resumeOutput());
    socket.on('error', () => {}); // `close` follows
    socket.once('close', () => {
      if (this.#waiting === undefined) this.#onGone();
    });
    this.#control?.setHostOpen(true);
  }

  #send(bytes: Uint8Array): void {
    const taken = this.#control?.input(bytes) ?? 0;
    if (taken < bytes.length) {
      this.#waiting = bytes.subarray(taken);
      this.#client?.pause();
    } else if (this.#client?.destroyed === true) {
      this.#onGone();
    } else {
      this.#client?.resume();
    }
  }

  /** The client has gone, and the port has all that it said. */
  #onGone(): void {
    this.#client = undefined;
    this.#control?.setHostOpen(false);
  }
}
