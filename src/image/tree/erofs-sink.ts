/** Tree as an EROFS file system in a file, which machines map as their root. It needs no rights: owners are numbers in it. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import type { Extent } from '../tar/sparse.js';
import { BlockFile } from './erofs/block-file.js';
import { writeContents } from './erofs/contents.js';
import { type Folder, foldersOf, writeFolder } from './erofs/folders.js';
import {
  formatInode,
  formatLinks,
  hasRoom,
  type InodeData,
  LINKS_OFFSET,
  recordBytes,
} from './erofs/inode.js';
import { Metadata, type Slot } from './erofs/metadata.js';
import { type BlockRange, BlockSpace } from './erofs/space.js';
import { BLOCK_BYTES, formatSuperblock, INODE_UNIT } from './erofs/superblock.js';
import { formatXattrs, MAX_XATTR_BYTES } from './erofs/xattrs.js';
import type { DirectoryNode, FifoNode, FileNode, LinkNode, TreeNode, TreeSink } from './tree.js';

/**
 * Longest file that lies behind its inode. Such a file is copied into each machine that reads it, by the page; longer ones, as programs
 * and libraries are, begin at a block's start: all machines have them from the host's page cache.
 */
const MAX_INLINE_BYTES = 2048;
/** Block of the root's inode, whose number has 16 bits; as many are left for it as it may need. */
const ROOT_BLOCK = 1;
const ROOT_BLOCKS = 1 + MAX_XATTR_BYTES / BLOCK_BYTES;

/** Names of a file until it is known better: they come after its data. */
const USUAL_LINKS = 1;

/** Facts of a node whose record is placed. */
interface Place {
  readonly slot: Slot;
  /** Form in which the data lie. */
  readonly kind: InodeData['kind'];
  /** Blocks of a file's data. */
  readonly range: BlockRange;
}

export class ErofsSink implements TreeSink, AsyncDisposable {
  readonly #file: FileHandle;
  readonly #blocks: BlockFile;
  readonly #space = new BlockSpace(ROOT_BLOCK + ROOT_BLOCKS);
  readonly #metadata: Metadata;
  readonly #places = new Map<TreeNode, Place>();
  readonly #uuid: Uint8Array;

  private constructor(path: string, file: FileHandle, key: string) {
    this.#file = file;
    this.#blocks = new BlockFile(path, file);
    this.#metadata = new Metadata(this.#blocks, this.#space);
    this.#uuid = createHash('sha256').update(key).digest();
  }

  /**
   * Makes the file, which must not be there.
   *
   * @param key - name of the content: equal layers and keys make equal files
   */
  static async create(path: string, key: string): Promise<ErofsSink> {
    return new ErofsSink(path, await open(path, 'wx+', 0o600), key);
  }

