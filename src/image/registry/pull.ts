/** Pulling: an image's documents and layers from a registry, or a mirror of it, into the store of blobs. */
import { TsvmError } from '../../errors.js';
import { formatBytes } from '../../util/units.js';
import type { BlobStore } from '../blob-store.js';
import { digestOf } from '../digest.js';
import { imageError } from '../image-error.js';
import { MAX_DOCUMENT_BYTES, MAX_INDEX_DEPTH } from '../oci/documents.js';
import { chooseManifest } from '../oci/platform.js';
import { formatReference, HUB_HOST, parseReference, type Reference } from '../reference.js';
import { Authorizer, type Place } from './authorizer.js';
import { type ClientOptions, RegistryClient } from './client.js';
import { HUB_ENDPOINT, type RegistryConfig, readRegistryConfig, rulesOf } from './config.js';
import { credentialFiles } from './credentials.js';
import { checkConfig, readSent, type SentDescriptor, type SentDocument } from './manifest.js';
import type { ProxyVariables } from './proxy.js';
import { Transport } from './transport.js';

/** Layers that are fetched at the same time; more gain nothing, since they share the line. */
const SIDE_BY_SIDE = 3;
const SILENCE_MS = 30_000;

/** Files and variables of the operator's that say how registries are reached. */
export interface RegistrySettings {
  /** Path of the rules for registries. */
  readonly rules: string;
  /** Paths of files with credentials, as podman and docker write them. */
  readonly credentials: readonly string[];
  readonly proxy: ProxyVariables;
  /** Paths of certificates that are trusted besides. */
  readonly certificates: readonly string[];
  /** Longest silence of a registry. Default: 30 s */
  readonly silenceMs?: number;
}

export type PullEvent =
  | { readonly kind: 'layers'; readonly layers: readonly SentDescriptor[] }
  /** Number of bytes of a layer that are there. */
  | { readonly kind: 'progress'; readonly digest: string; readonly bytes: number }
  /** Wait for another process, which fetches a layer. */
  | { readonly kind: 'wait'; readonly digest: string }
  /** Line for the operator: of another try, or of another command that is waited for. */
  | { readonly kind: 'note'; readonly text: string };

export interface PullOptions extends Pick<ClientOptions, 'signal' | 'firstPauseMs'> {
  /** Highest level of x86-64 that the image may need. Default: 1 */
  readonly level?: number;
  readonly onEvent?: (event: PullEvent) => void;
  /** Called when all is there, while nothing of it can be removed: to give it a name. */
  readonly onStored?: (image: PulledImage) => void | Promise<void>;
}

export interface PulledImage {
  /** Digest that the registry's name means: of an index, or of the manifest itself. */
  readonly digest: string;
  /** Manifest for linux/amd64. */
  readonly manifest: { readonly mediaType: string; readonly digest: string; readonly size: number };
  readonly config: SentDescriptor;
  readonly layers: readonly SentDescriptor[];
}

/** Registries, as the operator configured them. Tokens and connections are kept until it is disposed of. */
export class Registries implements Disposable {
  readonly config: RegistryConfig;
  readonly #transport: Transport;
  readonly #authorizer: Authorizer;

  private constructor(config: RegistryConfig, settings: RegistrySettings) {
    const { proxy, certificates, silenceMs = SILENCE_MS } = settings;
    this.config = config;
    this.#transport = new Transport({ config, proxy, certificates, silenceMs });
    this.#authorizer = new Authorizer(config, this.#transport, credentialFiles(settings.credentials));
  }

  /** @throws TsvmError `TSVM_FILE` if the rules are not right. */
  static async open(settings: RegistrySettings): Promise<Registries> {
    return new Registries(await readRegistryConfig(settings.rules), settings);
  }

  /** Takes a name apart, as the rules have it. @throws TsvmError `TSVM_IMAGE` */
  parse(text: string): Reference {
    return parseReference(text, this.config.unqualified);
  }

  /**
   * Fetches what is missing of an image. The manifest is kept last, so that all is there if it is.
   *
   * @throws TsvmError that says what is wrong; the blobs that came are there for the next time.
   */
  async pull(reference: Reference, store: BlobStore, options: PullOptions = {}): Promise<PulledImage> {
    const { signal, onEvent } = options;
    const onWait = (): void =>
      onEvent?.({ kind: 'note', text: 'waiting for another command, which removes images' });
    return await store.hold(
      async () => {
        const image = await this.#fromAnywhere(reference, store, options);
        await options.onStored?.(image);
        return image;
      },
      { signal, onWait },
    );
  }

