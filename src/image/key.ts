/** Keys of content: names in the store. */
import { createHash } from 'node:crypto';
import { type Blob, identityOf } from './blob.js';

/** Key of an image that has a manifest: the same wherever its blobs are. */
export const keyOfManifest = (digest: string): string => digest.replace(':', '-');

/** Key of a file, whose content is as good as known by these facts: reading it would take as long as unpacking it. */
export function keyOfFile(kind: string, { path, stats }: Blob): string {
  const hash = createHash('sha256').update([path, identityOf(stats)].join('\0'));
  return `${kind}-${hash.digest('hex').slice(0, 32)}`;
}
