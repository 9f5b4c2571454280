/** Trees of images in memory: what layers make, listed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '../../src/image/digest.js';
import type { Limits } from '../../src/image/tar/limits.js';
import type { Extent } from '../../src/image/tar/sparse.js';
import { applyLayers } from '../../src/image/tree/layers.js';
import type { DirectoryNode, FileNode, TreeNode, TreeSink } from '../../src/image/tree/tree.js';
import { type TarEntry, tarOf } from './tar.js';

/** Sink that keeps data in memory, and knows when it is given something twice or never. */
export class MemorySink implements TreeSink {
  readonly files = new Map<FileNode, Buffer>();
  root: DirectoryNode | undefined;

  async data(file: FileNode, extents: AsyncIterable<Extent>): Promise<void> {
    if (this.files.has(file)) throw new Error('the data of a file came twice');
    const bytes = Buffer.alloc(file.sizeBytes);
    for await (const extent of extents) bytes.set(extent.bytes, extent.offset);
    this.files.set(file, bytes);
  }

  drop(file: FileNode): void {
    if (!this.files.delete(file)) throw new Error('a file was dropped that is not there');
  }

  async finish(root: DirectoryNode): Promise<void> {
    this.root = root;
  }
}

/** Lists each name with what it leads to: `a: file 644 "content"`, `b = a` for one more name of a file. */
export function listing(sink: MemorySink): string[] {
  const lines: string[] = [];
  const first = new Map<TreeNode, string>();
  const walk = (folder: DirectoryNode, path: string): void => {
    for (const name of [...folder.children.keys()].sort()) {
      const node = folder.children.get(name) as TreeNode;
      const full = `${path}${name}`;
      const known = first.get(node);
      first.set(node, full);
      lines.push(known === undefined ? `${full}: ${described(sink, node)}` : `${full} = ${known}`);
      if (node.kind === 'directory') walk(node, `${full}/`);
    }
  };
  walk(sink.root as DirectoryNode, '');
  const lost = [...first.keys()].filter((node) => node.kind === 'file' && !sink.files.has(node));
  if (lost.length > 0) throw new Error('a file was dropped that has a name');
  const unused = [...sink.files.keys()].filter((file) => !first.has(file));
  if (unused.length > 0) throw new Error('a file without a name was not dropped');
  return lines;
}

function described(sink: MemorySink, node: TreeNode): string {
  const mode = node.mode.toString(8);
  switch (node.kind) {
    case 'file':
      return `file ${mode} ${JSON.stringify(sink.files.get(node)?.toString('latin1'))}`;
    case 'link':
      return `link ${node.target}`;
    default:
      return `${node.kind} ${mode}`;
  }
}

/** Applies archives, which are layers with their digests. */
export async function treeOfArchives(
  archives: readonly Uint8Array[],
  limits?: Partial<Limits>,
  sink = new MemorySink(),
): Promise<MemorySink> {
  const folder = mkdtempSync(join(tmpdir(), 'tsvm-layers-'));
  try {
    const layers = archives.map((bytes, i) => {
      const path = join(folder, `layer-${i}`);
      writeFileSync(path, bytes);
      return { path, digest: digestOf(bytes) };
    });
    await applyLayers(layers, sink, limits);
    return sink;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Applies layers, and lists what they make. */
export async function treeOf(...layers: (readonly TarEntry[])[]): Promise<string[]> {
  return listing(await treeOfArchives(layers.map(tarOf)));
}
