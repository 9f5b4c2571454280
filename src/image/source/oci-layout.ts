/**
 * OCI image layouts (image-spec 1.1, image-layout.md), in a folder or in an archive: an index, manifests, and blobs by their digests.
 *
 * @spec oci-image-1.1 image-layout.md  Layouts  #yes
 */
import { imageError } from '../image-error.js';
import { type Descriptor, readIndex } from '../oci/documents.js';
import { type BlobPlaces, type FoundImage, findImage, newSearch, nothingFound } from '../oci/read-image.js';
import { isSameName } from '../reference.js';
import type { Members } from './members.js';
import { type Selector, selectorText } from './selector.js';

export const OCI_LAYOUT = 'oci-layout';
export const INDEX = 'index.json';

/** Annotations that name an image: OCI's, and containerd's, whose name is whole while OCI's is its tag then. */
export const REF_NAME = 'org.opencontainers.image.ref.name';
export const CONTAINERD_NAME = 'io.containerd.image.name';

/** Image in a layout, and its names there. */
export interface NamedImage extends FoundImage {
  readonly names: readonly string[];
}

export const isOciLayout = (members: Members): boolean =>
  members.find(OCI_LAYOUT) !== undefined && members.find(INDEX) !== undefined;

/** Path of a blob in a layout. */
export const blobPath = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

export function layoutBlobs(members: Members): BlobPlaces {
  return {
    name: members.name,
    place(digest) {
      const path = blobPath(digest);
      const place = members.find(path);
      if (place === undefined)
        throw imageError(
          `${members.name}: there is no ${path} in it`,
          'the image is not whole: copy it again',
        );
      return { ...place, digest };
    },
  };
}

/** Finds the one image that a selector names, or that is there. @throws TsvmError `TSVM_IMAGE` */
export async function imageInLayout(members: Members, selector?: Selector): Promise<FoundImage> {
  const { manifests } = await readIndex(indexOf(members));
  const named = manifests.filter((descriptor) => isNamed(descriptor, selector));
  const { name } = members;
  if (named.length === 0 && selector !== undefined) {
    const names = manifests.flatMap(namesOf);
    throw imageError(
      `${name}: there is no image '${selectorText(selector).slice(1)}' in it`,
      names.length > 0 ? `it has ${names.join(', ')}` : undefined,
    );
  }
  const images = await imagesOf(named, members);
  const [first, ...others] = images;
  if (first === undefined) throw new Error('imagesOf() finds one, or throws');
  if (others.length === 0) return first;
  const selectors = images.map(({ names: [one], descriptor: { digest } }) =>
    one === undefined ? `@${digest}` : `:${one}`,
  );
  throw imageError(
    `${name}: there are several images in it`,
    `name one: ${name}${selectors[0]} (${selectors.map((one) => one.slice(1)).join(', ')})`,
  );
}

/** Finds all images of a layout that run here, each once. @throws TsvmError `TSVM_IMAGE` if there is none */
export async function imagesInLayout(members: Members): Promise<readonly NamedImage[]> {
  return await imagesOf((await readIndex(indexOf(members))).manifests, members);
}

/** Images of descriptors: those of one name are one image for several platforms, and those of one digest one with several names. */
async function imagesOf(descriptors: readonly Descriptor[], members: Members): Promise<NamedImage[]> {
  const search = newSearch(layoutBlobs(members));
  const found: NamedImage[] = [];
  for (const descriptor of descriptors) {
    const image = await findImage(descriptor, search);
    if (image !== undefined) found.push({ ...image, names: namesOf(descriptor) });
  }
  const best = found.filter(
    ({ names, rank }) => !found.some((other) => other.rank < rank && sameNames(other.names, names)),
  );
  const images = new Map<string, NamedImage>();
  for (const image of best) {
    const { digest } = image.descriptor;
    const names = [...(images.get(digest)?.names ?? []), ...image.names];
    images.set(digest, { ...image, names: [...new Set(names)] });
  }
  if (images.size === 0) throw nothingFound(members.name, search);
  return [...images.values()];
}

const sameNames = (a: readonly string[], b: readonly string[]): boolean => a.join('\n') === b.join('\n');

function indexOf(members: Members) {
  const place = members.find(INDEX);
  if (place === undefined) throw imageError(`${members.name}: there is no ${INDEX} in it`);
  return place;
}

function isNamed(descriptor: Descriptor, selector: Selector | undefined): boolean {
  if (selector === undefined) return true;
  if (selector.kind === 'digest') return descriptor.digest === selector.digest;
  const { name } = selector;
  return (
    namesOf(descriptor).some((one) => isSameName(one, name)) || descriptor.annotations?.[REF_NAME] === name
  );
}

/** Names of an image that mean nothing else: containerd's is whole, and beside it OCI's is a tag. */
function namesOf({ annotations }: Descriptor): string[] {
  const name = annotations?.[CONTAINERD_NAME] ?? annotations?.[REF_NAME];
  return name == null || name === '' ? [] : [name];
}
