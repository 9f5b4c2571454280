/** HTTP to registries: one request and its answer, as Node gives it. Redirects, credentials and second tries are the client's. */
import { readFileSync } from 'node:fs';
import { Agent, type ClientRequestArgs, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import type { Duplex } from 'node:stream';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { TsvmError } from '../../errors.js';
import { describeFileError } from '../../host/files.js';
import { VERSION } from '../../util/version.js';
import { imageError } from '../image-error.js';
import { type RegistryConfig, rulesOf } from './config.js';
import { dial, proxyHeaders, silence } from './dial.js';
import { networkError } from './net-error.js';
import { type ProxyVariables, proxyFor } from './proxy.js';

/** Longest head of an answer: a signed address that is redirected to has some 2 KiB. */
const MAX_HEAD_BYTES = 32 << 10;
/** Connections to one host. */
const MAX_SOCKETS = 6;

export interface TransportOptions {
  readonly config: RegistryConfig;
  readonly proxy: ProxyVariables;
  /** Files of certificates that are trusted beside those of every host's own rules and Node's. */
  readonly certificates: readonly string[];
  /** Longest silence on a connection. */
  readonly silenceMs: number;
}

export interface Request {
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal | undefined;
}

/** Node keeps `signal` from whoever connects, and ends a request only when it has a connection, or none after all. */
interface RequestArguments extends ClientRequestArgs {
  readonly dialing?: AbortSignal;
}

export class Transport implements Disposable {
  readonly #options: TransportOptions;
  /** Agents by protocol and host: each has its own rules. */
  readonly #agents = new Map<string, Agent>();

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /** Sends a request. The answer's body is the caller's to read or destroy. @throws TsvmError or Interruption */
  async send(url: URL, { method = 'GET', headers = {}, body, signal }: Request): Promise<IncomingMessage> {
    this.#refuseUnfit(url);
    const proxy = proxyFor(url, this.#options.proxy);
    const { silenceMs } = this.#options;
    const isRelayed = proxy !== undefined && url.protocol === 'http:';
    return await new Promise((resolve, reject) => {
      const options: RequestArguments = {
        method,
        agent: this.#agentFor(url),
        protocol: url.protocol,
        host: url.hostname,
        port: url.port,
        path: isRelayed ? url.href : `${url.pathname}${url.search}`,
        maxHeaderSize: MAX_HEAD_BYTES,
        timeout: silenceMs,
        headers: {
          'User-Agent': `tsvm/${VERSION}`,
          Host: url.host,
          ...(isRelayed ? proxyHeaders(proxy) : {}),
          ...headers,
        },
        ...(signal === undefined ? {} : { signal, dialing: signal }),
      };
      const request = httpRequest(options);
      request.once('error', (error) =>
        reject(signal?.aborted ? signal.reason : networkError(url.host, error)),
      );
      let answer: IncomingMessage | undefined;
      // Of the body too.
      request.on('timeout', () => (answer ?? request).destroy(silence(url.host, silenceMs)));
      request.once('response', (response) => {
        answer = response;
        resolve(response);
      });
      // Without a listener Node ends the connection and tells nobody.
      request.once('upgrade', (_, socket) => {
        socket.destroy();
        reject(imageError(`${url.host}: it changes to another protocol, which it was not asked to (101)`));
      });
      request.end(body);
    });
  }

  /** Refuses plain HTTP that nobody allowed, before anything is asked for. */
  #refuseUnfit(url: URL): void {
    const { config } = this.#options;
    const { plainHttp } = rulesOf(config, url);
    if (url.protocol === (plainHttp ? 'http:' : 'https:')) return;
    const hint = `if it is meant: {"registries": {"${url.host}": {"plainHttp": true}}} in ${config.path}`;
    throw imageError(`${url.host} would be asked over ${url.protocol.slice(0, -1)}`, hint);
  }

  #agentFor(url: URL): Agent {
    const key = `${url.protocol}//${url.host}`;
    const known = this.#agents.get(key);
    if (known !== undefined) return known;
    const { proxy, silenceMs } = this.#options;
    const rules = rulesOf(this.#options.config, url);
    let trusted: SecureContext | undefined;
    const trust = (): SecureContext => {
      trusted ??= this.#trust(rules.ca);
      return trusted;
    };
    const target = { url, local: rules.local, trust };
    const agent = new (url.protocol === 'https:' ? TlsAgent : Agent)({
      keepAlive: true,
      maxSockets: MAX_SOCKETS,
    });
    agent.createConnection = (
      { dialing }: RequestArguments,
      callback?: (error: Error | null, stream: Duplex) => void,
    ) => {
      const report = callback as (error: Error | null, stream?: Duplex) => void;
      dial(target, { proxy: proxyFor(url, proxy), silenceMs, signal: dialing }).then(
        (socket) => report(null, socket),
        report,
      );
      return undefined;
    };
    this.#agents.set(key, agent);
    return agent;
  }

  #trust(ca: string | undefined): SecureContext {
    const paths = [...this.#options.certificates, ...(ca === undefined ? [] : [ca])];
    const certificates = paths.map((path) => {
      try {
        return readFileSync(path, 'utf8');
      } catch (cause) {
        throw new TsvmError('TSVM_FILE', `cannot read certificates ${path}: ${describeFileError(cause)}`, {
          hint: 'check SSL_CERT_FILE, NODE_EXTRA_CA_CERTS and "ca" in the rules for registries',
          cause,
        });
      }
    });
    try {
      return createSecureContext({ ca: [...rootCertificates, ...certificates] });
    } catch (cause) {
      throw new TsvmError('TSVM_FILE', `${paths.join(', ')}: they are not certificates in PEM`, { cause });
    }
  }

  [Symbol.dispose](): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }
}
