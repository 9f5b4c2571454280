/**
 * Registry at one address: documents and blobs, with redirects, credentials and second tries.
 *
 * @spec oci-distribution-1.1 spec.md#pull  Pulling manifests and blobs  #yes
 * @spec oci-distribution-1.1 spec.md#push  Pushing  #no  skopeo and docker do that
 */
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { TsvmError } from '../../errors.js';
import type { BlobFacts } from '../blob-store.js';
import { imageError } from '../image-error.js';
import { MAX_DOCUMENT_BYTES } from '../oci/documents.js';
import { type Authorizer, loginHint, type Place, repositoryAt } from './authorizer.js';
import { dropBody, pieces, readBody } from './body.js';
import { ACCEPTED } from './manifest.js';
import { Interruption } from './net-error.js';
import type { Transport } from './transport.js';

/** Redirects that one request may follow; registries send blobs' readers to a store, once. */
const MAX_REDIRECTS = 5;
/** Tries of a request, and of a blob that does not come on. */
const MAX_TRIES = 5;
/** Pause before the second try; each later one is twice as long. */
const FIRST_PAUSE_MS = 500;
/** Longest time that a registry may ask to wait; whoever is asked to wait longer is told so. */
const MAX_WAIT_MS = 60_000;
/** Bytes of a blob by which it has come on. */
const HEADWAY_BYTES = 64 << 10;

export interface ClientOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called before a pause, with what went wrong. */
  readonly onRetry?: ((why: string, pauseMs: number) => void) | undefined;
  /** Length of the first pause. */
  readonly firstPauseMs?: number | undefined;
}

export interface FetchedDocument {
  readonly bytes: Uint8Array;
  readonly contentType: string | undefined;
  /** Digest that the registry says it has. */
  readonly digest: string | undefined;
}

export class RegistryClient {
  readonly #place: Place;
  readonly #transport: Transport;
  readonly #authorizer: Authorizer;
  readonly #options: ClientOptions;

  constructor(place: Place, transport: Transport, authorizer: Authorizer, options: ClientOptions = {}) {
    this.#place = place;
    this.#transport = transport;
    this.#authorizer = authorizer;
    this.#options = options;
  }

