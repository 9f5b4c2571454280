/** Routes, of which the control API is made: the server, its document and its tests all derive from these. */
import type { Duplex } from 'node:stream';
import type { z } from 'zod';
import type { Instance } from '../instance.js';

export type Method = 'GET' | 'PUT' | 'PATCH';

/** Request as a handler is given it. */
export interface Call<Body> {
  readonly instance: Instance;
  readonly body: Body;
  /** Parameters of the path: `drives/{drive_id}`. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Aborted when the client has gone, or has its answer: what was only for it is to be let go of. */
  readonly gone: AbortSignal;
}

/** `undefined` is 204; an object is JSON; a stream is fed for as long as the client listens. */
export type Reply = object | undefined | Stream | { readonly text: string; readonly type: string };

/** Bytes as they come. */
export class Stream {
  readonly type: string;
  /** Begins to feed; what it returns is called when nobody listens any more. */
  readonly open: (write: (bytes: Uint8Array | string) => void, end: () => void) => () => void;

  constructor(type: string, open: Stream['open']) {
    this.type = type;
    this.open = open;
  }
}

export interface Route {
  readonly method: Method;
  /** Path with its parameters in braces. */
  readonly path: string;
  readonly summary: string;
  /** Name of the operation in the document. Default: made of method and path. */
  readonly operationId?: string;
  readonly body?: z.ZodType;
  readonly reply?: z.ZodType;
  /** Time at which it is allowed; always, if it says nothing. */
  readonly when?: 'before start' | 'after start';
  handle(call: Call<never>): Promise<Reply> | Reply;
  readonly upgrade?: Upgrade;
}

/** Protocol for which a client may have its connection (RFC 9110, 7.8). */
export interface Upgrade {
  readonly protocol: string;
  /**
   * Takes the connection over.
   *
   * @param accept - tells the client that it has it; before that is called, an error is answered
   */
  take(instance: Instance, socket: Duplex, accept: () => void): void | Promise<void>;
}

/** Makes a row of the table, with the type of its body put right once, here. */
export function route<Schema extends z.ZodType = z.ZodUndefined>(
  definition: Omit<Route, 'handle' | 'body'> & {
    readonly body?: Schema;
    handle(call: Call<z.infer<Schema>>): Promise<Reply> | Reply;
  },
): Route {
  return definition as Route;
}
