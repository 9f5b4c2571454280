/**
 * Manifests and indexes as registries send them: what a file need not say, since its blobs are beside it, a registry has to, before anything
 * else of the image is fetched.
 *
 * @spec oci-image-1.1 manifest.md  Image manifests, and Docker's of schema 2  #yes
 */
import { formatBytes } from '../../util/units.js';
import { MAX_IMAGE_BYTES } from '../image.js';
import { imageError } from '../image-error.js';
import {
  type Descriptor,
  documentOf,
  headOf,
  jsonOf,
  MAX_DOCUMENT_BYTES,
  parseConfig,
  schema1,
} from '../oci/documents.js';
import { INDEXES, LAYER, MANIFESTS } from '../oci/media-types.js';
import { isFit, platformName } from '../oci/platform.js';

const SCHEMA_1 = /^application\/vnd\.docker\.distribution\.manifest\.v1(\+prettyjws|\+json)$/;
const TYPES: readonly string[] = [...INDEXES, ...MANIFESTS];

/** Types that are asked for. */
export const ACCEPTED = TYPES.join(', ');

/** Descriptor that says what it leads to, and how long that is. */
export interface SentDescriptor extends Descriptor {
  readonly mediaType: string;
  readonly size: number;
}

export type SentDocument =
  | { readonly kind: 'index'; readonly mediaType: string; readonly manifests: readonly SentDescriptor[] }
  | {
      readonly kind: 'manifest';
      readonly mediaType: string;
      readonly config: SentDescriptor;
      readonly layers: readonly SentDescriptor[];
    };

/**
 * Reads an index or a manifest.
 *
 * @param name - of the image, for messages
 * @param contentType - as the registry says it; where that says nothing, the document does
 * @throws TsvmError `TSVM_IMAGE` that says what is wrong with it.
 */
export function readSent(name: string, bytes: Uint8Array, contentType: string | undefined): SentDocument {
  const said = contentType?.split(';')[0]?.trim().toLowerCase();
  const refused = (why: string): Error => imageError(`${name}: ${why}`);
  const value = jsonOf(name, bytes);
  if (SCHEMA_1.test(said ?? '')) throw schema1(name);
  const head = headOf(name, value);
  const isType = (type: string | undefined): type is string => TYPES.includes(type ?? '');
  if (isType(said) && head.mediaType !== undefined && head.mediaType !== said)
    throw refused(`its manifest is sent as ${said}, and says that it is ${head.mediaType}`);
  const mediaType = isType(said) ? said : head.mediaType;
  if (!isType(mediaType))
    throw refused(`what the registry has there is no image (${mediaType ?? said ?? 'of no type'})`);
  if (head.schemaVersion !== 2)
    throw refused(`its manifest has schema ${head.schemaVersion ?? 'none'}, and not 2`);
  const document = documentOf(name, value);
  if (document.kind === 'artifact') throw refused(`it is no image of a system, but ${document.type}`);
  if ((document.kind === 'index') !== INDEXES.includes(mediaType))
    throw refused(`its manifest is sent as ${mediaType}, and is none`);
  if (document.kind === 'index')
    return { kind: 'index', mediaType, manifests: document.index.manifests.map((one) => sent(name, one)) };
  const config = sent(name, document.manifest.config);
  const layers = document.manifest.layers.map((layer) => sent(name, layer));
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

function sent(name: string, descriptor: Descriptor): SentDescriptor {
  const { mediaType, size, digest } = descriptor;
  if (mediaType === undefined || size === undefined)
    throw imageError(`${name}: its manifest does not say what ${digest} is, or how long`);
  return { ...descriptor, mediaType, size };
}

/** Refuses a configuration that is not right, or of another platform. @throws TsvmError `TSVM_IMAGE` */
export function checkConfig(name: string, text: string): void {
  const config = parseConfig(name, jsonOf(name, Buffer.from(text)));
  if (isFit(config)) return;
  throw imageError(`${name}: it is for ${platformName(config)}`, 'tsvm runs images for linux/amd64');
}
