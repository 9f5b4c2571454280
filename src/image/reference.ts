/** Names of images, as docker takes them: `debian`, `debian:12`, `user/repo`, `host:5000/a/b@sha256:...`. */
import { DIGEST } from './digest.js';
import { imageError } from './image-error.js';

/** A name taken apart. Tag and digest may be given together: then the digest decides. One of them is always there. */
export interface Reference {
  /** Host of the registry, in lower case, with its port if it has one: `docker.io`, `127.0.0.1:5000`. */
  readonly registry: string;
  /** Path of the repository there: `library/debian`. */
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: string;
}

/** Registry of Docker Hub, as names have it. */
export const HUB_HOST = 'docker.io';
const HUB_PATH = 'library';
/** Registry, and path before names of one part, that a name without a registry means. */
export const DOCKER_HUB = `${HUB_HOST}/${HUB_PATH}`;
/** Older name of Docker Hub. */
const OLD_HUB_HOST = 'index.docker.io';
const DEFAULT_TAG = 'latest';

/** Bound of a repository's path; distribution's own. */
const MAX_REPOSITORY_CHARACTERS = 255;
/** Bound of a host's name (RFC 1035, 2.3.4) with its port. */
const MAX_REGISTRY_CHARACTERS = 253 + ':65535'.length;
/** Bound of a text that is looked at at all: the parts above, a tag of 128 characters and a digest. */
const MAX_CHARACTERS = 1024;

const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const HOST = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])$/;
/** Words of skopeo for the stores of podman and docker, before a name. */
export const LOCAL_STORE = /^(containers-storage|docker-daemon):./;
/** A digest without its algorithm: it would be taken for an image's id. */
const BARE_ID = /^[0-9a-f]{64}$/;

/**
 * Takes a name apart.
 *
 * @param unqualified - registry, and path for names of one part, that a name without a registry means
 * @throws TsvmError `TSVM_IMAGE` that names the text and what is wrong with it.
 */
export function parseReference(text: string, unqualified: string = DOCKER_HUB): Reference {
  const refused = (why: string, hint = 'names are [REGISTRY/]NAME[:TAG][@sha256:DIGEST]: debian:12'): Error =>
    imageError(`image name '${text.slice(0, MAX_CHARACTERS)}': ${why}`, hint);
  if (text.length > MAX_CHARACTERS) throw refused(`it is longer than ${MAX_CHARACTERS} characters`);
  const scheme = /^([a-z][a-z0-9+.-]*:\/\/)(.*)$/i.exec(text);
  if (scheme !== null) throw refused('it is an address', `leave ${scheme[1]} out: ${scheme[2]}`);
  if (LOCAL_STORE.test(text))
    throw refused(
      'it is in a store of this host, not in a registry',
      `run takes it from there: --image ${text}`,
    );
  const { name, tag, digest } = split(text);
  if (digest !== undefined && !DIGEST.test(digest))
    throw refused(`'${digest}' is not a digest`, 'a digest is sha256: and 64 digits of 0-9 and a-f');
  if (tag !== undefined && !TAG.test(tag))
    throw refused(`'${tag}' is not a tag`, 'a tag has 1 to 128 letters, digits, _, . and -: 12, latest');
  if (name === '') throw refused('there is no name in it');
  if (BARE_ID.test(name)) throw refused('it is an id', `with a name: NAME@sha256:${name}`);

  const { registry, repository } = place(name, unqualified);
  if (registry.length > MAX_REGISTRY_CHARACTERS || !isHost(registry))
    throw refused(`'${registry}' is not the name of a registry`, 'a host, with its port if need be');
  if (repository.length > MAX_REPOSITORY_CHARACTERS)
    throw refused(`its path is longer than ${MAX_REPOSITORY_CHARACTERS} characters`);
  const bad = repository.split('/').find((part) => !PART.test(part));
  if (bad !== undefined) {
    if (PART.test(bad.toLowerCase()))
      throw refused('upper case is not allowed', `write it in lower case: ${text.toLowerCase()}`);
    throw refused(
      `'${bad}' is not part of a name`,
      'parts are a-z and 0-9, with single ., _, __ or - between',
    );
  }
  return {
    registry,
    repository,
    ...(tag === undefined && digest === undefined ? { tag: DEFAULT_TAG } : {}),
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** Whole name, which means the same wherever it is read: `docker.io/library/debian:12`. */
export function formatReference(reference: Reference): string {
  return `${reference.registry}/${reference.repository}${suffixOf(reference)}`;
}

/** Shortest name that means the same by default: `debian:12`. */
export function shortReference(reference: Reference): string {
  const { registry, repository } = reference;
  if (registry !== HUB_HOST) return formatReference(reference);
  const official = `${HUB_PATH}/`;
  const short =
    repository.startsWith(official) && !repository.slice(official.length).includes('/')
      ? repository.slice(official.length)
      : repository;
  return `${short}${suffixOf(reference)}`;
}

/** Tells whether two texts are one name, in full or shortened; texts that are no names of images are compared as they are. */
export function isSameName(one: string, other: string): boolean {
  return one === other || wholeName(one) === wholeName(other);
}

function wholeName(text: string): string {
  try {
    return formatReference(parseReference(text));
  } catch {
    return text;
  }
}

function suffixOf({ tag, digest }: Reference): string {
  return `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** Splits digest and tag off. A colon before the last slash belongs to the registry's port. */
function split(text: string): { name: string; tag?: string; digest?: string } {
  const at = text.indexOf('@');
  const named = at < 0 ? text : text.slice(0, at);
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1);
  return {
    name: colon < 0 ? named : named.slice(0, colon),
    ...(colon < 0 ? {} : { tag: named.slice(colon + 1) }),
    ...(at < 0 ? {} : { digest: text.slice(at + 1) }),
  };
}

/** Tells whether the first part of a name is a host, rather than the path of a repository. */
export function isRegistry(part: string): boolean {
  return part === 'localhost' || /[.:]/.test(part);
}

/** Tells registry and path apart: the first part is a host if it looks like one. */
function place(name: string, unqualified: string): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(0, slash));
  if (!isRegistry(first)) {
    const [registry = '', ...path] = unqualified.split('/');
    return { registry, repository: slash < 0 ? [...path, name].join('/') : name };
  }
  const registry = first.toLowerCase() === OLD_HUB_HOST ? HUB_HOST : first.toLowerCase();
  const repository = name.slice(slash + 1);
  return {
    registry,
    repository: registry === HUB_HOST && !repository.includes('/') ? `${HUB_PATH}/${repository}` : repository,
  };
}

/**
 * Tells whether a text is a host, with a port if it has one, in the one form that it has in an address: `0x7f.1` is 127.0.0.1 under
 * another name, so rules for hosts could miss it.
 */
export function isHost(text: string): boolean {
  const [, host = '', port] = /^(.*?)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (!HOST.test(host)) return false;
  if (port !== undefined && (String(Number(port)) !== port || Number(port) < 1 || Number(port) > 65535))
    return false;
  return URL.canParse(`https://${host}/`) && new URL(`https://${host}/`).hostname === host;
}