  /** Fetches an index or a manifest by its tag or digest. */
  async manifest(reference: string): Promise<FetchedDocument> {
    return await this.#persist(async () => {
      const response = await this.#get(`manifests/${reference}`, { Accept: ACCEPTED });
      const { 'content-type': contentType, 'docker-content-digest': digest } = response.headers;
      return {
        bytes: await readBody(response, MAX_DOCUMENT_BYTES, this.#place.base.host),
        contentType,
        digest: typeof digest === 'string' ? digest : undefined,
      };
    });
  }

  /** Streams a blob from `start` on; where it is cut off, it is asked for the rest. What comes is not compared with the digest. */
  async *blob({ digest, size }: BlobFacts, start: number): AsyncGenerator<Uint8Array> {
    let at = start;
    let reached = start;
    for (let tries = 1; at < size; tries++) {
      try {
        for await (const piece of this.#rest(digest, at)) {
          at += piece.length;
          yield piece;
        }
        if (at < size) throw new Interruption(`${this.#place.base.host}: the connection was cut`);
      } catch (error) {
        if (at - reached >= HEADWAY_BYTES) tries = 1;
        reached = at;
        await this.#pause(error, tries);
      }
    }
  }

  /** Part of a blob from `start` on. A registry that knows no ranges sends all of it. */
  async *#rest(digest: string, start: number): AsyncGenerator<Uint8Array> {
    const headers: Record<string, string> = start === 0 ? {} : { Range: `bytes=${start}-` };
    const response = await this.#get(`blobs/${digest}`, headers);
    const { statusCode, headers: said } = response;
    const { host } = this.#place.base;
    const isPart = statusCode === 206;
    const from = /^bytes (\d+)-/.exec(said['content-range'] ?? '')?.[1];
    if (isPart && Number(from) !== start) {
      response.destroy();
      throw imageError(`${host}: asked for a blob from byte ${start} on, it sends another part`);
    }
    let skipped = isPart ? start : 0;
    for await (const piece of pieces(response, host)) {
      const rest = piece.subarray(Math.min(piece.length, start - skipped));
      skipped += piece.length - rest.length;
      if (rest.length > 0) yield rest;
    }
  }

  /** Asks, and follows what the registry says, to an answer with the thing itself. @throws TsvmError or Interruption */
  async #get(path: string, headers: Readonly<Record<string, string>>): Promise<IncomingMessage> {
    const place = this.#place;
    const first = new URL(`/v2/${repositoryAt(place)}/${path}`, place.base);
    let url = first;
    let authorization = this.#authorizer.known(place);
    let challenged = false;
    for (let redirects = 0; redirects <= MAX_REDIRECTS; ) {
      // A host that is redirected to is another's, or a store that anybody may read.
      const isOwn = url.origin === first.origin;
      const response = await this.#transport.send(url, {
        headers:
          isOwn && authorization !== undefined ? { ...headers, Authorization: authorization } : headers,
        signal: this.#options.signal,
      });
      const status = response.statusCode ?? 0;
      if (status === 200 || status === 206) {
        const { 'content-encoding': encoding = 'identity' } = response.headers;
        if (encoding === 'identity') return response;
        response.destroy();
        throw imageError(`${url.host}: it sends what it was not asked for (Content-Encoding: ${encoding})`);
      }
      dropBody(response);
      if (isRedirect(status)) {
        url = redirected(url, response.headers.location, place.registry);
        redirects++;
      } else if (status === 401 && isOwn && !challenged) {
        challenged = true;
        const challenge = response.headers['www-authenticate'] ?? '';
        authorization = await this.#authorizer.answer(place, challenge, this.#options.signal);
        if (authorization === undefined) throw this.#refused(false);
      } else throw this.#answered(path, status, isOwn, url.host, response.headers['retry-after']);
    }
    throw imageError(`${place.registry}: it redirects again and again, at last to ${url.host}`);
  }

  /** @param path - what was asked for */
  #answered(
    path: string,
    status: number,
    isOwn: boolean,
    host: string,
    retryAfter: string | undefined,
  ): Error {
    if (status === 429 || status === 408 || status >= 500) {
      const retryAfterMs = waitOf(retryAfter);
      return new Interruption(
        status === 429 ? `${host}: too many requests (429)` : `${host}: it answers ${status}`,
        { retryAfterMs },
      );
    }
    // The address that the registry gave is too old: it gives another.
    if (!isOwn && status >= 400) return new Interruption(`${host}: it answers ${status}`);
    if (status === 401 || status === 403) return this.#refused(true);
    if (status === 404) {
      const { registry, repository } = this.#place;
      const [kind, reference = ''] = path.split('/');
      const of = `${registry}/${repository}${reference.includes(':') ? '@' : ':'}${reference}`;
      return kind === 'manifests'
        ? imageError(`${of}: the registry has no such image`, 'check name and tag')
        : imageError(`${of}: the registry has lost this part of the image`, 'tell who keeps the registry');
    }
    return imageError(`${host}: it answers ${status}`);
  }

  #refused(answered: boolean): TsvmError {
    const { registry, repository } = this.#place;
    const why = answered
      ? 'it is not there, or the registry does not give it to you'
      : 'the registry wants credentials, and there are none for it';
    return imageError(`${registry}/${repository}: ${why}`, `check the name; ${loginHint(registry)}`);
  }

  async #persist<T>(action: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await action();
      } catch (error) {
        await this.#pause(error, tries);
      }
    }
  }

  /** Waits until it is time for another try. @throws the error if it does not pass, or not in time */
  async #pause(error: unknown, tries: number): Promise<void> {
    const { signal, onRetry, firstPauseMs = FIRST_PAUSE_MS } = this.#options;
    signal?.throwIfAborted();
    if (!(error instanceof Interruption)) throw error;
    const { retryAfterMs = 0, message, cause } = error;
    if (tries >= MAX_TRIES)
      throw new TsvmError('TSVM_HOST', message, { hint: 'check the network, or try again later', cause });
    if (retryAfterMs > MAX_WAIT_MS)
      throw imageError(`${message}, and asks to wait ${Math.ceil(retryAfterMs / 1000)} s`, 'try again then');
    // Not all at the same time, of those that were interrupted together.
    const pauseMs = Math.max(retryAfterMs, firstPauseMs * 2 ** (tries - 1) * (1 + Math.random() / 4));
    onRetry?.(message, pauseMs);
    try {
      await sleep(pauseMs, undefined, signal === undefined ? {} : { signal });
    } catch {
      signal?.throwIfAborted();
    }
  }
}

function isRedirect(status: number): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

/** Address of a redirect, which leads from TLS to nothing less. @throws TsvmError `TSVM_IMAGE` */
function redirected(from: URL, location: string | undefined, registry: string): URL {
  const to = URL.canParse(location ?? '', from.href) ? new URL(location ?? '', from) : undefined;
  if (location === undefined || to === undefined || !/^https?:$/.test(to.protocol) || to.username !== '')
    throw imageError(`${registry}: it redirects to what is no address`);
  if (from.protocol === 'https:' && to.protocol !== 'https:')
    throw imageError(`${registry}: it redirects to ${to.host} without TLS`);
  return to;
}

/** Retry-After (RFC 9110, 10.2.3): seconds, or a date. */
function waitOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
