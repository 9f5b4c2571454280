/** Speaks the control API: what the commands for running machines do, they do by this. */
import type { ClientRequest, RequestOptions as HttpOptions, IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { isErrnoError, TsvmError } from '../../errors.js';
import { type Abortable, untilAborted } from '../../util/abort.js';

const NOBODY = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'];

export interface RequestOptions extends Abortable {
  readonly body?: object;
  /** Gives up after so long. Default: never, since a guest may take its time to end. */
  readonly timeoutMs?: number;
}

export class ControlClient {
  readonly #socketPath: string;
  readonly #name: string;

  /** @param name - of the machine, for messages */
  constructor(socketPath: string, name: string) {
    this.#socketPath = socketPath;
    this.#name = name;
  }

  /**
   * @returns what was answered as JSON, or undefined for 204
   * @throws TsvmError `TSVM_STATE` with the machine's own words if it refuses, or if nobody is there.
   */
  async call<Reply = undefined>(method: string, path: string, options: RequestOptions = {}): Promise<Reply> {
    const { body, timeoutMs, signal } = options;
    const asked = {
      method,
      path,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      ...(timeoutMs === undefined ? {} : { signal: AbortSignal.timeout(timeoutMs) }),
    };
    return await this.#request<Reply>(asked, signal, (call, resolve, fail) => {
      call.once('response', (response) => this.#readAll(response, (value) => resolve(value as Reply), fail));
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** Streams what is said there, until it ends or the stream is destroyed. */
  async stream(path: string, { signal }: Abortable = {}): Promise<Readable> {
    return await this.#request<IncomingMessage>({ path }, signal, (call, resolve) => {
      call.once('response', resolve);
      call.end();
    });
  }

  /** The console, both ways: first what it said last. */
  async attach(options: Abortable = {}): Promise<Duplex> {
    return await this.#upgrade('/tsvm/console', 'tsvm-console', options);
  }

  /** A new connection to the agent. */
  async dialAgent(options: Abortable = {}): Promise<Duplex> {
    return await this.#upgrade('/tsvm/agent', 'tsvm-agent', options);
  }

  /** Has the connection for another protocol (RFC 9110, 7.8). */
  async #upgrade(path: string, protocol: string, { signal }: Abortable): Promise<Duplex> {
    const headers = { Connection: 'Upgrade', Upgrade: protocol };
    return await this.#request<Duplex>({ path, headers }, signal, (call, resolve, fail) => {
      call.once('response', (response) =>
        this.#readAll(
          response,
          () => fail(new Error(`it answers ${response.statusCode} instead of ${protocol}`)),
          fail,
        ),
      );
      call.once('upgrade', (_response, socket, head) => {
        socket.unshift(head);
        resolve(socket);
      });
      call.end();
    });
  }

  /** Reads an answer to its end. */
  #readAll(response: IncomingMessage, done: (value: unknown) => void, fail: (error: unknown) => void): void {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    response.once('error', fail);
    response.once('end', () => {
      try {
        done(this.#read(response.statusCode ?? 0, text));
      } catch (error) {
        fail(error);
      }
    });
  }

  /** Makes a request, which is dropped when it is aborted. */
  async #request<T>(
    asked: HttpOptions,
    signal: AbortSignal | undefined,
    begin: (call: ClientRequest, resolve: (value: T) => void, fail: (error: unknown) => void) => void,
  ): Promise<T> {
    let call: ClientRequest | undefined;
    return await untilAborted(
      signal,
      () =>
        new Promise<T>((resolve, reject) => {
          const fail = (error: unknown): void => reject(this.#explain(error));
          call = httpRequest()({ ...asked, socketPath: this.#socketPath });
          call.once('error', fail);
          begin(call, resolve, fail);
        }),
      () => call?.destroy(),
    );
  }

  #read(status: number, text: string): unknown {
    if (status === 204) return undefined;
    const value: unknown = text === '' ? undefined : JSON.parse(text);
    if (status === 200) return value;
    const fault = (value as { fault_message?: unknown } | undefined)?.fault_message;
    throw new TsvmError(
      'TSVM_STATE',
      `${this.#name}: ${typeof fault === 'string' ? fault : `it answers ${status}`}`,
    );
  }

  #explain(error: unknown): Error {
    if (error instanceof TsvmError) return error;
    if (isErrnoError(error) && NOBODY.includes(error.code ?? '')) {
      return new TsvmError('TSVM_STATE', `${this.#name}: nobody answers at ${this.#socketPath}`, {
        hint: 'it has ended meanwhile: tsvm ps -a',
        cause: error,
      });
    }
    const why = error instanceof Error ? error.message : String(error);
    return new TsvmError('TSVM_STATE', `${this.#name}: ${why}`, { cause: error });
  }
}

/** Loaded when there is somebody to ask: it takes milliseconds, and most commands ask nobody. */
function httpRequest() {
  return process.getBuiltinModule('node:http').request;
}
