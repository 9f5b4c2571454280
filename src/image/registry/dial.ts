/** Connections to registries: the address that is connected to is one that was judged. */
import { lookup } from 'node:dns/promises';
import { type EventEmitter, once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';
import { TsvmError } from '../../errors.js';
import { imageError } from '../image-error.js';
import { bareHost, localKind, portOf } from './address.js';
import { basicAnswer } from './challenge.js';
import { Interruption } from './net-error.js';

export interface Target {
  readonly url: URL;
  /** Permission for it to be at an address of this host, its link or its cloud. */
  readonly local: boolean;
  /** Certificates that are trusted, read when they are needed. */
  readonly trust: () => SecureContext;
}

export interface DialOptions {
  /** Proxy to go through: by CONNECT for TLS, else the request names the whole address. */
  readonly proxy: URL | undefined;
  /** Longest silence. */
  readonly silenceMs: number;
  /** Ends what is not connected yet. */
  readonly signal?: AbortSignal | undefined;
}

/** Connects, with TLS if the address says so. Rejects with what `net`, `tls` and `dns` say, or a TsvmError. */
export async function dial(target: Target, options: DialOptions): Promise<Socket> {
  const { url } = target;
  const { proxy } = options;
  const isTls = url.protocol === 'https:';
  // Before anything is open: files of certificates may be missing.
  const context = isTls || proxy?.protocol === 'https:' ? target.trust() : undefined;
  if (proxy === undefined) {
    const socket = await open(url, target.local, options);
    return isTls ? await secure(socket, url, context, options) : socket;
  }
  // The operator named it, wherever it is; it looks names up by itself.
  const socket = await open(proxy, true, options);
  const outer = proxy.protocol === 'https:' ? await secure(socket, proxy, context, options) : socket;
  if (!isTls) return outer;
  await tunnel(outer, proxy, url, options);
  return await secure(outer, url, context, options);
}

/** Credentials for a proxy, of its address. */
export function proxyHeaders({ username, password }: URL): Record<string, string> {
  if (username === '') return {};
  const pair = { username: decoded(username), password: decoded(password) };
  return { 'Proxy-Authorization': basicAnswer(pair) };
}

/** Text of a part of an address; a % that begins no escape is one. */
function decoded(text: string): string {
  return text.replace(/(%[0-9A-Fa-f]{2})+/g, (bytes) =>
    Buffer.from(bytes.replaceAll('%', ''), 'hex').toString('utf8'),
  );
}

async function open(url: URL, local: boolean, options: DialOptions): Promise<Socket> {
  const host = bareHost(url.hostname);
  const family = isIP(host);
  const addresses = family === 0 ? await lookup(host, { all: true }) : [{ address: host, family }];
  for (const { address } of local ? [] : addresses) {
    const kind = localKind(address);
    if (kind === undefined) continue;
    throw imageError(
      `${url.host} leads to ${address}, an address ${kind}`,
      `if it is meant: "local": true for ${url.host} in the rules for registries (docs/images.md)`,
    );
  }
  const socket = connectTcp({
    host,
    port: Number(portOf(url)),
    noDelay: true,
    // What was judged, not what the name leads to a moment later.
    lookup: (_name, options, callback) => {
      const [first] = addresses;
      if (options.all === true) callback(null, addresses);
      else callback(null, first?.address ?? '', first?.family);
    },
  });
  await within(options, url.host, socket, 'connect');
  return socket;
}

async function secure(
  socket: Socket,
  url: URL,
  secureContext: SecureContext | undefined,
  options: DialOptions,
): Promise<Socket> {
  const host = bareHost(url.hostname);
  const name = isIP(host) === 0 ? { servername: host } : {};
  const tls = connectTls({ socket, host, secureContext, ALPNProtocols: ['http/1.1'], ...name });
  await within(options, url.host, tls, 'secureConnect');
  return tls;
}

/** Asks a proxy for a way to a host. */
async function tunnel(socket: Socket, proxy: URL, url: URL, options: DialOptions): Promise<void> {
  const place = `${url.hostname}:${portOf(url)}`;
  const headers = { Host: place, ...proxyHeaders(proxy) };
  const request = httpRequest({ method: 'CONNECT', path: place, headers, createConnection: () => socket });
  request.on('error', () => {}); // also when nobody waits any more
  request.end();
  const [response] = (await within(options, url.host, socket, 'connect', request)) as [IncomingMessage];
  if (response.statusCode === 200) return;
  socket.destroy();
  throw new TsvmError(
    'TSVM_HOST',
    `the proxy ${proxy.host} refuses to connect to ${place}: ${response.statusCode}`,
    { hint: 'check HTTPS_PROXY and NO_PROXY' },
  );
}

/** Waits for a step of a connection, which is closed if it fails, takes too long or is not wanted any more. */
async function within(
  { silenceMs, signal }: DialOptions,
  host: string,
  socket: Socket,
  event: string,
  emitter: EventEmitter = socket,
): Promise<unknown[]> {
  const timer = setTimeout(() => socket.destroy(silence(host, silenceMs)), silenceMs);
  try {
    return await once(emitter, event, signal === undefined ? {} : { signal });
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Error of a connection on which nothing comes. */
export function silence(host: string, ms: number): Interruption {
  return new Interruption(`${host}: nothing came for ${ms / 1000} s`);
}
