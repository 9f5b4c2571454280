/** Trees that tests make, and file systems of them. */
import type { Extent } from '../../src/image/tar/sparse.js';
import { ErofsSink } from '../../src/image/tree/erofs-sink.js';
import type {
  DirectoryNode,
  FifoNode,
  FileNode,
  LinkNode,
  NodeFacts,
  TreeNode,
} from '../../src/image/tree/tree.js';
import { type Erofs, readErofs } from './erofs.js';

const FACTS: NodeFacts = { mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNs: 0, xattrs: new Map() };

export const directory = (
  names: Iterable<readonly [string, TreeNode]> = [],
  facts: Partial<NodeFacts> = {},
): DirectoryNode => ({ kind: 'directory', ...FACTS, mode: 0o755, ...facts, children: new Map(names) });

export const link = (target: string, facts: Partial<NodeFacts> = {}): LinkNode => ({
  kind: 'link',
  ...FACTS,
  mode: 0o777,
  ...facts,
  names: 1,
  target,
});

export const fifo = (facts: Partial<NodeFacts> = {}): FifoNode => ({
  kind: 'fifo',
  ...FACTS,
  ...facts,
  names: 1,
});

/** Data with holes. */
export interface Sparse {
  readonly sizeBytes: number;
  readonly extents: readonly Extent[];
}

/** File system in the making. */
export class ErofsMaker {
  readonly path: string;
  readonly sink: ErofsSink;

  private constructor(path: string, sink: ErofsSink) {
    this.path = path;
    this.sink = sink;
  }

  static async begin(path: string, key = 'key'): Promise<ErofsMaker> {
    return new ErofsMaker(path, await ErofsSink.create(path, key));
  }

  /** Gives a file's data to the sink. Text is latin1. */
  async file(content: string | Uint8Array | Sparse, facts: Partial<NodeFacts> = {}): Promise<FileNode> {
    const whole = typeof content === 'string' ? Buffer.from(content, 'latin1') : content;
    const data =
      whole instanceof Uint8Array
        ? { sizeBytes: whole.length, extents: [{ offset: 0, bytes: whole }] }
        : whole;
    const file: FileNode = { kind: 'file', ...FACTS, ...facts, names: 1, sizeBytes: data.sizeBytes };
    await this.sink.data(file, each(data.extents));
    return file;
  }

  /** Ends it, and reads it. */
  async end(root: DirectoryNode): Promise<Erofs> {
    await this.sink.finish(root);
    await this.close();
    return readErofs(this.path);
  }

  async close(): Promise<void> {
    await this.sink[Symbol.asyncDispose]();
  }
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
