/** The file with a saved machine's memory: which pages it holds, writing them, and their checksum. */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { PageRun, Ram } from '../kvm/ram.js';
import { allDone } from '../util/cleanup.js';
import { MIB, PAGE_BYTES } from '../util/units.js';
import type { SavedMemory, SnapshotProgress } from './format.js';

const WRITE_BYTES = MIB;
/** Writes under way at a time. */
const WRITES_AT_ONCE = 8;
/** A hole shorter than this is mapped as zeroes of the file: each run costs a mapping when the machine is restored. */
const MAX_GAP_PAGES = 64;

/** Of `runs`, the pages that are not zero. */
export function pagesWithData(ram: Ram, runs: readonly PageRun[]): PageRun[] {
  const zero = Buffer.alloc(PAGE_BYTES);
  const found: { first: number; count: number }[] = [];
  for (const run of runs) {
    let page = run.first;
    for (const bytes of ram.bytesOf(run)) {
      for (let at = 0; at < bytes.length; at += PAGE_BYTES, page++) {
        if (zero.compare(bytes, at, at + PAGE_BYTES) === 0) continue;
        const last = found.at(-1);
        if (last !== undefined && last.first + last.count === page) last.count++;
        else found.push({ first: page, count: 1 });
      }
    }
  }
  return found;
}

/**
 * Fewer runs: gaps of up to `maxPages` between them are taken in, and written too. In a file that lies over zeroes that
 * changes nothing, and over another file only its size.
 */
export function closeGaps(runs: readonly PageRun[], maxPages: number = MAX_GAP_PAGES): PageRun[] {
  const closed: { first: number; count: number }[] = [];
  for (const { first, count } of runs) {
    const last = closed.at(-1);
    if (last !== undefined && first - (last.first + last.count) <= maxPages)
      last.count = first + count - last.first;
    else closed.push({ first, count });
  }
  return closed;
}

/** At most `most` runs, the shortest gaps taken in. */
export function limitRuns(runs: readonly PageRun[], most: number): readonly PageRun[] {
  if (runs.length <= most) return runs;
  const gaps = runs.slice(1).map(({ first }, i) => {
    const before = runs[i] as PageRun;
    return first - (before.first + before.count);
  });
  gaps.sort((a, b) => a - b);
  return closeGaps(runs, gaps[runs.length - most - 1]);
}

/** Writes pages to their places. The guest must not run. */
export async function writePages(
  file: FileHandle,
  ram: Ram,
  runs: readonly PageRun[],
  onProgress: (progress: SnapshotProgress) => void = () => {},
  signal?: AbortSignal,
): Promise<number> {
  const totalBytes = runs.reduce((sum, { count }) => sum + count, 0) * PAGE_BYTES;
  let doneBytes = 0;
  const pieces = writesOf(ram, runs);
  const worker = async (): Promise<void> => {
    for (let next = pieces.next(); next.done !== true; next = pieces.next()) {
      signal?.throwIfAborted();
      const { bytes, position } = next.value;
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at);
        at += bytesWritten;
      }
      doneBytes += bytes.length;
      onProgress({ doneBytes, totalBytes });
    }
  };
  // The pages are memory that may be unmapped afterwards.
  await allDone(Array.from({ length: WRITES_AT_ONCE }, worker));
  return totalBytes;
}

function* writesOf(
  ram: Ram,
  runs: readonly PageRun[],
): Generator<{ bytes: Uint8Array; position: number }, undefined> {
  for (const run of runs) {
    let position = run.first * PAGE_BYTES;
    for (const bytes of ram.bytesOf(run)) {
      for (let at = 0; at < bytes.length; at += WRITE_BYTES) {
        const piece = bytes.subarray(at, at + WRITE_BYTES);
        yield { bytes: piece, position };
        position += piece.length;
      }
    }
  }
  return undefined;
}

/** SHA-256 of the pages that the file holds; undefined if it ends too early. */
export async function hashPages(
  file: FileHandle,
  pages: SavedMemory['pages'],
  signal?: AbortSignal,
): Promise<string | undefined> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(WRITE_BYTES);
  for (const [first, count] of pages) {
    const end = (first + count) * PAGE_BYTES;
    for (let position = first * PAGE_BYTES; position < end; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - position), position);
      if (bytesRead === 0) return undefined;
      hash.update(buffer.subarray(0, bytesRead));
      position += bytesRead;
    }
  }
  return hash.digest('hex');
}

/** What tells that nobody has written to the file since. */
export async function stampOf(file: FileHandle): Promise<SavedMemory['stamp']> {
  const { ino, ctimeNs, size } = await file.stat({ bigint: true });
  return { inode: String(ino), ctimeNs: String(ctimeNs), bytes: Number(size) };
}
