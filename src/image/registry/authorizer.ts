/**
 * Answers to a registry's challenges: Basic, or a token that is fetched where the challenge says (distribution's token specification).
 *
 * A credential goes to its registry's own host, and to hosts that are known or configured to give its tokens: a challenge may name any.
 *
 * @spec distribution-auth token.md  Bearer tokens for pulling  #yes
 * @spec distribution-auth oauth.md  Identity tokens  #partial  none is asked for: docker login has done it
 */
import { z } from 'zod';
import { imageError } from '../image-error.js';
import { readBody } from './body.js';
import { basicAnswer, type Challenge, parseChallenges } from './challenge.js';
import { type RegistryConfig, rulesOf } from './config.js';
import type { Credential, CredentialSource } from './credentials.js';
import { Interruption } from './net-error.js';
import type { Request, Transport } from './transport.js';

/** Life of a token that does not say its own, and time before its end when it is not used any more (token.md). */
const DEFAULT_LIFE_S = 60;
const SPARE_S = 10;
const MAX_LIFE_S = 24 * 3600;
/** Longest answer of a token server. Tokens are in headers, of which servers take some 8 to 16 KiB. */
const MAX_ANSWER_BYTES = 64 << 10;
const TOKEN = /^[\x21-\x7e]{1,16384}$/;

const tokenSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().optional(),
});

/** Repository of a registry, as a name has both, and the address where it is asked for. */
export interface Place {
  readonly registry: string;
  readonly repository: string;
  readonly base: URL;
}

export class Authorizer {
  readonly #config: RegistryConfig;
  readonly #transport: Transport;
  readonly #credentials: CredentialSource;
  readonly #clock: () => number;
  /** Headers that were right, by registry and repository. */
  readonly #known = new Map<string, { readonly header: string; readonly untilMs: number }>();

  constructor(
    config: RegistryConfig,
    transport: Transport,
    credentials: CredentialSource,
    clock: () => number = Date.now,
  ) {
    this.#config = config;
    this.#transport = transport;
    this.#credentials = credentials;
    this.#clock = clock;
  }

  /** Header that answers what was asked before; undefined if nothing was, or it is too old. */
  known(place: Place): string | undefined {
    const known = this.#known.get(keyOf(place));
    return known !== undefined && known.untilMs > this.#clock() ? known.header : undefined;
  }

  /**
   * Answers a challenge; undefined if there is nothing to answer with.
   *
   * @throws TsvmError `TSVM_IMAGE` if the credential would go to a host that is not to have it.
   */
  async answer(place: Place, challenge: string, signal?: AbortSignal): Promise<string | undefined> {
    const challenges = parseChallenges(challenge);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const basic = challenges.some(({ scheme }) => scheme === 'basic');
    if (bearer === undefined && !basic)
      throw imageError(`${place.registry}: it asks for credentials in a way that is not known`);
    const credential = await this.#credentials(place.registry, place.repository);
    if (bearer !== undefined) return await this.#token(place, bearer, credential, signal);
    if (credential?.kind !== 'password') return undefined;
    return this.#keep(place, basicAnswer(credential), MAX_LIFE_S);
  }

  async #token(
    place: Place,
    { parameters }: Challenge,
    credential: Credential | undefined,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const realm = this.#realm(place, parameters.get('realm') ?? '', credential !== undefined);
    const query = new URLSearchParams({
      service: parameters.get('service') ?? '',
      // No more than is needed, whatever the registry asks for.
      scope: `repository:${repositoryAt(place)}:pull`,
    });
    const response = await (credential?.kind === 'identity'
      ? this.#transport.send(realm, { signal, ...refreshForm(query, credential.token) })
      : this.#transport.send(withQuery(realm, query), {
          signal,
          headers: credential === undefined ? {} : { Authorization: basicAnswer(credential) },
        }));
    const bytes = await readBody(response, MAX_ANSWER_BYTES, realm.host);
    const status = response.statusCode ?? 0;
    if (status === 429 || status >= 500) throw new Interruption(`${realm.host}: it answers ${status}`);
    const given = credential !== undefined;
    if (status === 401 || status === 403 || (status === 400 && given)) {
      const why = given ? 'the credentials are refused' : 'it gives no token without credentials';
      throw imageError(`${place.registry}: ${why} (by ${realm.host})`, loginHint(place.registry));
    }
    const { token, lifeS } = readToken(status, bytes, realm.host);
    return this.#keep(place, `Bearer ${token}`, lifeS);
  }

  /** Address for tokens. With a credential, only one that may have it. */
  #realm({ registry, base }: Place, text: string, hasCredential: boolean): URL {
    const realm = URL.canParse(text) ? new URL(text) : undefined;
    const isFit = realm !== undefined && /^https?:$/.test(realm.protocol) && realm.username === '';
    if (!isFit) throw imageError(`${registry}: what it says of where tokens are is no address`);
    if (base.protocol === 'https:' && realm.protocol !== 'https:')
      throw imageError(`${registry}: it would have a token be fetched without TLS, from ${realm.host}`);
    const trusted = [base.host, ...rulesOf(this.#config, base).tokenHosts];
    if (!hasCredential || trusted.includes(realm.host)) return realm;
    throw imageError(
      `${registry}: it would have its credentials be sent to ${realm.host}`,
      `if that host is to have them: {"registries": {"${registry}": {"tokenHosts": ["${realm.host}"]}}} in ${this.#config.path}`,
    );
  }

  #keep(place: Place, header: string, lifeS: number): string {
    this.#known.set(keyOf(place), { header, untilMs: this.#clock() + Math.max(0, lifeS - SPARE_S) * 1000 });
    return header;
  }
}

/** Remedy for credentials that are missing or refused. */
export function loginHint(registry: string): string {
  return `log in: podman login ${registry}, or docker login ${registry}`;
}

/** Path of a repository at an address, as the registry there knows it: a mirror's may have more before it. */
export function repositoryAt({ base, repository }: Place): string {
  return `${base.pathname.slice(1)}${repository}`;
}

function keyOf(place: Place): string {
  return `${place.base.origin}/${repositoryAt(place)}`;
}

function withQuery(url: URL, query: URLSearchParams): URL {
  const whole = new URL(url);
  for (const [name, value] of query) whole.searchParams.set(name, value);
  return whole;
}

function refreshForm(query: URLSearchParams, token: string): Request {
  const form = new URLSearchParams(query);
  form.set('grant_type', 'refresh_token');
  form.set('client_id', 'tsvm');
  form.set('refresh_token', token);
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  return { method: 'POST', body: form.toString(), headers };
}

function readToken(status: number, bytes: Uint8Array, host: string): { token: string; lifeS: number } {
  const refused = (why: string, cause?: unknown): Error =>
    imageError(`${host}: ${why}`, 'try again later', cause);
  if (status !== 200) throw refused(`it answers ${status} when asked for a token`);
  try {
    const value = tokenSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    const token = value.token || value.access_token || '';
    if (!TOKEN.test(token)) throw new Error('there is none in the answer');
    const lifeS = Math.min(MAX_LIFE_S, Math.max(DEFAULT_LIFE_S, value.expires_in ?? 0));
    return { token, lifeS };
  } catch (cause) {
    throw refused('what it answers is no token', cause);
  }
}
