/** Disks from files: what is stacked on what. */
import { TsvmError } from '../errors.js';
import type { NativeAddon } from '../native/binding.js';
import { CowDisk } from './cow-disk.js';
import { type DiskFacts, diskFacts } from './disk-facts.js';
import { type DiskFile, openDiskFile } from './disk-file.js';
import type { Layer } from './disk-layer.js';
import { MemoryStore } from './memory-store.js';
import { OverlayDisk } from './overlay-disk.js';
import { type BaseFacts, openOverlayFile } from './overlay-file.js';

export interface DiskPlace {
  /** Absolute, like `overlay`. */
  readonly path: string;
  readonly readOnly: boolean;
  /** A file that takes what is written, over `path`, which is only read. */
  readonly overlay?: string | undefined;
  /** Files are only read, and what is written is thrown away. */
  readonly throwAway: boolean;
}

export interface OpenDisk {
  readonly path: string;
  readonly files: readonly { readonly path: string; readonly file: DiskFile }[];
  readonly disk: CowDisk;
}

/** @throws TsvmError `TSVM_DISK`, naming the path. */
export async function openDisk(addon: NativeAddon, place: DiskPlace): Promise<OpenDisk> {
  const { path, overlay, readOnly, throwAway } = place;
  const file = await openDiskFile(addon, path, { readOnly: readOnly || throwAway || overlay !== undefined });
  const files = [{ path, file }];
  let layer: Layer = file;
  try {
    if (overlay !== undefined) {
      const base = await baseFacts(path, file);
      const store = await openOverlayFile(addon, overlay, base, { readOnly: readOnly || throwAway });
      files.push({ path: overlay, file: store.file });
      layer = new OverlayDisk(store, file, { readOnly: readOnly || throwAway });
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  if (throwAway && !readOnly) {
    layer = new OverlayDisk(new MemoryStore(addon, layer.sizeBytes), layer, { readOnly });
  }
  return { path, files, disk: new CowDisk(addon, layer) };
}

async function baseFacts(path: string, file: DiskFile): Promise<BaseFacts> {
  const stat = await file.stat();
  return { path, sizeBytes: file.sizeBytes, mtimeNs: stat.isFile() ? String(stat.mtimeNs) : undefined };
}

/**
 * Identities of the disk's files, after a flush.
 *
 * @throws TsvmError `TSVM_DISK` if they cannot stand for the disk, because what was written is in memory.
 */
export async function factsOf({ path, files, disk }: OpenDisk): Promise<DiskFacts[]> {
  if (disk.differsFromFile) {
    throw new TsvmError('TSVM_DISK', `disk ${path}: what this machine wrote is in memory, not in the file`, {
      hint: 'a fork, and a restored machine without --disks direct (or direct for this disk), can be saved only while it has written to no disk',
    });
  }
  if (!disk.readOnly) await disk.flush();
  return await Promise.all(
    files.map(async ({ path, file }, index) => {
      // What the guest may write to is the uppermost file alone.
      const readOnly = disk.readOnly || index < files.length - 1;
      return diskFacts({ path, readOnly, sizeBytes: file.sizeBytes }, await file.stat());
    }),
  );
}
