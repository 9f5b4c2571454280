/**
 * Tree of an image as a directory. The data of each file goes into a folder of its own, under a number; names are given at the end. So no path
 * of the image is opened while there are links in it that could lead elsewhere.
 *
 * Owners, and the capabilities of programs, are for the superuser to give; without root all is the user's own.
 */
import { constants } from 'node:fs';
import { isErrnoError, TsvmError } from '../../errors.js';
import { describeFileError } from '../../host/files.js';
import { type FileCall, FileThread } from '../../host/fs/file-thread.js';
import { CAPABILITY_XATTR } from '../tar/pax.js';
import type { Extent } from '../tar/sparse.js';
import type { DirectoryNode, FileNode, NodeFacts, TreeNode, TreeSink } from './tree.js';

/** Permissions of what is not finished: nobody else's. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

export class DirectorySink implements TreeSink, AsyncDisposable {
  readonly #directory: string;
  readonly #flat: string;
  readonly #superuser: boolean;
  readonly #thread = new FileThread();
  readonly #numbers = new Map<FileNode, number>();
  #next = 0;

  /** @param directory - which is made, in a folder that nobody else can enter */
  constructor(directory: string, superuser = process.geteuid?.() === 0) {
    this.#directory = directory;
    this.#flat = `${directory}.files`;
    this.#superuser = superuser;
  }

  async data(file: FileNode, extents: AsyncIterable<Extent>): Promise<void> {
    if (this.#next === 0) await this.#makeFolder(this.#flat);
    const number = this.#next++;
    this.#numbers.set(file, number);
    const path = this.#flatPath(number);
    await this.#call(['openSync', path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE]);
    let end = 0;
    for await (const { offset, bytes } of extents) {
      await this.#call(['write', null, bytes, offset]);
      end = offset + bytes.length;
    }
    if (end < file.sizeBytes) await this.#call(['ftruncateSync', null, file.sizeBytes]);
    // Another owner takes capabilities away, and setuid.
    if (this.#gives(file)) await this.#call(['fchownSync', null, file.uid, file.gid]);
    await this.#call(
      ...this.#xattrsOf(file, path),
      ['fchmodSync', null, file.mode],
      ['closeSync', null],
      timesOf(file, path),
    );
  }

  drop(file: FileNode): void {
    this.#numbers.delete(file);
  }

  async finish(root: DirectoryNode): Promise<void> {
    await this.#makeFolder(this.#directory);
    const folders: Named<DirectoryNode>[] = [];
    const firsts = new Map<TreeNode, Buffer>();
    for (const { node, path } of walk(root, Buffer.from(this.#directory))) {
      if (node.kind === 'directory') {
        if (node !== root) await this.#call(['mkdirSync', path, FOLDER_MODE]);
        folders.push({ node, path });
        continue;
      }
      const first = firsts.get(node);
      if (first === undefined) await this.#call(...this.#named(node, path));
      else await this.#call(['linkSync', first, path]);
      if (node.names > 1) firsts.set(node, first ?? path);
    }
    // Folders last, and those within others first: what is put in one changes its time, and its mode may forbid it.
    for (const { node, path } of folders.reverse()) await this.#call(...this.#finished(node, path));
    await this.#call(['rmSync', this.#flat, { recursive: true, force: true }]);
    await this.#telling(() => this.#thread.done());
  }

  #named(node: Exclude<TreeNode, DirectoryNode>, path: Buffer): FileCall[] {
    switch (node.kind) {
      case 'file':
        return [['renameSync', this.#flatPath(this.#numbers.get(node) ?? -1), path]];
      case 'link':
        return [
          ['symlinkSync', Buffer.from(node.target, 'latin1'), path],
          ...(this.#gives(node) ? [['lchownSync', path, node.uid, node.gid] satisfies FileCall] : []),
          timesOf(node, path),
        ];
      case 'fifo':
        return [['makeFifo', path, FILE_MODE], ...this.#finished(node, path)];
    }
  }

  /** Calls that give facts to a folder or a pipe. */
  #finished(node: Exclude<TreeNode, FileNode>, path: Buffer): FileCall[] {
    return [
      ...(this.#gives(node) ? [['chownSync', path, node.uid, node.gid] satisfies FileCall] : []),
      ...(node.kind === 'directory' ? this.#xattrsOf(node, path) : []),
      ['chmodSync', path, node.mode],
      timesOf(node, path),
    ];
  }

  #xattrsOf({ xattrs }: NodeFacts, path: Buffer): FileCall[] {
    return [...xattrs]
      .filter(([name]) => this.#superuser || name !== CAPABILITY_XATTR)
      .map(([name, value]) => ['setXattr', path, Buffer.from(name, 'latin1'), value]);
  }

  /** Says whether something has to be given to its owner. */
  #gives({ uid, gid }: NodeFacts): boolean {
    return this.#superuser && (uid !== 0 || gid !== process.getegid?.());
  }

  #flatPath(number: number): Buffer {
    return Buffer.from(`${this.#flat}/${number}`);
  }

  /** Makes a folder in which what is made has the group of this process, also where the folder above hands down its own. */
  async #makeFolder(path: string): Promise<void> {
    await this.#call(
      ['mkdirSync', path, { recursive: true, mode: FOLDER_MODE }],
      ['chmodSync', path, FOLDER_MODE],
    );
  }

  async #call(...calls: readonly FileCall[]): Promise<void> {
    await this.#telling(() => this.#thread.call(...calls));
  }

  /** Runs `work`; errors of the file system name the directory. */
  async #telling(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      if (!isErrnoError(cause)) throw cause;
      throw new TsvmError('TSVM_HOST', `cannot unpack into ${this.#directory}: ${describeFileError(cause)}`, {
        hint: 'have room there, or set TSVM_IMAGE_DIR to a folder elsewhere',
        cause,
      });
    }
  }

  /** Ends what runs. The caller removes what is there, if {@link finish} did not succeed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread[Symbol.asyncDispose]();
  }
}

/** Years that a Date has, in seconds from 1970. */
const DATE_SECONDS = 8.64e12;

/** Call that dates what is at a path, also a link. Node.js has microseconds, rounded, and takes a number before 1970 for now. */
function timesOf({ mtimeSeconds, mtimeNs }: NodeFacts, path: Buffer): FileCall {
  if (mtimeNs !== 0 || Math.abs(mtimeSeconds) > DATE_SECONDS)
    return ['setTimes', path, mtimeSeconds, mtimeNs];
  const date = new Date(mtimeSeconds * 1000);
  return ['lutimesSync', path, date, date];
}

interface Named<Node> {
  readonly node: Node;
  readonly path: Buffer;
}

/** Goes over a tree: a folder before what is in it. */
function* walk(node: TreeNode, path: Buffer): Generator<Named<TreeNode>> {
  yield { node, path };
  if (node.kind !== 'directory') return;
  for (const [name, child] of node.children)
    yield* walk(child, Buffer.concat([path, SLASH, Buffer.from(name, 'latin1')]));
}

const SLASH = Buffer.from('/');
