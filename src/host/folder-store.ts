/**
 * Entries of a folder of ours that appear whole and disappear whole: whoever looks meanwhile finds all of one or nothing.
 *
 * What is made has another name until it is done, and so has what is being removed. A process that is killed in between leaves such a
 * name, which the next one clears away.
 */
import { randomUUID } from 'node:crypto';
import { isErrnoError } from '../errors.js';
import type { OwnFolder } from './own-folder.js';
import { processExists } from './proc.js';

/** Beginning of names for work in progress, which have the process's id at the end. */
const UNFINISHED = '.unpacking-';
/** Beginning of names for what is being removed. */
const DOOMED = '.removed-';

/** Name for an entry that is being made, with no leftovers beside it. */
export function unfinishedName(store: OwnFolder): string {
  sweep(store);
  return `${UNFINISHED}${randomUUID()}-${process.pid}`;
}

/** Shows a finished entry. Another process that made the same meanwhile was first: its entry is as good. */
export function showEntry(store: OwnFolder, unfinished: string, name: string): void {
  try {
    store.rename(unfinished, name);
  } catch (error) {
    if (store.stats(name) === undefined) throw error;
  }
}

/**
 * Removes an entry; false if it is not there any more. Throws errnos.
 *
 * @param keystone - file of the entry without which it is none: removed first where the entry cannot be renamed, as a folder of a lower
 * layer of an overlay
 */
export function removeEntry(store: OwnFolder, name: string, keystone?: string): boolean {
  const doomed = `${DOOMED}${name}-${randomUUID()}`;
  try {
    store.rename(name, doomed);
    store.remove(doomed);
    return true;
  } catch (error) {
    if (isErrnoError(error) && error.code === 'ENOENT') return false;
    if (!isErrnoError(error) || error.code !== 'EXDEV') throw error;
    if (keystone !== undefined) {
      using entry = store.folder(name);
      entry?.remove(keystone);
    }
    store.remove(name);
    return true;
  }
}

/** Removes an entry that nobody needs. One that cannot be removed stays, and is no reason not to use the others: the next one tries again. */
export function discard(store: OwnFolder, name: string): void {
  quietly(() => removeEntry(store, name));
}

/** Removes what processes that were killed have left. */
export function sweep(store: OwnFolder): void {
  for (const name of store.names()) {
    const pid = Number(name.slice(name.lastIndexOf('-') + 1));
    if (name.startsWith(DOOMED)) quietly(() => store.remove(name));
    else if (name.startsWith(UNFINISHED) && !processExists(pid)) discard(store, name);
  }
}

function quietly(remove: () => void): void {
  try {
    remove();
  } catch {
    // a folder that may not be written to, or a file with a flag, of before or by hand
  }
}
