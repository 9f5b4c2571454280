/** Ports where an agent is: connections to them, and from them. */
import { Duplex } from 'node:stream';
import { TsvmError } from '../errors.js';
import type { Abortable } from '../util/abort.js';
import { askAgent, type OpenSession, whileOpen } from './ask-agent.js';
import { shownPath } from './path.js';
import type { Refusal } from './refusal.js';
import type { Ask, Session } from './session.js';
import { decimal, type Reply, type RequestOption, requestBytes, StringSplitter } from './strings.js';
import { Violation } from './violation.js';

const MAX_PORT = 0xffff;
/** Longest string of a record, and the most records: more than there are ports, at each of many addresses. */
const MAX_STRING_BYTES = 64;
const MAX_RECORDS = 1 << 20;

/** Port that something listens on. */
export interface ListeningPort {
  readonly protocol: 'tcp';
  /** Address, such as `0.0.0.0`, `127.0.0.1` or `::`. */
  readonly address: string;
  readonly port: number;
}

/** Ports where the agent is: TCP ports of its loopback interface, and Unix sockets by their path. */
export interface AgentPorts {
  /** Connects. @throws TsvmError `TSVM_PORT` if nothing listens there */
  dial(portOrPath: number | string | Uint8Array, options?: Abortable): Promise<Duplex>;
  /** Waits until something listens on a port. */
  wait(port: number, options?: Abortable): Promise<void>;
  list(options?: Abortable): Promise<readonly ListeningPort[]>;
  /** Listens there; each connection is given to `accept`, which owns it. Ends when it is disposed of, or the connection to the agent is lost. */
  offer(
    portOrPath: number | string | Uint8Array,
    accept: (connection: Duplex) => void,
    options?: Abortable,
  ): Promise<PortOffer>;
}

/** Port that the agent listens on for its client. */
export interface PortOffer extends AsyncDisposable {
  /** Port; 0 for a Unix socket. */
  readonly port: number;
  /** Settles when it ends; rejects if that was not asked for. */
  readonly ended: Promise<void>;
}

/** Ports of the agent whose sessions `open` opens. */
export function agentPorts(open: OpenSession): AgentPorts {
  return {
    async dial(portOrPath, { signal } = {}) {
      const ask: Ask<void, void> = {
        request: placeRequest('dial', portOrPath),
        outputs: { 1: 'bytes' },
        input: 'closes',
        first: () => {},
        last: () => {},
        refused: portRefused('connect to', portOrPath),
      };
      const session = await open(ask, { signal });
      await whileOpen(session, signal, () => session.first);
      return new PortConnection(session);
    },
    async wait(port, options) {
      const request = requestBytes('wait-port', [portOption(port)]);
      await askAgent(open, { request, last: () => {}, refused: portRefused('wait for', port) }, options);
    },
    async list({ signal } = {}) {
      const ask: Ask<void, void> = {
        request: requestBytes('ports'),
        outputs: { 1: 'bytes' },
        last: () => {},
        refused: portRefused('list', 'ports'),
      };
      const session = await open(ask, { signal });
      return await whileOpen(session, signal, async () => {
        const ports = await readPorts(session.stdout as AsyncIterable<Buffer>);
        await session.last;
        return ports;
      });
    },
    async offer(portOrPath, accept, { signal } = {}) {
      const ask: Ask<number, void> = {
        request: placeRequest('offer', portOrPath),
        first: (reply: Reply) => reply.number('port', MAX_PORT),
        last: () => {},
        accepted: (connection) => accept(new PortConnection(connection)),
        refused: portRefused('listen on', portOrPath),
      };
      const session = await open(ask, { signal });
      const port = await whileOpen(session, signal, () => session.first);
      let asked = false;
      const ended = session.last.catch((error: unknown) => {
        if (!asked) throw error;
      });
      ended.catch(() => {});
      const end = async (): Promise<void> => {
        asked = true;
        session.close();
        await ended;
      };
      return { port, ended, [Symbol.asyncDispose]: end };
    },
  };
}

/** Connection to or from a port where the agent is. Each direction ends by itself; destroyed, both do. */
class PortConnection extends Duplex {
  readonly #session: Session<void, void>;

  #wanted = false;

  constructor(session: Session<void, void>) {
    super({ allowHalfOpen: true });
    this.#session = session;
    const { stdout } = session;
    stdout.on('readable', () => this.#flow());
    stdout.once('end', () => this.push(null));
    // Nobody has to listen for the end of the connection to the agent: what is read and written fails with it.
    this.on('error', () => {});
    session.last.catch((error: Error) => this.destroy(error));
  }

  override _read(): void {
    this.#wanted = true;
    this.#flow();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#session.input.write(chunk, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#session.input.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#session.close(error ?? undefined);
    done(error);
  }

  #flow(): void {
    while (this.#wanted) {
      const bytes = this.#session.stdout.read() as Buffer | null;
      if (bytes === null) return;
      this.#wanted = this.push(bytes);
    }
  }
}

function placeRequest(operation: string, portOrPath: number | string | Uint8Array): Buffer {
  return typeof portOrPath === 'number'
    ? requestBytes(operation, [portOption(portOrPath)])
    : requestBytes(operation, [['path', portOrPath]]);
}

function portOption(port: number): RequestOption {
  if (!Number.isInteger(port) || port < 0 || port > MAX_PORT)
    throw new TsvmError('TSVM_CONFIG', `${port} is no port`, {
      hint: `ports are whole numbers up to ${MAX_PORT}`,
    });
  return ['port', port];
}

const HINTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there; start what should, on 127.0.0.1 or all addresses',
  ENOENT: 'nothing has made a socket there',
  EADDRINUSE: 'something else listens there',
};

function portRefused(doing: string, place: number | string | Uint8Array): (refusal: Refusal) => TsvmError {
  const shown = typeof place === 'number' ? `port ${place}` : shownPath(place);
  return ({ error }) => {
    const hint = HINTS[(error as NodeJS.ErrnoException).code ?? ''];
    return new TsvmError('TSVM_PORT', `cannot ${doing} ${shown}: ${error.message}`, { hint, cause: error });
  };
}

async function readPorts(bytes: AsyncIterable<Buffer>): Promise<ListeningPort[]> {
  const splitter = new StringSplitter(MAX_STRING_BYTES);
  const ports: ListeningPort[] = [];
  let strings: string[] = [];
  for await (const piece of bytes) {
    for (const string of splitter.push(piece)) {
      strings.push(string.toString('latin1'));
      if (strings.length < 3) continue;
      if (ports.length === MAX_RECORDS) throw new Violation('more ports than there are');
      ports.push(portOf(strings));
      strings = [];
    }
  }
  splitter.end();
  if (strings.length > 0) throw new Violation('a record that is cut off');
  return ports;
}

function portOf([protocol, address = '', port = '']: readonly string[]): ListeningPort {
  if (protocol !== 'tcp' || !/^[0-9a-f.:]{2,45}$/.test(address)) throw new Violation('a port that is none');
  return { protocol, address, port: decimal(port, 'port', MAX_PORT) };
}
