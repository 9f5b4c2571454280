/**
 * Platforms that images are for (image-spec 1.1, image-index.md), and which of them run here.
 *
 * @spec oci-image-1.1 image-index.md  Platforms and variants  #yes
 */
import { TsvmError } from '../../errors.js';
import { imageError } from '../image-error.js';
import type { Descriptor, Platform } from './documents.js';

const UNFIT = Number.POSITIVE_INFINITY;

/** Level of x86-64 in a variant, `v1` to `v4`, of which every CPU has the first. Infinite for what is none. */
function levelOf(variant: string): number {
  return Number(/^v([1-4])$/.exec(variant || 'v1')?.[1] ?? UNFIT);
}

/**
 * Rank of a platform, the lowest first: an image for every x86-64 CPU goes before one for newer ones. Infinite for what does not run in a
 * Linux guest of this architecture; where nothing is said it is thought to.
 */
export function rankOf({ os = '', architecture = '', variant = '' }: Platform): number {
  if (!['linux', ''].includes(os) || !['amd64', 'x86_64', ''].includes(architecture)) return UNFIT;
  return levelOf(variant);
}

export const isFit = (platform: Platform): boolean => rankOf(platform) !== UNFIT;

/** Name of a platform, as Docker writes it: linux/arm64/v8. */
export function platformName({ os, architecture, variant }: Platform): string {
  return [os || 'linux', architecture || 'amd64', ...(variant ? [variant] : [])].join('/');
}

/** Reads `linux/amd64` or `linux/amd64/v3`. @returns level of the variant @throws TsvmError `TSVM_USAGE` for other platforms */
export function parsePlatform(text: string): number {
  const [os, architecture, variant = 'v1', ...rest] = text.split('/');
  const level = variant === '' ? UNFIT : levelOf(variant);
  if (os === 'linux' && architecture === 'amd64' && level !== UNFIT && rest.length === 0) return level;
  throw new TsvmError('TSVM_USAGE', `--platform ${text}: tsvm runs linux/amd64`, {
    hint: 'linux/amd64, or linux/amd64/v2 to v4 for images that need a newer processor',
  });
}

/**
 * Chooses the manifest for linux/amd64 of an index: that of the highest variant up to a level. One that says nothing of its platform is
 * asked by its configuration, if no other fits.
 *
 * @throws TsvmError `TSVM_IMAGE` that says what there is.
 */
export function chooseManifest<T extends Descriptor>(
  name: string,
  manifests: readonly T[],
  level: number,
): T {
  const rank = ({ platform }: T): number => (platform === undefined ? 0 : rankOf(platform));
  const [best] = manifests
    .filter((each) => each.artifactType === undefined && rank(each) <= level)
    .sort((a, b) => rank(b) - rank(a));
  if (best !== undefined) return best;
  const platforms = manifests.flatMap(({ platform }) => platform ?? []);
  const there = platforms.map(platformName).filter((platform) => !isOfNone(platform));
  const newer = platforms.find(isFit);
  throw imageError(
    `${name}: there is no image for linux/amd64${level > 1 ? `/v${level}` : ''}`,
    newer === undefined
      ? `it is for ${[...new Set(there)].slice(0, 16).join(', ') || 'nothing'}`
      : `if this host's processor can: --platform linux/amd64/${newer.variant}`,
  );
}

/** Tells the platform that attestations have. */
export const isOfNone = (platform: string): boolean => platform.startsWith('unknown/');
