/** Layers of an image, read once each, the lowest first. */
import { TsvmError } from '../../errors.js';
import { Blob } from '../blob.js';
import { contentOf } from '../decompress.js';
import type { Layer } from '../image.js';
import { imageError } from '../image-error.js';
import { LIMITS, type Limits } from '../tar/limits.js';
import { readTar, type TarEntry } from '../tar/reader.js';
import { type LayerEntry, roleOf, TreeBuilder } from './builder.js';
import type { TreeNode, TreeSink } from './tree.js';

/**
 * Applies layers to each other, the lowest first, and gives a sink what comes of them. Devices, and what is in the top `/dev`, are left out.
 *
 * @param layers - archives, of any compression
 * @throws TsvmError `TSVM_IMAGE` that names the archive and what is wrong with it; `TSVM_HOST` if the program is missing that unpacks it.
 */
export async function applyLayers(
  layers: readonly Layer[],
  sink: TreeSink,
  limits: Readonly<Partial<Limits>> = {},
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  const left = { ...LIMITS, ...limits };
  const tree = new TreeBuilder((file) => sink.drop(file), left);
  for (const layer of layers) {
    await using blob = await Blob.open({ ...layer, signal });
    const apply = async (): Promise<void> => {
      const { marks, entries } = await readLayer(await contentOf(blob, layer.diffId), sink, left);
      await blob.finish();
      await tree.apply(marks, entries, signal);
    };
    await named(blob, apply, signal);
  }
  await sink.finish(tree.root);
}

async function readLayer(
  pieces: AsyncIterable<Uint8Array>,
  sink: TreeSink,
  limits: Limits,
): Promise<{ marks: readonly string[]; entries: readonly LayerEntry[] }> {
  const marks: string[] = [];
  const entries: LayerEntry[] = [];
  for await (const entry of readTar(pieces, limits)) {
    const role = roleOf(entry.name);
    if (role === 'mark') marks.push(entry.name);
    if (role !== 'entry') continue;
    const read = layerEntryOf(entry);
    entries.push(read);
    if (read.kind === 'node' && read.node.kind === 'file') await sink.data(read.node, entry.data());
  }
  return { marks, entries };
}

function layerEntryOf(entry: TarEntry): LayerEntry {
  const { name, kind, link } = entry;
  if (kind === 'hard-link') return { name, kind, target: link };
  if (kind === 'device') return { name, kind };
  return { name, kind: 'node', node: nodeOf(entry, kind) };
}

function nodeOf(entry: TarEntry, kind: TreeNode['kind']): TreeNode {
  const { mode, uid, gid, mtime, xattrs, sizeBytes, link } = entry;
  const facts = { mode, uid, gid, mtimeSeconds: mtime.seconds, mtimeNs: mtime.nanoseconds, xattrs };
  switch (kind) {
    case 'directory':
      return { kind, ...facts, children: new Map() };
    case 'file':
      return { kind, ...facts, names: 0, sizeBytes };
    case 'link':
      return { kind, ...facts, names: 0, target: link };
    case 'fifo':
      return { kind, ...facts, names: 0 };
  }
}

/** Runs `work`; its errors name the archive, but for an abort. */
export async function named(blob: Blob, work: () => Promise<void>, signal?: AbortSignal): Promise<void> {
  try {
    await work();
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof TsvmError && (error.code !== 'TSVM_IMAGE' || error.message.startsWith(blob.name))) {
      throw error;
    }
    // What has not the digest that is its name is that, whatever else is wrong with it.
    await blob.finish();
    const hint = error instanceof TsvmError ? error.hint : undefined;
    throw imageError(`${blob.name}: ${error instanceof Error ? error.message : error}`, hint, error);
  }
}
