/**
 * OCI image layouts (image-spec 1.1, image-layout.md): a folder with an index, manifests, and blobs by their digests.
 *
 * @spec oci-image-1.1 image-layout.md  Layouts  #yes
 */
import { join } from 'node:path';
import { z } from 'zod';
import { Blob } from './blob.js';
import type { ImageConfig, Layer } from './image.js';
import { imageError } from './image-error.js';

/** Bound of an index, manifest or configuration; registries refuse more than 4 MiB. */
const MAX_DOCUMENT_BYTES = 4 << 20;
/** Bound of indexes within indexes. */
const MAX_DEPTH = 4;

const digestSchema = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'is not a SHA-256 digest');
const descriptorSchema = z.object({
  mediaType: z.string(),
  digest: digestSchema,
  size: z.number().int().nonnegative(),
  platform: z.object({ os: z.string(), architecture: z.string() }).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
const indexSchema = z.object({ manifests: z.array(descriptorSchema).min(1) });
const manifestSchema = z.object({ config: descriptorSchema, layers: z.array(descriptorSchema) });
const configSchema = z.object({
  config: z
    .object({
      User: z.string().optional(),
      Env: z.array(z.string()).nullish(),
      Entrypoint: z.array(z.string()).nullish(),
      Cmd: z.array(z.string()).nullish(),
      WorkingDir: z.string().optional(),
    })
    .optional(),
  rootfs: z.object({ diff_ids: z.array(digestSchema) }),
});

type Descriptor = z.infer<typeof descriptorSchema>;

export interface OciImage {
  /** Digest of its manifest, which names all the rest. */
  readonly digest: string;
  readonly config: ImageConfig;
  /** Layers, the lowest first. */
  readonly layers: readonly Layer[];
}

/**
 * Reads the image in a layout, or the one with the reference name `tag`, and verifies what it reads.
 *
 * @throws TsvmError `TSVM_IMAGE` that names what is missing, changed, or for another machine.
 */
export async function readOciLayout(folder: string, tag?: string): Promise<OciImage> {
  const index = await readDocument(join(folder, 'index.json'), undefined, indexSchema);
  const manifestDescriptor = await choose(folder, index.manifests, tag, 0);
  const manifest = await document(folder, manifestDescriptor, manifestSchema);
  const { config = {} } = await document(folder, manifest.config, configSchema);
  return {
    digest: manifestDescriptor.digest,
    layers: manifest.layers.map((layer) => ({ path: blobPath(folder, layer), digest: layer.digest })),
    config: {
      ...(config.User === undefined || config.User === '' ? {} : { user: config.User }),
      ...(config.Env ? { env: config.Env } : {}),
      ...(config.Entrypoint ? { entrypoint: config.Entrypoint } : {}),
      ...(config.Cmd ? { cmd: config.Cmd } : {}),
      ...(config.WorkingDir === undefined || config.WorkingDir === '' ? {} : { workdir: config.WorkingDir }),
    },
  };
}

async function choose(
  folder: string,
  all: readonly Descriptor[],
  tag: string | undefined,
  depth: number,
): Promise<Descriptor> {
  const named = tag === undefined ? all : all.filter(({ annotations }) => annotations?.[REF_NAME] === tag);
  const fitting = named.filter(
    ({ platform }) =>
      platform === undefined || (platform.os === 'linux' && platform.architecture === 'amd64'),
  );
  const [found, ...others] = fitting;
  if (found === undefined) {
    const tags = all.flatMap(({ annotations }) => annotations?.[REF_NAME] ?? []);
    throw imageError(
      named.length === 0
        ? `${folder}: there is no image '${tag}' in it`
        : `${folder}: there is no image for linux/amd64 in it`,
      named.length === 0 && tags.length > 0 ? `it has ${tags.join(', ')}` : undefined,
    );
  }
  if (others.length > 0 && tag === undefined && depth === 0) {
    const tags = fitting.map(({ annotations, digest }) => annotations?.[REF_NAME] ?? digest);
    throw imageError(
      `${folder}: there are several images in it`,
      `name one: ${folder}:${tags[0]} (${tags.join(', ')})`,
    );
  }
  if (!INDEX_TYPES.includes(found.mediaType)) return found;
  if (depth === MAX_DEPTH) throw imageError(`${folder}: indexes within indexes within indexes`);
  const index = await document(folder, found, indexSchema);
  return await choose(folder, index.manifests, undefined, depth + 1);
}

const REF_NAME = 'org.opencontainers.image.ref.name';
const INDEX_TYPES: readonly string[] = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];

function blobPath(folder: string, { digest }: Descriptor): string {
  return join(folder, 'blobs', ...digest.split(':'));
}

async function document<T>(folder: string, descriptor: Descriptor, schema: z.ZodType<T>): Promise<T> {
  return await readDocument(blobPath(folder, descriptor), descriptor.digest, schema);
}

async function readDocument<T>(path: string, digest: string | undefined, schema: z.ZodType<T>): Promise<T> {
  await using blob = await Blob.open({ path, digest });
  const text = (await blob.read(MAX_DOCUMENT_BYTES)).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw imageError(`${path}: ${cause instanceof Error ? cause.message : cause}`, undefined, cause);
  }
  return parse(schema, path, value);
}

function parse<T>(schema: z.ZodType<T>, path: string, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw imageError(`${path}: ${issue?.path.join('.')} ${issue?.message}`, 'is it an OCI image layout?');
}
