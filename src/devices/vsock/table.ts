/** The connections of a vsock, by their two ports. Nothing is allocated to look one up. */
import { MAX_CONNECTIONS } from '../backends/vsock.js';
import type { Connection } from './connection.js';

/** Ports of the host's ends of connections that the host asks for. Services are at lower numbers. */
const FIRST_HOST_PORT = 2 ** 30;
const HOST_PORTS = 2 ** 30;

/** Tells whether a number is one that {@link ConnectionTable.nextPort} may have. */
export const isPortNumber = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < HOST_PORTS;

export class ConnectionTable {
  readonly #byHostPort = new Map<number, Map<number, Connection>>();
  /** Number of the next port that is tried, below {@link HOST_PORTS}. In a copy it goes on from the original's. */
  nextPort = 0;
  /** Alive, or not let go of. */
  #count = 0;

  get full(): boolean {
    return this.#count >= MAX_CONNECTIONS;
  }

  get count(): number {
    return this.#count;
  }

  get(guestPort: number, hostPort: number): Connection | undefined {
    return this.#byHostPort.get(hostPort)?.get(guestPort);
  }

  add(connection: Connection): void {
    const { guestPort, hostPort } = connection;
    let row = this.#byHostPort.get(hostPort);
    if (row === undefined) {
      row = new Map();
      this.#byHostPort.set(hostPort, row);
    }
    row.set(guestPort, connection);
    this.#count++;
  }

  /** Frees the address of a connection, which counts until `release`. */
  remove(connection: Connection): void {
    const row = this.#byHostPort.get(connection.hostPort);
    if (row?.get(connection.guestPort) !== connection) return;
    row.delete(connection.guestPort);
    if (row.size === 0) this.#byHostPort.delete(connection.hostPort);
  }

  release(): void {
    this.#count--;
  }

  /** A port for the host's end of a new connection: the one that was not used for longest. */
  freePort(): number {
    for (;;) {
      const port = FIRST_HOST_PORT + this.nextPort;
      this.nextPort = (this.nextPort + 1) % HOST_PORTS;
      if (!this.#byHostPort.has(port)) return port;
    }
  }

  /** Of this moment. */
  all(): Connection[] {
    return [...this.#byHostPort.values()].flatMap((row) => [...row.values()]);
  }
}
