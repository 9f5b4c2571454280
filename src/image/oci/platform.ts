/** Platforms that images are for (image-spec 1.1, image-index.md), and which of them run here. */
import type { Platform } from './documents.js';

/** Rank of the variant that every CPU of the architecture has. */
const BASE = 1;
const UNFIT = Number.POSITIVE_INFINITY;

/**
 * Rank of a platform, the lowest first: an image for every x86-64 CPU goes before one for newer ones. Infinite for what does not run in a
 * Linux guest of this architecture; where nothing is said it is thought to.
 */
export function rankOf({ os = '', architecture = '', variant = '' }: Platform): number {
  if (!['linux', ''].includes(os) || !['amd64', 'x86_64', ''].includes(architecture)) return UNFIT;
  const [, level] = /^v([1-9])$/.exec(variant) ?? [];
  return level === undefined ? BASE : Number(level);
}

export const isFit = (platform: Platform): boolean => rankOf(platform) !== UNFIT;

/** Name of a platform, as Docker writes it: linux/arm64/v8. */
export function platformName({ os, architecture, variant }: Platform): string {
  return [os || 'linux', architecture || 'amd64', ...(variant ? [variant] : [])].join('/');
}
