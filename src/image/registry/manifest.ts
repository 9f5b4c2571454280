/**
 * Manifests and indexes as registries give them, checked before anything else of the image is fetched.
 *
 * @spec oci-image-1.1 manifest.md  Image manifests, and Docker's of schema 2  #yes
 * @spec oci-image-1.1 image-index.md  Indexes, by platform and variant  #yes
 */
import { z } from 'zod';
import { TsvmError } from '../../errors.js';
import { formatBytes, GIB } from '../../util/units.js';
import { imageError } from '../image-error.js';
import { describeIssue } from '../json-file.js';
import { digestSchema, MAX_DOCUMENT_BYTES } from '../oci/documents.js';

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const SCHEMA_1 = /^application\/vnd\.docker\.distribution\.manifest\.v1(\+prettyjws|\+json)$/;
const CONFIGS: readonly string[] = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];
const LAYER =
  /^application\/vnd\.(oci\.image\.layer\.v1\.tar(\+gzip|\+zstd)?|docker\.image\.rootfs\.diff\.tar(\.gzip|\.zstd)?)$/;

/** Types that are asked for. */
export const ACCEPTED = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST].join(', ');

/** Bound of layers; overlays of the kernel have at most 500, images of docker at most 127. */
const MAX_LAYERS = 500;
/** Bound of a whole image, compressed: that of an unpacked one. */
const MAX_IMAGE_BYTES = 256 * GIB;

const descriptorSchema = z.object({
  mediaType: z.string(),
  digest: digestSchema,
  size: z.number().int().nonnegative().max(MAX_IMAGE_BYTES),
  urls: z.array(z.string()).optional(),
  platform: z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() }).optional(),
});
const indexSchema = z.object({ manifests: z.array(descriptorSchema).default([]) });
const manifestSchema = z.object({
  config: descriptorSchema,
  layers: z.array(descriptorSchema).max(MAX_LAYERS).default([]),
});
const headSchema = z.object({
  schemaVersion: z.number(),
  mediaType: z.string().optional(),
  manifests: z.unknown().optional(),
  layers: z.unknown().optional(),
  config: z.unknown().optional(),
});
const configSchema = z.object({ os: z.string().optional(), architecture: z.string().optional() });

export type Descriptor = z.infer<typeof descriptorSchema>;

export type Document =
  | { readonly kind: 'index'; readonly mediaType: string; readonly manifests: readonly Descriptor[] }
  | {
      readonly kind: 'manifest';
      readonly mediaType: string;
      readonly config: Descriptor;
      readonly layers: readonly Descriptor[];
    };

/**
 * Reads an index or a manifest.
 *
 * @param name - of the image, for messages
 * @param contentType - as the registry says it; where that says nothing, the document does
 * @throws TsvmError `TSVM_IMAGE` that says what is wrong with it.
 */
export function readDocument(name: string, bytes: Uint8Array, contentType: string | undefined): Document {
  const said = contentType?.split(';')[0]?.trim().toLowerCase();
  const refused = (why: string, hint?: string): Error => imageError(`${name}: ${why}`, hint);
  const value = jsonOf(name, bytes);
  const head = parse(name, headSchema, value);
  if (head.schemaVersion === 1 || SCHEMA_1.test(said ?? ''))
    throw refused('its manifest has schema 1, of before 2016', 'push it again with a docker of today');
  const isType = (type: string | undefined): type is string => ACCEPTED.split(', ').includes(type ?? '');
  if (isType(said) && head.mediaType !== undefined && head.mediaType !== said)
    throw refused(`its manifest is sent as ${said}, and says that it is ${head.mediaType}`);
  const mediaType = isType(said) ? said : head.mediaType;
  if (!isType(mediaType))
    throw refused(`what the registry has there is no image (${mediaType ?? said ?? 'of no type'})`);
  if (head.manifests !== undefined && (head.layers !== undefined || head.config !== undefined))
    throw refused('its manifest is an index and a manifest at once');
  if (mediaType === OCI_INDEX || mediaType === DOCKER_LIST)
    return { kind: 'index', mediaType, ...parse(name, indexSchema, value) };
  const { config, layers } = parse(name, manifestSchema, value);
  if (!CONFIGS.includes(config.mediaType))
    throw refused(`it is no image of a system, but ${config.mediaType}`);
  const foreign = layers.find((layer) => layer.urls !== undefined || !LAYER.test(layer.mediaType));
  if (foreign !== undefined)
    throw refused(`a layer of it is of a type that is not known: ${foreign.mediaType}`);
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  if (total > MAX_IMAGE_BYTES)
    throw refused(`it has ${formatBytes(total)}, and ${formatBytes(MAX_IMAGE_BYTES)} are the most`);
  if (config.size > MAX_DOCUMENT_BYTES)
    throw refused(`its configuration is longer than ${formatBytes(MAX_DOCUMENT_BYTES)}`);
  return { kind: 'manifest', mediaType, config, layers };
}

