/**
 * Unix sockets for a vsock, by Firecracker's convention (its docs/vsock.md).
 *
 * A program on the host connects to PATH, sends `CONNECT <port>\n` and gets `OK <host port>\n` when the guest has taken up the
 * connection; else the socket is closed. What the guest connects to, CID 2 and port P, is the Unix socket PATH_P.
 */
import { createServer, Socket } from 'node:net';
import type { VsockConnection, VsockPeer } from '../../devices/backends/vsock.js';
import { MAX_CONNECTIONS } from '../../devices/backends/vsock.js';
import { connectTo, type ListenAt, listenAt, type UnixListener } from '../unix-listener.js';
import { VsockStream } from './stream.js';

/** `_4294967294`: what a port adds to it. */
const SUFFIX_BYTES = 11;
/** `CONNECT 4294967294\r\n`. Who sends more and no end of line does not know the protocol. */
const MAX_COMMAND_BYTES = 20;

/** Host's side that connects to the guest. */
interface Dialler {
  connect(port: number): Promise<VsockStream>;
}

/** Place of a vsock's sockets. */
export function vsockPlace(path: string): ListenAt {
  return { path, what: 'vsock', code: 'TSVM_VSOCK', suffixBytes: SUFFIX_BYTES };
}

export class UnixSockets {
  readonly path: string;
  readonly #dialler: Dialler;
  /** Each may hold what its stream's guest sent last; so there are no more of them than connections. */
  readonly #sockets = new Set<Socket>();
  #listener: UnixListener | undefined;
  #closed = false;

  /** @param path absolute. */
  constructor(path: string, dialler: Dialler) {
    this.path = path;
    this.#dialler = dialler;
  }

  /** @throws TsvmError `TSVM_VSOCK` */
  async listen(): Promise<void> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
      this.#onClient(socket),
    );
    this.#listener = await listenAt(server, vsockPlace(this.path));
    server.on('error', () => {}); // of accept: the client is told by the kernel
  }

  /** The guest connects to PATH_P. */
  onRequest(connection: VsockConnection): VsockPeer | undefined {
    if (this.#closed || this.#sockets.size >= MAX_CONNECTIONS) return undefined;
    const stream = new VsockStream().attach(connection);
    const socket = new Socket({ allowHalfOpen: true });
    this.#keep(socket);
    connectTo(socket, `${this.path}_${connection.hostPort}`);
    // Until there is a connection to both, the end of one is the end of the other.
    const onStreamGone = (): void => void socket.destroy();
    const onSocketGone = (): void => void stream.destroy();
    stream.once('close', onStreamGone);
    socket.once('close', onSocketGone);
    socket.once('connect', () => {
      stream.off('close', onStreamGone);
      socket.off('close', onSocketGone);
      connection.accept();
      join(socket, stream);
    });
    return stream;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {}); // `close` follows
  }

  #onClient(socket: Socket): void {
    if (this.#sockets.size >= MAX_CONNECTIONS) {
      socket.destroy();
      return;
    }
    this.#keep(socket);
    readCommand(socket, (port) => {
      this.#dialler.connect(port).then(
        (stream) => {
          if (socket.destroyed) {
            stream.destroy();
            return;
          }
          socket.write(`OK ${stream.hostPort}\n`);
          join(socket, stream);
        },
        () => void socket.destroy(),
      );
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const socket of this.#sockets) socket.destroy();
    await this.#listener?.close();
  }
}

/** Reads `CONNECT <port>\n`, and leaves what follows in the socket, which then stands still. */
function readCommand(socket: Socket, onPort: (port: number) => void): void {
  let line = '';
  const onData = (chunk: Buffer): void => {
    const end = chunk.indexOf('\n');
    line += chunk.toString('latin1', 0, end === -1 ? chunk.length : end);
    if (end === -1 && line.length < MAX_COMMAND_BYTES) return;
    socket.off('data', onData);
    socket.off('end', onEnd);
    socket.pause();
    const match = end === -1 ? null : /^CONNECT (\d{1,10})\r?$/.exec(line);
    if (match === null) {
      socket.destroy();
      return;
    }
    if (end + 1 < chunk.length) socket.unshift(chunk.subarray(end + 1));
    onPort(Number(match[1]));
  };
  const onEnd = (): void => void socket.destroy();
  socket.on('data', onData);
  socket.on('end', onEnd);
  socket.resume();
}

/** Moves bytes both ways, at the pace of the slower, until both sides have ended or one has gone. */
function join(socket: Socket, stream: VsockStream): void {
  socket.pipe(stream, { end: false });
  socket.once('end', () => {
    if (!socket.writable || socket.writableLength > 0) {
      stream.end();
      return;
    }
    // No bytes can be written to a program that only sends no more; to one that has closed its socket, not even those, and
    // `close` follows.
    socket.write('', (error) => {
      if (error == null) stream.end();
    });
  });
  // Not `pipe`: one write at a time, so that small ones do not add up while the host does not read.
  stream.on('data', (chunk: Uint8Array) => {
    stream.pause();
    socket.write(chunk, () => void stream.resume());
  });
  stream.once('end', () => {
    // All has been written. Of a guest that has closed, a program must not hear that it only sends no more.
    if (stream.over) socket.destroy();
    else socket.end();
  });
  stream.once('close', () => {
    if (stream.readableEnded) socket.destroySoon();
    else socket.destroy();
  });
  socket.once('close', () => {
    // What it sent before it went in order is still the guest's.
    if (socket.readableEnded) stream.leave();
    else stream.destroy();
  });
  stream.on('error', () => {}); // `close` follows
}
