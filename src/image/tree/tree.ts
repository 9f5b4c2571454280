/**
 * Tree of an image's files, and what takes it: layers are applied in memory, so that no name of an archive is ever looked up in a file
 * system. Names, targets of links and names of attributes are bytes: a character is one.
 */
import type { Extent } from '../tar/sparse.js';

export interface NodeFacts {
  /** Permissions, with suid and the like. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNs: number;
  /** Extended attributes: `user.*`, and the capabilities of programs. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export interface DirectoryNode extends NodeFacts {
  readonly kind: 'directory';
  readonly children: Map<string, TreeNode>;
}

/** Anything that is no directory may have several names (hard links); all lead to one node. */
interface NamedNode extends NodeFacts {
  /** Number of names that lead to it. */
  names: number;
}

export interface FileNode extends NamedNode {
  readonly kind: 'file';
  /** Size, holes included. */
  readonly sizeBytes: number;
}

export interface LinkNode extends NamedNode {
  readonly kind: 'link';
  readonly target: string;
}

export interface FifoNode extends NamedNode {
  readonly kind: 'fifo';
}

export type TreeNode = DirectoryNode | FileNode | LinkNode | FifoNode;

/** Consumer of a tree: gets data while layers are read, and names when all are known. */
export interface TreeSink {
  /** Takes a file's data, whole and once. The file may lose all its names later. */
  data(file: FileNode, extents: AsyncIterable<Extent>): Promise<void>;
  /** Forgets a file whose data it has: no name leads to it, and none will. */
  drop(file: FileNode): void;
  /** Takes the tree, when all layers are in it. */
  finish(root: DirectoryNode): Promise<void>;
}

/** Bound of links on the way to a name, as Linux's own. */
export const MAX_LINKS = 40;

/** Facts of a folder that layers take for granted, as every program makes one. */
export const PLAIN_FOLDER: NodeFacts = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNs: 0,
  xattrs: new Map(),
};
