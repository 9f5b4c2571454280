/**
 * Archives that `docker save` writes, and podman, skopeo and builders after it: manifest.json, and for each image of it a configuration
 * and layers. They have no digests but those in the configuration, of the layers when they are not compressed.
 */
import { z } from 'zod';
import { Blob, type BlobPlace } from '../blob.js';
import { digestOf } from '../digest.js';
import type { Layer } from '../image.js';
import { imageError } from '../image-error.js';
import { imageConfigOf, MAX_DOCUMENT_BYTES, MAX_LAYERS, readAs, readConfig } from '../oci/documents.js';
import { isFit, platformName } from '../oci/platform.js';
import { type ImageParts, nothingFound } from '../oci/read-image.js';
import { isSameName } from '../reference.js';
import type { Members } from './members.js';
import { type Selector, selectorText } from './selector.js';

export const MANIFEST = 'manifest.json';
/** File of archives of before 2016, which name layers otherwise; later ones have it as well. */
const REPOSITORIES = 'repositories';

const entrySchema = z.object({
  Config: z.string(),
  RepoTags: z.array(z.string()).nullish(),
  Layers: z.array(z.string()).max(MAX_LAYERS).nullish(),
});
type Entry = z.infer<typeof entrySchema>;

/** Image in an archive, and its names there. */
export interface DockerImage extends ImageParts {
  /** Digest of its configuration, which Docker calls the image's id. */
  readonly id: string;
  /** Place of its configuration. */
  readonly place: BlobPlace;
  readonly names: readonly string[];
}

/** Tells an archive of Docker's. @throws TsvmError `TSVM_IMAGE` for one that only Docker 1.9 and earlier wrote */
export async function isDockerArchive(members: Members): Promise<boolean> {
  const place = members.find(MANIFEST);
  if (place !== undefined) return isEntries(await readAs(z.unknown(), place));
  if (members.find(REPOSITORIES) === undefined) return false;
  throw imageError(
    `${members.name}: it has the form of Docker before 1.10, which is not read`,
    'docker load it, and docker save it again',
  );
}

/** Tells the list of images from a file that is called the same. */
const isEntries = (value: unknown): boolean =>
  z.array(z.looseObject({ Config: z.string() })).safeParse(value).success;

/** Finds the one image that a selector names, or that is there. @throws TsvmError `TSVM_IMAGE` */
export async function imageInArchive(members: Members, selector?: Selector): Promise<DockerImage> {
  const entries = await entriesOf(members);
  const named = entries.filter(
    ({ RepoTags }) => selector?.kind !== 'name' || isNamed(RepoTags, selector.name),
  );
  const { name } = members;
  const tags = entries.flatMap(({ RepoTags }) => RepoTags ?? []);
  const none = imageError(
    `${name}: there is no image${selector === undefined ? '' : ` '${selectorText(selector).slice(1)}'`} in it`,
    tags.length > 0 ? `it has ${tags.join(', ')}` : undefined,
  );
  if (named.length === 0) throw none;
  const images = (await imagesOf(named, members)).filter(
    ({ id }) => selector?.kind !== 'digest' || id === selector.digest,
  );
  const [found, ...others] = images;
  if (found === undefined) throw none;
  if (others.length === 0) return found;
  const selectors = images.map(({ id, names: [one] }) => (one === undefined ? `@${id}` : `:${one}`));
  throw imageError(
    `${name}: there are several images in it`,
    `name one: ${name}${selectors[0]} (${selectors.map((one) => one.slice(1)).join(', ')})`,
  );
}

/** Finds all images of an archive that run here, each once. @throws TsvmError `TSVM_IMAGE` if there is none */
export async function imagesInArchive(members: Members): Promise<readonly DockerImage[]> {
  return await imagesOf(await entriesOf(members), members);
}

const entriesOf = async (members: Members): Promise<readonly Entry[]> =>
  await readAs(z.array(entrySchema), placeOf(MANIFEST, members));

function isNamed(names: Entry['RepoTags'], wanted: string): boolean {
  return (names ?? []).some((name) => isSameName(name, wanted));
}

async function imagesOf(entries: readonly Entry[], members: Members): Promise<readonly DockerImage[]> {
  const images = new Map<string, DockerImage>();
  const foreign = { platforms: new Set<string>(), artifacts: new Set<string>() };
  for (const entry of entries) {
    const image = await imageOf(entry, members, foreign.platforms);
    if (image === undefined) continue;
    const names = [...(images.get(image.id)?.names ?? []), ...image.names];
    images.set(image.id, { ...image, names: [...new Set(names)] });
  }
  if (images.size === 0) throw nothingFound(members.name, foreign);
  return [...images.values()];
}

/** Reads an image; of one for another platform only that is noted. */
async function imageOf(
  { Config, RepoTags, Layers }: Entry,
  members: Members,
  foreign: Set<string>,
): Promise<DockerImage | undefined> {
  const place = placeOf(Config, members);
  const id = await digestAt(place);
  const document = await readConfig({ ...place, digest: id });
  if (!isFit(document)) {
    foreign.add(platformName(document));
    return undefined;
  }
  const layers = Layers ?? [];
  const diffIds = document.rootfs?.diff_ids ?? [];
  if (diffIds.length !== layers.length) {
    throw imageError(
      `${members.name}: it has ${layers.length} layers, and ${diffIds.length} by its configuration`,
    );
  }
  return {
    id,
    place,
    names: RepoTags ?? [],
    config: imageConfigOf(document),
    layers: layers.map((path, i): Layer => ({ ...placeOf(path, members), diffId: diffIds[i] })),
  };
}

async function digestAt(place: BlobPlace): Promise<string> {
  await using blob = await Blob.open(place);
  return digestOf(await blob.read(MAX_DOCUMENT_BYTES));
}

function placeOf(path: string, members: Members): BlobPlace {
  const place = members.find(path);
  if (place === undefined)
    throw imageError(
      `${members.name}: there is no ${JSON.stringify(path)} in it`,
      'the archive is not whole: save it again',
    );
  return place;
}