/** Level of x86-64 in a variant, `v1` to `v4`; no variant is the first. */
function levelOf(variant = 'v1'): number {
  return Number(/^v([1-4])$/.exec(variant)?.[1] ?? Number.NaN);
}

/** Reads `linux/amd64` or `linux/amd64/v3`. @returns level of the variant @throws TsvmError `TSVM_USAGE` for other platforms */
export function parsePlatform(text: string): number {
  const [os, architecture, variant, ...rest] = text.split('/');
  const level = levelOf(variant);
  if (os === 'linux' && architecture === 'amd64' && level >= 1 && rest.length === 0) return level;
  throw new TsvmError('TSVM_USAGE', `--platform ${text}: tsvm runs linux/amd64`, {
    hint: 'linux/amd64, or linux/amd64/v2 to v4 for images that need a newer processor',
  });
}

/**
 * Chooses the manifest for linux/amd64 of an index: that of the highest variant up to a level.
 *
 * @throws TsvmError `TSVM_IMAGE` that says what there is.
 */
export function chooseManifest(name: string, manifests: readonly Descriptor[], level: number): Descriptor {
  const ours = manifests.filter(
    ({ platform }) =>
      platform === undefined || (platform.os === 'linux' && platform.architecture === 'amd64'),
  );
  // One that says nothing of its platform is asked by its configuration, if no other fits.
  const rank = ({ platform }: Descriptor): number => (platform === undefined ? 0 : levelOf(platform.variant));
  const [best] = ours.filter((each) => rank(each) <= level).sort((a, b) => rank(b) - rank(a));
  if (best !== undefined) {
    if (best.size > MAX_DOCUMENT_BYTES)
      throw imageError(`${name}: its manifest is longer than ${formatBytes(MAX_DOCUMENT_BYTES)}`);
    return best;
  }
  const there = manifests
    .flatMap(({ platform }) => platform ?? [])
    .map(({ os, architecture, variant }) => [os, architecture, ...(variant ? [variant] : [])].join('/'))
    .filter((platform) => platform !== 'unknown/unknown');
  const newer = there.find((platform) => platform.startsWith('linux/amd64/'));
  throw imageError(
    `${name}: there is no image for linux/amd64${level > 1 ? `/v${level}` : ''}`,
    newer === undefined
      ? `it is for ${[...new Set(there)].slice(0, 16).join(', ') || 'nothing'}`
      : `if this host's processor can: --platform ${newer}`,
  );
}

/** Refuses a configuration of another platform. @throws TsvmError `TSVM_IMAGE` */
export function checkConfig(name: string, text: string): void {
  const { os = 'linux', architecture = 'amd64' } = parse(name, configSchema, jsonOf(name, Buffer.from(text)));
  if (os === 'linux' && architecture === 'amd64') return;
  throw imageError(`${name}: it is for ${os}/${architecture}`, 'tsvm runs images for linux/amd64');
}

function jsonOf(name: string, bytes: Uint8Array): unknown {
  try {
    // What is null is left out: programs in Go write it so.
    return JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(bytes),
      (_, field: unknown) => field ?? undefined,
    );
  } catch (cause) {
    throw imageError(`${name}: what the registry sent is not JSON`, undefined, cause);
  }
}

function parse<T>(name: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw imageError(`${name}: its manifest is not right: ${describeIssue(result.error)}`);
}
