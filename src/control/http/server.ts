/** The control API over a Unix socket: finds the route, checks the body, answers as Firecracker does. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { TsvmError } from '../../errors.js';
import { listenAt, type UnixListener } from '../../host/unix-listener.js';
import { ApiError } from '../api-error.js';
import { type Instance, NOT_YET, TOO_LATE } from '../instance.js';
import { Follower } from '../logs/follower.js';
import { routes } from '../routes.js';
import { describeIssue } from './issue.js';
import { type Reply, type Route, Stream } from './route.js';

/** Bound of a request's body; Firecracker's limit. */
const MAX_BODY_BYTES = 51_200;
/** Paths are looked at, nothing else. */
const BASE = 'http://localhost';

interface Match {
  readonly route: Route;
  readonly parameters: Readonly<Record<string, string>>;
}

export class ControlServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #instance: Instance;
  readonly #open = new Set<Duplex>();
  #listener: UnixListener | undefined;

  private constructor(instance: Instance) {
    this.#instance = instance;
    this.#server = createServer((request, response) => {
      // Who goes away in the middle of an answer, or of a stream that has ended by then, is nobody's fault.
      response.on('error', () => {});
      void this.#serve(request, response);
    });
    // Node hands these sockets over without any listener for errors, and closing one is all that it takes to make one.
    this.#server.on('upgrade', (request, socket, head) => {
      socket.on('error', () => {});
      void this.#upgrade(request, socket, head);
    });
    this.#server.on('connect', (request, socket) => {
      socket.on('error', () => {});
      refuse(socket, unknown(request));
    });
    this.#server.on('error', () => {}); // of accept: the client is told by the kernel
    this.#server.on('connection', (socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
  }

  /** @throws TsvmError `TSVM_STATE` if nothing can listen there. */
  static async listen(instance: Instance, path: string): Promise<ControlServer> {
    const server = new ControlServer(instance);
    server.#listener = await listenAt(server.#server, { path, what: 'API socket', code: 'TSVM_STATE' });
    return server;
  }

  /** Answers that are under way are finished; streams end. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#listener?.close();
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => {
      for (const socket of this.#open) socket.destroy();
    }, 500);
    await closed;
    clearTimeout(timer);
    await this.#instance.logFiles.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const gone = new AbortController();
      response.once('close', () => gone.abort());
      const reply = await this.#answer(request, gone.signal);
      if (reply instanceof Stream) stream(reply, response);
      else send(reply, response);
      this.#answered(request, response.statusCode);
    } catch (error) {
      const { status, message } = asApiError(error);
      if (response.headersSent) response.destroy();
      else sendJson(response, status, { fault_message: message });
      this.#answered(request, status);
    }
  }

  #answered({ method, url }: IncomingMessage, status: number): void {
    this.#instance.onAnswer({ method, url, status });
  }

  async #answer(request: IncomingMessage, gone: AbortSignal): Promise<Reply> {
    const { route, parameters } = find(request);
    const instance = this.#instance;
    const body = await readBody(request);
    if (route.when === 'before start') instance.refuseContainer();
    if (route.when === 'before start' && instance.isDecided) throw new ApiError(TOO_LATE);
    if (route.when === 'after start' && !instance.hasStarted) throw new ApiError(NOT_YET);
    return await route.handle({
      instance,
      parameters,
      gone,
      body: parse(route, body) as never,
    });
  }

  /** @param head - what the client sent already */
  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    let accepted = false;
    try {
      const { upgrade } = find(request).route;
      if (upgrade === undefined || request.headers.upgrade !== upgrade.protocol) {
        throw new ApiError(`${request.url} is no ${request.headers.upgrade}`);
      }
      if (!this.#instance.hasStarted) throw new ApiError(NOT_YET);
      if (head.length > 0) socket.unshift(head);
      await upgrade.take(this.#instance, socket, () => {
        accepted = true;
        socket.write(switching(upgrade.protocol));
      });
    } catch (error) {
      if (accepted) socket.destroy();
      else refuse(socket, error);
    }
  }
}

const switching = (protocol: string): string =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;

/** Answers a client that wanted the connection for itself, and closes it. */
function refuse(socket: Duplex, error: unknown): void {
  const text = JSON.stringify({ fault_message: asApiError(error).message });
  socket.end(
    `HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
    () => socket.destroy(),
  );
}

function unknown({ method, url }: IncomingMessage): ApiError {
  return new ApiError(`Invalid request method and/or path: ${method} ${url}.`);
}

function find(request: IncomingMessage): Match {
  const { method, url: target = '' } = request;
  if (!URL.canParse(target, BASE)) throw unknown(request);
  const { pathname } = new URL(target, BASE);
  for (const route of routes) {
    const parameters = route.method === method ? matchPath(route.path, pathname) : undefined;
    if (parameters !== undefined) return { route, parameters };
  }
  throw unknown(request);
}

function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const [wanted, given] = [pattern.split('/'), path.split('/')];
  if (wanted.length !== given.length) return undefined;
  const parameters: Record<string, string> = {};
  for (const [i, part] of wanted.entries()) {
    const text = given[i] ?? '';
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    if (name === undefined ? part !== text : text === '') return undefined;
    if (name !== undefined) parameters[name] = text;
  }
  return parameters;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (bytes > MAX_BODY_BYTES)
    throw new ApiError(`A request of ${bytes} bytes is more than ${MAX_BODY_BYTES}.`, 413);
  return Buffer.concat(chunks).toString('utf8');
}

function parse({ body: schema, method, path }: Route, text: string): unknown {
  if (schema === undefined) {
    if (text !== '' && method === 'GET') throw new ApiError(`GET ${path} has no body.`);
    return undefined;
  }
  const wrong = (why: string): ApiError =>
    new ApiError(`An error occurred when deserializing the json body of a request: ${why}.`);
  let value: unknown;
  try {
    value = JSON.parse(text === '' && schema.safeParse({}).success ? '{}' : text);
  } catch (error) {
    throw wrong(error instanceof Error ? error.message : 'it is not JSON');
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw wrong(describeIssue(result.error.issues[0]));
}

function asApiError(error: unknown): { status: number; message: string } {
  if (error instanceof ApiError) return error;
  if (error instanceof TsvmError) {
    const hint = error.hint === undefined ? '' : ` (${error.hint})`;
    return { status: 400, message: `${error.message}${hint}` };
  }
  return {
    status: 500,
    message: error instanceof Error ? `internal error: ${error.message}` : String(error),
  };
}

function send(reply: Exclude<Reply, Stream>, response: ServerResponse): void {
  if (reply === undefined) {
    response.writeHead(204, { Server: 'tsvm' }).end();
  } else if ('text' in reply && 'type' in reply && typeof reply.text === 'string') {
    response.writeHead(200, { Server: 'tsvm', 'Content-Type': String(reply.type) }).end(reply.text);
  } else sendJson(response, 200, reply);
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  response
    .writeHead(status, { Server: 'tsvm', 'Content-Type': 'application/json' })
    .end(JSON.stringify(value));
}

function stream({ type, open }: Stream, response: ServerResponse): void {
  response.writeHead(200, { Server: 'tsvm', 'Content-Type': type, 'Cache-Control': 'no-store' });
  response.flushHeaders(); // there may be nothing to say for long
  const follower = new Follower(response);
  const close = open(
    (bytes) => follower.write(bytes),
    () => follower.end(),
  );
  response.once('close', close);
}