  async data(file: FileNode, extents: AsyncIterable<Extent>): Promise<void> {
    const { sizeBytes } = file;
    const xattrs = formatXattrs(file.xattrs);
    if (sizeBytes <= MAX_INLINE_BYTES && hasRoom(xattrs, sizeBytes)) {
      this.#add(file, xattrs, inlineData(await gather(sizeBytes, extents)));
    } else {
      const { data, range } = await writeContents(this.#blocks, this.#space, sizeBytes, extents);
      this.#add(file, xattrs, data, range);
    }
    await this.#metadata.spill();
  }

  /** Gives the file's blocks to later ones. Its record stays, and nothing leads to it. */
  drop(file: FileNode): void {
    this.#space.give(this.#placeOf(file).range);
    this.#places.delete(file);
  }

  async finish(root: DirectoryNode): Promise<void> {
    const folders = await this.#place(root);
    this.#metadata.seal();
    for (const folder of folders) await this.#write(folder);
    for (const [node, { slot }] of this.#places) {
      if (node.kind === 'file' && node.names !== USUAL_LINKS)
        await this.#metadata.patch(slot, LINKS_OFFSET, formatLinks(node.names));
    }
    await this.#metadata.flush();
    await this.#end(this.#numberOf(root));
  }

  /** Reads a file of what is finished, up to a length. Of one with holes nothing is read. */
  async read(file: FileNode, maxBytes: number): Promise<Uint8Array> {
    const { slot, kind, range } = this.#placeOf(file);
    if (kind === 'chunks') return Buffer.alloc(0);
    const start =
      kind === 'blocks'
        ? range.start * BLOCK_BYTES
        : this.#metadata.numberOf(slot) * INODE_UNIT + recordBytes(formatXattrs(file.xattrs), 0);
    return await this.#blocks.read(start, Math.min(file.sizeBytes, maxBytes));
  }

  /** Makes room for all that has no data in layers. */
  async #place(root: DirectoryNode): Promise<readonly Folder[]> {
    const folders = [...foldersOf(root)];
    for (const { node, recordBytes } of folders) {
      const slot =
        node === root ? this.#metadata.placeAt(ROOT_BLOCK, recordBytes) : this.#metadata.place(recordBytes);
      this.#places.set(node, { slot, kind: 'blocks', range: NO_BLOCKS });
      for (const child of node.children.values()) {
        if (child.kind === 'directory' || child.kind === 'file' || this.#places.has(child)) continue;
        await this.#addSpecial(child);
      }
    }
    return folders;
  }

  /** Adds a link or FIFO. */
  async #addSpecial(node: LinkNode | FifoNode): Promise<void> {
    const xattrs = formatXattrs(node.xattrs);
    const target = Buffer.from(node.kind === 'link' ? node.target : '', 'latin1');
    if (hasRoom(xattrs, target.length)) {
      this.#add(node, xattrs, inlineData(target));
      return;
    }
    const start = this.#space.take(1);
    const block = Buffer.concat([target], BLOCK_BYTES);
    await this.#blocks.write(start * BLOCK_BYTES, block);
    this.#add(node, xattrs, { kind: 'blocks', sizeBytes: target.length, start });
  }

  #add(
    node: FileNode | LinkNode | FifoNode,
    xattrs: Uint8Array,
    data: InodeData,
    range: BlockRange = NO_BLOCKS,
  ): void {
    const links = node.kind === 'file' ? USUAL_LINKS : node.names;
    const slot = this.#metadata.add(formatInode(node, xattrs, data, links));
    this.#places.set(node, { slot, kind: data.kind, range });
  }

  async #write(folder: Folder): Promise<void> {
    const { node, xattrs } = folder;
    const data = await writeFolder(folder, (child) => this.#numberOf(child), this.#blocks, this.#space);
    const { slot } = this.#placeOf(node);
    const inner = [...node.children.values()].filter(({ kind }) => kind === 'directory');
    const links = 2 + inner.length;
    await this.#metadata.patch(slot, 0, formatInode(node, xattrs, data, links));
  }

  #numberOf(node: TreeNode): number {
    return this.#metadata.numberOf(this.#placeOf(node).slot);
  }

  #placeOf(node: TreeNode): Place {
    const place = this.#places.get(node);
    if (place === undefined) throw new Error('a file without data');
    return place;
  }

  async #end(root: number): Promise<void> {
    const blocks = this.#space.end;
    const superblock = formatSuperblock({ root, inodes: this.#places.size, blocks, uuid: this.#uuid });
    await this.#blocks.write(0, superblock);
    await this.#blocks.end(blocks * BLOCK_BYTES);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

const NO_BLOCKS: BlockRange = { start: 0, blocks: 0 };

/** Data that are not in blocks at all. The kernel takes no file without data for such. */
const inlineData = (tail: Uint8Array): InodeData =>
  tail.length === 0
    ? { kind: 'blocks', sizeBytes: 0, start: 0 }
    : { kind: 'inline', sizeBytes: tail.length, start: 0, tail };

async function gather(sizeBytes: number, extents: AsyncIterable<Extent>): Promise<Uint8Array> {
  const whole = Buffer.alloc(sizeBytes);
  for await (const { offset, bytes } of extents) whole.set(bytes, offset);
  return whole;
}
