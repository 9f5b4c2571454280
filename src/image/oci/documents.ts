/**
 * Documents of images: index, manifest and configuration (image-spec 1.1), and Docker's of the same. What is null counts as left out, since
 * programs in Go write it so.
 *
 * @spec oci-image-1.1 manifest.md  Manifests  #yes
 * @spec oci-image-1.1 image-index.md  Indexes  #yes
 * @spec oci-image-1.1 config.md  Configurations  #partial what a command needs: user, environment, words, directory
 */
import { z } from 'zod';
import { Blob, type BlobPlace } from '../blob.js';
import { DIGEST } from '../digest.js';
import { type ImageConfig, MAX_IMAGE_BYTES } from '../image.js';
import { imageError } from '../image-error.js';
import { describeIssue } from '../json-file.js';
import { CONFIGS } from './media-types.js';

/** Bound of an index, manifest or configuration; registries refuse more than 4 MiB. */
export const MAX_DOCUMENT_BYTES = 4 << 20;
/** Bound of layers; Docker has 127 at the most. */
export const MAX_LAYERS = 500;
/** Bound of indexes within indexes. */
export const MAX_INDEX_DEPTH = 4;

/** A field that may be null, or not there. */
const absent = <T>(schema: z.ZodType<T>): z.ZodType<T | undefined> =>
  schema.nullish().transform((value) => value ?? undefined);
const list = <T>(schema: z.ZodType<T>): z.ZodType<T[]> =>
  z
    .array(schema)
    .nullish()
    .transform((value) => value ?? []);

/** Types and names of systems: words that can be shown. */
const word = z
  .string()
  .max(255)
  .regex(/^[\x20-\x7e]*$/, 'is not a word of ASCII');
const digestSchema = z.string().regex(DIGEST, 'is not a SHA-256 digest');
const platformSchema = z.object({
  os: absent(word),
  architecture: absent(word),
  variant: absent(word),
});
const descriptorSchema = z.object({
  mediaType: absent(word),
  digest: digestSchema,
  size: absent(z.number().int().nonnegative().max(MAX_IMAGE_BYTES)),
  urls: absent(z.array(z.string())),
  artifactType: absent(word),
  platform: absent(platformSchema),
  annotations: absent(z.record(z.string(), z.string().nullable())),
});
const headSchema = z.object({ schemaVersion: absent(z.number()), mediaType: absent(word) });
const indexSchema = z.object({ manifests: list(descriptorSchema) });
const manifestSchema = z.object({
  artifactType: absent(word),
  config: descriptorSchema,
  layers: list(descriptorSchema).refine((layers) => layers.length <= MAX_LAYERS, 'are too many'),
});
const configSchema = z.object({
  created: absent(z.string()),
  os: absent(word),
  architecture: absent(word),
  variant: absent(word),
  config: absent(
    z.object({
      User: absent(z.string()),
      Env: list(z.string()),
      Entrypoint: list(z.string()),
      Cmd: list(z.string()),
      WorkingDir: absent(z.string()),
    }),
  ),
  rootfs: absent(z.object({ diff_ids: list(digestSchema) })),
});

export type Platform = z.infer<typeof platformSchema>;
export type Descriptor = z.infer<typeof descriptorSchema>;
export type Index = z.infer<typeof indexSchema>;
export type Manifest = z.infer<typeof manifestSchema>;
export type ConfigDocument = z.infer<typeof configSchema>;

/** Document that a descriptor names: an index of others, an image, or an artifact as signatures and lists of parts are. */
export type Document =
  | { readonly kind: 'index'; readonly index: Index }
  | { readonly kind: 'image'; readonly manifest: Manifest }
  | { readonly kind: 'artifact'; readonly type: string };

/** Head of an index or a manifest. @throws TsvmError `TSVM_IMAGE` for Docker's first form */
export function headOf(name: string, value: unknown): z.infer<typeof headSchema> {
  const head = parse(headSchema, name, value);
  if (head.schemaVersion === 1 || has(value, 'fsLayers')) throw schema1(name);
  return head;
}

export const schema1 = (name: string): Error =>
  imageError(
    `${name}: its manifest has schema 1, of before 2016`,
    'push it or save it again with a docker of today',
  );

/** Reads an index or a manifest. Which one it is says its content, which has to be one alone. @throws TsvmError `TSVM_IMAGE` */
export function documentOf(name: string, value: unknown): Document {
  headOf(name, value);
  const isIndex = has(value, 'manifests');
  // An index for one reader that is a manifest for another one would be two images of one digest.
  if (isIndex && (has(value, 'config') || has(value, 'layers')))
    throw imageError(`${name}: it is an index and a manifest in one`);
  if (isIndex) return { kind: 'index', index: parse(indexSchema, name, value) };
  const manifest = parse(manifestSchema, name, value);
  const { mediaType } = manifest.config;
  const type =
    manifest.artifactType ?? (mediaType === undefined || CONFIGS.includes(mediaType) ? undefined : mediaType);
  return type === undefined ? { kind: 'image', manifest } : { kind: 'artifact', type };
}

const has = (value: unknown, field: string): boolean =>
  typeof value === 'object' && value !== null && (value as Record<string, unknown>)[field] != null;

/** Reads an index or a manifest, as {@link documentOf}. */
export async function readDocument(place: BlobPlace): Promise<Document> {
  const { name, value } = await readJson(place);
  return documentOf(name, value);
}

/** Reads the top of a layout: its descriptors are what has names. @throws TsvmError `TSVM_IMAGE` */
export async function readIndex(place: BlobPlace): Promise<Index> {
  const { name, value } = await readJson(place);
  return parse(indexSchema, name, value);
}

/** Reads an image's configuration. @throws TsvmError `TSVM_IMAGE` */
export async function readConfig(place: BlobPlace): Promise<ConfigDocument> {
  const { name, value } = await readJson(place);
  return parseConfig(name, value);
}

/** Reads a configuration. @throws TsvmError `TSVM_IMAGE` */
export function parseConfig(name: string, value: unknown): ConfigDocument {
  return parse(configSchema, name, value);
}

/** Reads a document of another form. @throws TsvmError `TSVM_IMAGE` */
export async function readAs<T>(schema: z.ZodType<T>, place: BlobPlace): Promise<T> {
  const { name, value } = await readJson(place);
  return parse(schema, name, value);
}

async function readJson(place: BlobPlace): Promise<{ name: string; value: unknown }> {
  await using blob = await Blob.open(place);
  return { name: blob.name, value: jsonOf(blob.name, await blob.read(MAX_DOCUMENT_BYTES)) };
}

/** Reads JSON in UTF-8. @throws TsvmError `TSVM_IMAGE` */
export function jsonOf(name: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw imageError(`${name}: it is not JSON`, undefined, cause);
  }
}

function parse<T>(schema: z.ZodType<T>, name: string, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw imageError(`${name}: ${describeIssue(result.error)}`, 'is it an image? skopeo copy writes it anew');
}

/** Defaults for the command that runs in an image; what is empty says nothing. */
export function imageConfigOf({ config }: ConfigDocument): ImageConfig {
  const {
    User: user,
    Env: env = [],
    Entrypoint: entrypoint = [],
    Cmd: cmd = [],
    WorkingDir: workdir,
  } = config ?? {};
  return {
    ...(user === undefined || user === '' ? {} : { user }),
    ...(env.length === 0 ? {} : { env }),
    ...(entrypoint.length === 0 ? {} : { entrypoint }),
    ...(cmd.length === 0 ? {} : { cmd }),
    ...(workdir === undefined || workdir === '' ? {} : { workdir }),
  };
}