  /** Asks mirrors first, and the registry itself last; what one has sent of a blob, the next need not. */
  async #fromAnywhere(reference: Reference, store: BlobStore, options: PullOptions): Promise<PulledImage> {
    const places = this.#places(reference);
    for (const [i, place] of places.entries()) {
      const stop = new AbortController();
      const signal = AbortSignal.any([
        stop.signal,
        ...(options.signal === undefined ? [] : [options.signal]),
      ]);
      const client = this.#client(place, { ...options, signal });
      try {
        return await new Pull(reference, store, client, { ...options, signal }, stop).run();
      } catch (error) {
        if (i === places.length - 1 || !(error instanceof TsvmError) || error.code === 'TSVM_FILE')
          throw error;
        options.onEvent?.({ kind: 'note', text: `${error.message}; trying ${places[i + 1]?.base.host}` });
      }
    }
    throw imageError(`${formatReference(reference)}: there is nowhere to ask`);
  }

  #places({ registry, repository }: Reference): Place[] {
    const host = registry === HUB_HOST ? HUB_ENDPOINT : registry;
    const own = { registry, repository, base: this.#base(host) };
    const mirrors = rulesOf(this.config, own.base).mirrors.map((mirror) => {
      const [name = '', ...path] = mirror.split('/');
      const base = this.#base(name);
      if (path.length > 0) base.pathname = `/${path.join('/')}/`;
      return { registry: name, repository, base };
    });
    return [...mirrors, own];
  }

  #base(host: string): URL {
    const url = new URL(`http://${host}/`);
    return rulesOf(this.config, url).plainHttp ? url : new URL(`https://${host}/`);
  }

  #client(place: Place, { signal, firstPauseMs, onEvent }: PullOptions): RegistryClient {
    const onRetry = (why: string, pauseMs: number): void =>
      onEvent?.({ kind: 'note', text: `${why}; trying again in ${Math.ceil(pauseMs / 1000)} s` });
    return new RegistryClient(place, this.#transport, this.#authorizer, { signal, firstPauseMs, onRetry });
  }

  [Symbol.dispose](): void {
    this.#transport[Symbol.dispose]();
  }
}

/** Pull of one image from one address. */
class Pull {
  readonly #name: string;
  readonly #reference: Reference;
  readonly #store: BlobStore;
  readonly #client: RegistryClient;
  readonly #options: PullOptions;
  readonly #stop: AbortController;

  /** @param stop - its signal is in that of `options`, and of the client's */
  constructor(
    reference: Reference,
    store: BlobStore,
    client: RegistryClient,
    options: PullOptions,
    stop: AbortController,
  ) {
    this.#name = formatReference(reference);
    this.#reference = reference;
    this.#store = store;
    this.#client = client;
    this.#options = options;
    this.#stop = stop;
  }

  async run(): Promise<PulledImage> {
    const { digest, tag } = this.#reference;
    const documents: Uint8Array[] = [];
    let found = await this.#document(digest ?? tag ?? '', digest);
    documents.push(found.bytes);
    const top = found.digest;
    for (let depth = 1; found.document.kind === 'index'; depth++) {
      if (depth > MAX_INDEX_DEPTH) throw imageError(`${this.#name}: indexes within indexes within indexes`);
      const chosen = chooseManifest(this.#name, found.document.manifests, this.#options.level ?? 1);
      if (chosen.size > MAX_DOCUMENT_BYTES)
        throw imageError(`${this.#name}: its manifest is longer than ${formatBytes(MAX_DOCUMENT_BYTES)}`);
      found = await this.#document(chosen.digest, chosen.digest, chosen.mediaType);
      documents.push(found.bytes);
    }
    const { mediaType, config, layers } = found.document;
    const unique = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
    this.#options.onEvent?.({ kind: 'layers', layers: unique });
    await this.#store.checkSpace(unique);
    await this.#fetch(config);
    checkConfig(this.#name, this.#store.read(config.digest, MAX_DOCUMENT_BYTES));
    await this.#fetchAll(unique);
    for (const bytes of documents.reverse()) await this.#store.addBytes(bytes);
    const manifest = { mediaType, digest: found.digest, size: found.bytes.length };
    return { digest: top, manifest, config, layers };
  }

  /** Fetches an index or manifest. @param wanted - digest that it must have @param type - of the descriptor that leads to it */
  async #document(
    at: string,
    wanted: string | undefined,
    type?: string,
  ): Promise<{ digest: string; bytes: Uint8Array; document: SentDocument }> {
    const { bytes, contentType, digest: said } = await this.#client.manifest(at);
    const digest = digestOf(bytes);
    const due = wanted ?? (said?.startsWith('sha256:') ? said : digest);
    if (digest !== due)
      throw imageError(`${this.#name}: its manifest should be ${due}, and what came is ${digest}`);
    return { digest, bytes, document: readSent(this.#name, bytes, type ?? contentType) };
  }

  /** Fetches blobs, some side by side. The first that fails stops the others. */
  async #fetchAll(blobs: readonly SentDescriptor[]): Promise<void> {
    const queue = [...blobs];
    const { signal } = this.#stop;
    const work = async (): Promise<void> => {
      try {
        for (let blob = queue.shift(); blob !== undefined; blob = queue.shift()) {
          signal.throwIfAborted();
          await this.#fetch(blob);
        }
      } catch (error) {
        this.#stop.abort(error);
      }
    };
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, work));
    signal.throwIfAborted();
  }

  async #fetch(blob: SentDescriptor): Promise<void> {
    const { signal, onEvent } = this.#options;
    await this.#store.add(blob, (start) => this.#client.blob(blob, start), {
      signal,
      onProgress: (bytes) => onEvent?.({ kind: 'progress', digest: blob.digest, bytes }),
      onWait: () => onEvent?.({ kind: 'wait', digest: blob.digest }),
    });
  }
}
