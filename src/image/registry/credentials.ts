/** Credentials for registries, where podman and docker keep them. */
import { z } from 'zod';
import { TsvmError } from '../../errors.js';
import { parseFile, readJsonFile } from '../json-file.js';
import { HUB_HOST } from '../reference.js';
import { askHelper } from './credential-helper.js';

export type Credential =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** Long-lived token, for which a token server gives short ones. */
  | { readonly kind: 'identity'; readonly token: string };

/** Gives the credential for a repository's registry, as names have both; undefined for none. */
export type CredentialSource = (registry: string, repository: string) => Promise<Credential | undefined>;

/** Docker's own name for Docker Hub in these files. */
const HUB_SERVER = 'https://index.docker.io/v1/';
/** User name of a helper for an identity token. */
const TOKEN_USER = '<token>';

const schema = z.object({
  auths: z
    .record(z.string(), z.object({ auth: z.string().optional(), identitytoken: z.string().optional() }))
    .nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
  credsStore: z.string().nullish(),
});
type AuthFile = z.infer<typeof schema>;

/**
 * Reads credentials from the files at `paths`, of which the first that has one counts; a file that is not there has none. They are read, and
 * helpers asked, when a registry wants a credential.
 */
export function credentialFiles(paths: readonly string[]): CredentialSource {
  return async (registry, repository) => {
    for (const path of paths) {
      const found = await credentialIn(path, registry, repository);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

async function credentialIn(
  path: string,
  registry: string,
  repository: string,
): Promise<Credential | undefined> {
  const value = await readJsonFile('the credentials', path);
  if (value === undefined) return undefined;
  const file = parseFile(schema, path, value, 'log in again: podman login, docker login');
  const server = registry === HUB_HOST ? HUB_SERVER : registry;
  const helper = file.credHelpers?.[registry] ?? file.credHelpers?.[server] ?? file.credsStore;
  // An empty name is docker's word for none.
  const answer = helper ? await askHelper(helper, server) : undefined;
  if (answer !== undefined) {
    const { username, secret } = answer;
    return username === TOKEN_USER
      ? { kind: 'identity', token: secret }
      : { kind: 'password', username, password: secret };
  }
  return storedIn(file, path, `${registry}/${repository}`);
}

/** Entry of a file for a name: podman's may be for a part of a registry, and the longest counts. */
function storedIn({ auths }: AuthFile, path: string, name: string): Credential | undefined {
  const fitting = Object.entries(auths ?? {})
    .map(([key, entry]) => ({ place: placeOf(key), entry }))
    .filter(({ place }) => name === place || name.startsWith(`${place}/`))
    .sort((a, b) => b.place.length - a.place.length);
  for (const { place, entry } of fitting) {
    if (entry.identitytoken) return { kind: 'identity', token: entry.identitytoken };
    if (!entry.auth) continue; // its helper has it
    const pair = Buffer.from(entry.auth, 'base64').toString('utf8');
    const colon = pair.indexOf(':');
    if (colon < 1) {
      throw new TsvmError('TSVM_FILE', `${path}: what it has for ${place} is no user and password`, {
        hint: `log in again: podman login ${place}, docker login ${place}`,
      });
    }
    const password = pair.slice(colon + 1).replace(/\0+$/, '');
    return { kind: 'password', username: pair.slice(0, colon), password };
  }
  return undefined;
}

/** Key of such a file as a name begins: docker's have a scheme and a version. */
function placeOf(key: string): string {
  if (key === HUB_SERVER || key === 'index.docker.io') return HUB_HOST;
  return key.replace(/^https?:\/\//, '').replace(/\/(v[12]\/?)?$/, '');
}
