/** Port of the host whose connections end in a sandbox, at a port of its loopback interface: no network card is needed. */
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { isErrnoError, TsvmError } from '../errors.js';
import { type Abortable, untilAborted } from '../util/abort.js';

/** Address of the host that a port is forwarded at unless another is given: nobody but this host reaches it. */
export const LOOPBACK = '127.0.0.1';
const MAX_PORT = 0xffff;

/** Connects to a port in the sandbox. */
export type DialPort = (port: number) => Promise<Duplex>;

/** Port of the host, and where it leads. */
export interface PortForwardOptions extends Abortable {
  /** Address of the host. Default: 127.0.0.1. */
  readonly host?: string | undefined;
  /** Port of the host. Default: one that is free. */
  readonly hostPort?: number | undefined;
  /** Port in the sandbox. */
  readonly port: number;
}

/** Port of the host that is forwarded, until it is disposed of: its connections end with it. */
export class PortForward implements AsyncDisposable {
  readonly host: string;
  readonly hostPort: number;
  /** Port in the sandbox. */
  readonly port: number;
  #isClosed = false;
  readonly #server: Server;
  readonly #connections: ReadonlySet<Socket>;

  private constructor(host: string, port: number, server: Server, connections: ReadonlySet<Socket>) {
    this.host = host;
    this.port = port;
    this.hostPort = (server.address() as { port: number }).port;
    this.#server = server;
    this.#connections = connections;
  }

  /**
   * Listens on the host.
   *
   * @throws TsvmError `TSVM_CONFIG` for what is no port, `TSVM_NET` if the host's cannot be listened on.
   */
  static async listen(dial: DialPort, options: PortForwardOptions): Promise<PortForward> {
    const { host = LOOPBACK, hostPort = 0, port, signal } = options;
    checkPort(port, 1);
    checkPort(hostPort, 0);
    const connections = new Set<Socket>();
    // Each side may have said all while the other goes on.
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      connections.add(socket);
      socket.once('close', () => connections.delete(socket));
      void connect(socket, dial, port);
    });
    const listening = new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(cannotListen(host, hostPort, error)));
      server.listen(hostPort, host, resolve);
    });
    await untilAborted(
      signal,
      () => listening,
      () => server.close(),
    );
    server.on('error', () => {}); // of one connection, as of one too many: those that there are go on
    return new PortForward(host, port, server, connections);
  }

  /** Whether it was disposed of. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#connections) socket.destroy();
    await closed;
  }
}

/** Checks a number of a port. @throws TsvmError `TSVM_CONFIG` */
export function checkPort(port: number, least = 1): void {
  if (Number.isInteger(port) && port >= least && port <= MAX_PORT) return;
  throw new TsvmError('TSVM_CONFIG', `port ${port}: not a port`, {
    hint: `a whole number from ${least} to ${MAX_PORT}`,
  });
}

/** Joins a connection with one to the sandbox. If nobody listens there, it is reset, as one to a closed port is. */
async function connect(socket: Socket, dial: DialPort, port: number): Promise<void> {
  socket.on('error', () => {}); // its end says all
  try {
    const inside = await dial(port);
    passOn(socket, inside);
    passOn(inside, socket);
  } catch {
    socket.resetAndDestroy();
  }
}

/** Passes on what one end says, and its end; if it breaks off, so does the other. */
function passOn(from: Duplex, to: Duplex): void {
  from.on('error', () => {}); // its close says all
  from.once('close', () => {
    if (!from.readableEnded) to.destroy();
  });
  from.pipe(to);
}

function cannotListen(host: string, port: number, cause: Error): TsvmError {
  const why = isErrnoError(cause) ? cause.code : cause.message;
  const hints: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another program has it: give another port, or 0 for any',
    EACCES: 'a port below 1024 needs privileges: give another one',
    EADDRNOTAVAIL: 'it is no address of this host: ip address',
  };
  return new TsvmError('TSVM_NET', `cannot listen at ${host}:${port}: ${why}`, {
    hint: hints[why ?? ''],
    cause,
  });
}
