/** Images that a command names: found in the store, or fetched from a registry into it. */
import { TsvmError } from '../../errors.js';
import { formatReference, parseReference, type Reference, shortReference } from '../../image/reference.js';
import type { PulledImage, PullOptions, Registries } from '../../image/registry/pull.js';
import type { PullPolicy } from '../options/pull-policy.js';
import { registrySettings } from '../options/registry-options.js';
import { PullProgress } from './pull-progress.js';

export interface PullImageOptions extends Pick<PullOptions, 'signal' | 'level'> {
  readonly quiet?: boolean | undefined;
}

/** Opens the registries as this user configured them. */
export async function openRegistries(): Promise<Registries> {
  // Schemas and the client cost some 60 ms to load.
  const { Registries } = await import('../../image/registry/pull.js');
  return await Registries.open(registrySettings());
}

/** Fetches what is missing of an image, with progress on stderr, and gives it its name. */
export async function pullImage(
  reference: Reference,
  registries: Registries,
  { quiet, ...options }: PullImageOptions = {},
): Promise<PulledImage> {
  const { KeptImages } = await import('../../image/kept-images.js');
  const { blobs, names } = new KeptImages();
  using progress = new PullProgress(shortReference(reference));
  return await registries.pull(reference, blobs, {
    ...options,
    onStored: ({ manifest }) => names.set(reference, manifest.digest),
    ...(quiet === true ? {} : { onEvent: (event) => progress.on(event) }),
  });
}

/** Image that a command names: opened by `text`, or still in a registry. */
export interface NamedImage {
  readonly text: string;
  readonly reference?: Reference;
}

/** Fetches an image that is still in a registry. Returns the text by which it is opened. @throws TsvmError for what cannot be fetched */
export async function fetchImage({ text, reference }: NamedImage): Promise<string> {
  if (reference === undefined) return text;
  using registries = await openRegistries();
  await pullImage(reference, registries);
  return text;
}

/**
 * Finds the image that a command names, and asks no registry.
 *
 * @throws TsvmError `TSVM_IMAGE` for what is no file, no name and no id, and one that is not to be fetched
 */
export async function lookUpImage(text: string, policy: PullPolicy): Promise<NamedImage> {
  const [{ findFile }, { isInLocalStore }] = await Promise.all([
    import('../../image/source/open-source.js'),
    import('../../image/source/local-store.js'),
  ]);
  // What begins as a path is no name; the store says what is wrong with it.
  if (findFile(text) !== undefined || /^[./~]/.test(text) || isInLocalStore(text)) return { text };
  // The client of registries is not for an image that is here.
  const [{ KeptImages }, { readRegistryConfig }] = await Promise.all([
    import('../../image/kept-images.js'),
    import('../../image/registry/config.js'),
  ]);
  const { unqualified } = await readRegistryConfig(registrySettings().rules);
  const reference = parseReference(text, unqualified);
  const kept = new KeptImages();
  if (policy !== 'always') {
    if (kept.names.digestOf(reference) !== undefined) return { text: formatReference(reference) };
    if ((await kept.open(text)) !== undefined) return { text }; // an id
  }
  if (policy === 'never')
    throw new TsvmError('TSVM_IMAGE', `image ${text}: no image of that name is kept`, {
      hint: `tsvm pull ${text}`,
    });
  return { text: formatReference(reference), reference };
}
