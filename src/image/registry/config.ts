/** Rules of the operator's for registries: `tsvm/registries.json` in `$XDG_CONFIG_HOME` or `~/.config`. */
import { z } from 'zod';
import { parseFile, readJsonFile } from '../json-file.js';
import { DOCKER_HUB, HUB_HOST, isHost, isRegistry, parseReference } from '../reference.js';
import { isLocalName, portOf } from './address.js';

/** Rules of one host. Without any: TLS, no address of this host or its link, credentials to nobody else. */
export interface HostRules {
  /** Registries that are asked first: hosts, with a path if need be. */
  readonly mirrors: readonly string[];
  /** HTTP without TLS, and nothing else. */
  readonly plainHttp: boolean;
  /** Permission for its name to lead to an address of this host, of its link or of its cloud. */
  readonly local: boolean;
  /** Path of certificates that are trusted for it besides. */
  readonly ca?: string;
  /** Hosts besides that its credentials may be given to, for a token. */
  readonly tokenHosts: readonly string[];
}

export interface RegistryConfig {
  /** Path of the file, whether it is there or not, for hints. */
  readonly path: string;
  /** Registry, and path for names of one part, that a name without a registry means. */
  readonly unqualified: string;
  readonly hosts: ReadonlyMap<string, Partial<HostRules>>;
}

const MAX_HOSTS = 256;
const MAX_LIST = 16;

const host = z.string().refine(isHost, 'is not a host, with its port if need be, in lower case');
const place = z.string().refine(isPlace, 'is not HOST[:PORT][/PATH], in lower case');
const schema = z.strictObject({
  // Else a name with it would be one of Docker Hub's.
  unqualified: place
    .refine(hasRegistry, 'does not begin with a registry: a host with a dot or a port')
    .optional(),
  registries: z
    .record(
      host,
      z.strictObject({
        mirrors: z.array(place).max(MAX_LIST).optional(),
        plainHttp: z.boolean().optional(),
        local: z.boolean().optional(),
        ca: z.string().min(1).optional(),
        tokenHosts: z.array(host).max(MAX_LIST).optional(),
      }),
    )
    .refine((hosts) => Object.keys(hosts).length <= MAX_HOSTS, `has more than ${MAX_HOSTS} registries`)
    .optional(),
});

/** Hosts that speak for a registry which has another name. */
export const HUB_ENDPOINT = 'registry-1.docker.io';
const ALIASES: Readonly<Record<string, string>> = { [HUB_ENDPOINT]: HUB_HOST };

/** Hosts that give tokens for others, as is known of them. */
const TOKEN_HOSTS: Readonly<Record<string, readonly string[]>> = {
  [HUB_HOST]: ['auth.docker.io'],
  'registry.gitlab.com': ['gitlab.com'],
};

/**
 * Reads the file. Where there is none, nothing is configured.
 *
 * @throws TsvmError `TSVM_FILE` that names the file and what is wrong in it.
 */
export async function readRegistryConfig(path: string): Promise<RegistryConfig> {
  const value = await readJsonFile('the rules for registries', path);
  const hint = 'docs/images.md, Registries, has what may be in it';
  const { unqualified = DOCKER_HUB, registries = {} } = parseFile(schema, path, value ?? {}, hint);
  // A key that is absent is not there, rather than undefined: so JSON is, and what the schema makes of it.
  const hosts = Object.entries(registries) as [string, Partial<HostRules>][];
  return { path, unqualified, hosts: new Map(hosts) };
}

/** Rules of the host that an address names. */
export function rulesOf({ hosts }: RegistryConfig, url: URL): HostRules {
  const names = [`${url.hostname}:${portOf(url)}`, ...(url.port === '' ? [url.hostname] : [])].map(
    (name) => ALIASES[name] ?? name,
  );
  const name = names.find((each) => hosts.has(each));
  const rules = name === undefined ? {} : (hosts.get(name) ?? {});
  return {
    mirrors: [],
    plainHttp: false,
    // Whoever wrote such a name as one of a registry means it.
    local: name !== undefined && isLocalName(url.hostname),
    ...rules,
    tokenHosts: [...names.flatMap((each) => TOKEN_HOSTS[each] ?? []), ...(rules.tokenHosts ?? [])],
  };
}

function hasRegistry(text: string): boolean {
  return isRegistry(hostIn(text));
}

function isPlace(text: string): boolean {
  try {
    if (!isHost(hostIn(text))) return false;
    parseReference('a', text);
    return true;
  } catch {
    return false;
  }
}

/** First part of a place, which is a host if the place is one. */
const hostIn = (text: string): string => text.split('/', 1)[0] ?? '';
