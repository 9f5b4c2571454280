/** Registry of the tests' own, which a test may have answer wrongly. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../src/image/digest.js';
import { CERTIFICATE, CERTIFICATE_KEY } from './test-certificates.js';

export const OCI = 'application/vnd.oci.image';
export const MANIFEST_TYPE = `${OCI}.manifest.v1+json`;
export const INDEX_TYPE = `${OCI}.index.v1+json`;
export const CONFIG_TYPE = `${OCI}.config.v1+json`;
export const LAYER_TYPE = `${OCI}.layer.v1.tar+gzip`;

export interface SentDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Takes an answer over; false leaves it to the registry. */
export type Answer = (request: IncomingMessage, response: ServerResponse) => boolean;

export class LyingRegistry implements AsyncDisposable {
  readonly host: string;
  /** Requests that came: method, path, and whether they had a credential. */
  readonly requests: IncomingMessage[] = [];
  readonly blobs = new Map<string, Buffer>();
  /** Documents by `NAME/manifests/TAG` or `NAME/manifests/DIGEST`. */
  readonly documents = new Map<string, { readonly bytes: Buffer; readonly type: string }>();
  answer: Answer = () => false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('connection', (socket: Socket) => this.#sockets.add(socket));
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      this.requests.push(request);
      if (!this.answer(request, response)) this.#serve(request, response);
    });
  }

  static async start(options: { readonly tls?: boolean } = {}): Promise<LyingRegistry> {
    const server =
      options.tls === true ? createTlsServer({ cert: CERTIFICATE, key: CERTIFICATE_KEY }) : createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new LyingRegistry(server);
  }

  /** Paths that were asked for, without the version. */
  get paths(): string[] {
    return this.requests.map(({ url = '' }) => url.replace('/v2/', ''));
  }

  /** Blob that a request's address names. */
  blobAt(url: string): Buffer | undefined {
    return this.blobs.get(url.replace(/^.*\/blobs\//, ''));
  }

  blob(bytes: Buffer, mediaType: string): SentDescriptor {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  document(name: string, tag: string | undefined, value: object, type: string): SentDescriptor {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = digestOf(bytes);
    for (const each of [digest, ...(tag === undefined ? [] : [tag])])
      this.documents.set(`${name}/manifests/${each}`, { bytes, type });
    return { mediaType: type, digest, size: bytes.length };
  }

  /** Has an image of layers; `more` changes its manifest. */
  image(
    name: string,
    tag: string | undefined,
    layers: readonly Buffer[],
    more: object = {},
    platform: object = { os: 'linux', architecture: 'amd64' },
  ): SentDescriptor {
    const config = this.blob(
      Buffer.from(
        JSON.stringify({ ...platform, rootfs: { type: 'layers', diff_ids: layers.map(digestOf) } }),
      ),
      CONFIG_TYPE,
    );
    const sent = layers.map((layer) => this.blob(gzipSync(layer, { level: 0 }), LAYER_TYPE));
    const manifest = { schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers: sent, ...more };
    return this.document(name, tag, manifest, MANIFEST_TYPE);
  }

  #serve({ url = '', headers }: IncomingMessage, response: ServerResponse): void {
    const path = url.replace('/v2/', '');
    const document = this.documents.get(path);
    const blob = this.blobAt(url);
    if (document !== undefined) {
      response.setHeader('Docker-Content-Digest', digestOf(document.bytes));
      response.setHeader('Content-Type', document.type);
      response.end(document.bytes);
    } else if (blob !== undefined) {
      const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
      response.statusCode = start > 0 ? 206 : 200;
      if (start > 0) response.setHeader('Content-Range', `bytes ${start}-${blob.length - 1}/${blob.length}`);
      response.setHeader('Content-Length', blob.length - start);
      response.end(blob.subarray(start));
    } else {
      response.statusCode = 404;
      response.end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
