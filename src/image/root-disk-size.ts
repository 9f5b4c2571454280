/** Sizes of root disks. */
import { TsvmError } from '../errors.js';
import { formatBytes, GIB, MIB } from '../util/units.js';

/** Bounds of a root disk: room for a journal and some files; and what ext4 describes in a few MiB. */
const MIN_BYTES = 16 * MIB;
const MAX_BYTES = 1024 * GIB;

/** @throws TsvmError `TSVM_USAGE` for a size that no root disk has. `flag`: what it was given by. */
export function checkRootDiskBytes(flag: string, bytes: number): void {
  if (bytes >= MIN_BYTES && bytes <= MAX_BYTES && bytes % MIB === 0) return;
  throw new TsvmError('TSVM_USAGE', `${flag}: ${formatBytes(bytes)} is no size of a root disk`, {
    hint: `whole MiB, from ${formatBytes(MIN_BYTES)} to ${formatBytes(MAX_BYTES)}: ${flag} 4G`,
  });
}
