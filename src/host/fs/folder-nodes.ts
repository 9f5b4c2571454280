/**
 * The table of a share's nodes: what of the folder the guest knows, where it is, and by which descriptors it is held.
 *
 * A node lives as long as the guest has entries of it, another is known below it, or a call uses it; then its descriptor goes with
 * it. Of those with a name, descriptors are few: those that were not used for long are closed, and opened again by name. What is
 * then found must be the same, by device, inode number, type, and time of birth.
 */
import * as z from 'zod/mini';
import { encodeName } from '../../devices/backends/file-names.js';
import { type FileEntry, type FileOwner, fileError } from '../../devices/backends/file-system.js';
import { Descriptor, FolderFacts, type FolderIo } from './folder-io.js';
import { FolderNode } from './folder-node.js';

/** Descriptors of nodes that have a name. */
const MAX_DESCRIPTORS = 1024;
/** Descriptors of nodes that are closed when the process has no more. */
const LET_GO_WHEN_FULL = 32;
/** Nodes without a name: each has a descriptor until the guest forgets it. As many as files that it may have open. */
const MAX_PINNED = 4096;
/** Nodes in all, of which the guest can know half (MAX_NODES of node-table.ts); the others are folders above them. */
const MAX_NODES = 1 << 19;
/** Folders above a node that are walked. Linux's PATH_MAX would not even let anybody name what lies deeper. */
const MAX_DEPTH = 2048;
/** PATH_MAX: bytes of the path that a saved machine has for a node. */
const MAX_PATH_BYTES = 4096;
/** Names in that path, each of which is a system call when the machine is restored: deeper nodes are not saved. */
const MAX_PATH_NAMES = 64;

/** Names from the shared folder down, and what must be there. */
const descriptionSchema = z.strictObject({
  path: z
    .array(
      z.string().check(
        z.regex(/^[^/\0]+$/),
        z.refine((name) => name !== '.' && name !== '..'),
      ),
    )
    .check(z.maxLength(MAX_PATH_NAMES)),
  dev: z.string(),
  ino: z.string(),
  type: z.optional(z.number()),
  born: z.optional(z.string()),
});

export class FolderNodes {
  readonly root: FolderNode;
  readonly #io: FolderIo;
  readonly #known = new Map<string, FolderNode>();
  /** Nodes with a descriptor and a name; the one used last comes last. */
  readonly #held = new Set<FolderNode>();
  readonly #nodeOf = new WeakMap<Descriptor, FolderNode>();
  #pinned = 0;

  constructor(io: FolderIo, root: Descriptor, facts: FolderFacts) {
    this.#io = io;
    this.root = new FolderNode(facts);
    this.root.descriptor = root;
    io.whenFull(() => this.#letGoSome(LET_GO_WHEN_FULL));
  }

  get size(): number {
    return this.#known.size;
  }

  /** Calls `action` with a descriptor that holds this node and no other, while it lasts. */
  async use<T>(node: FolderNode, user: FileOwner, action: (fd: number) => Promise<T>): Promise<T> {
    node.users++;
    try {
      const descriptor = node.descriptor ?? (await this.#reopen(node, user));
      if (this.#held.delete(node)) this.#held.add(node);
      return await descriptor.use(action);
    } finally {
      node.users--;
      this.#settle([node]);
    }
  }

  lookup(parent: FolderNode, name: string, user: FileOwner): Promise<FileEntry<FolderNode>> {
    return this.make(parent, name, user, (dir, facts) =>
      this.#io.call('lookup', user, dir, encodeName(name), facts.words),
    );
  }

  /** Hands out an entry of what `call` finds or makes as `name`, and returns a descriptor of. */
  make(
    parent: FolderNode,
    name: string,
    user: FileOwner,
    call: (dir: number, facts: FolderFacts) => Promise<number>,
  ): Promise<FileEntry<FolderNode>> {
    return this.use(parent, user, async (dir) => {
      this.checkRoom();
      const facts = new FolderFacts();
      return this.enter(facts, await call(dir, facts), parent, name);
    });
  }

  /** A file of a node's that the guest has open from now on, until `closed`. */
  opened(node: FolderNode, fd: number): Descriptor {
    const file = new Descriptor(this.#io, fd);
    node.opened ??= new Set();
    node.opened.add(file);
    this.#nodeOf.set(file, node);
    return file;
  }

  closed(file: Descriptor): void {
    this.#nodeOf.get(file)?.opened?.delete(file);
  }

  /** Throws ENFILE if no more nodes may be known. To be called before anything is made. */
  checkRoom(): void {
    if (this.#known.size >= MAX_NODES) throw fileError('ENFILE');
  }

  /** Throws ENFILE if no more may be known that have no name. To be called before one loses its name. */
  checkPinned(): void {
    if (this.#pinned >= MAX_PINNED) throw fileError('ENFILE');
  }

  /** Hands out an entry of what was found, as `name` in `parent` or without a name. `fd`, if it is one, holds it. */
  enter(facts: FolderFacts, fd: number, parent?: FolderNode, name = ''): FileEntry<FolderNode> {
    const descriptor = fd < 0 ? undefined : new Descriptor(this.#io, fd);
    const { attributes } = facts;
    if (this.root.is(facts)) {
      descriptor?.close();
      return { node: this.root, attributes };
    }
    const node = this.#knownBy(facts) ?? new FolderNode(facts);
    this.#known.set(node.key, node);
    node.entries++;
    if (descriptor !== undefined) this.#hold(node, descriptor);
    if (parent === undefined) this.#pin(node);
    else this.#place(node, parent, name);
    return { node, attributes };
  }

  /** Hands out an entry of what was listed, as {@link enter}; undefined if no more nodes may be known. */
  enterIfRoom(facts: FolderFacts, parent: FolderNode, name: string): FileEntry<FolderNode> | undefined {
    return this.#known.size < MAX_NODES ? this.enter(facts, -1, parent, name) : undefined;
  }

  /** Notes that a name was removed; `fd` holds what had it, `facts` are from afterwards. */
  removed(parent: FolderNode, name: string, facts: FolderFacts, fd: number): void {
    const descriptor = new Descriptor(this.#io, fd);
    const node = this.#knownBy(facts);
    if (node !== undefined) this.#settle(node.removePlace(parent, name));
    if (node === undefined || (facts.nlink > 0 && !node.isFolder)) {
      descriptor.close();
      return;
    }
    this.#hold(node, descriptor);
    this.#pin(node);
    this.#settle([node]);
  }

  /** Notes that what the facts are of has this name now, and not the one before. */
  moved(facts: FolderFacts, parent: FolderNode, name: string, oldParent: FolderNode, oldName: string): void {
    const node = facts.isThere ? this.#knownBy(facts) : undefined;
    if (node === undefined) return;
    node.users++;
    this.#place(node, parent, name);
    if (parent !== oldParent || name !== oldName) this.#settle(node.removePlace(oldParent, oldName));
    node.users--;
    this.#settle([node]);
  }

  /** Takes entries back from the guest: all that it has, or so many. */
  forget(node: FolderNode, entries = node.entries): void {
    node.entries = Math.max(0, node.entries - entries);
    this.#settle([node]);
  }

  /** The node that the facts are of. One that had the inode number before them is found nowhere any more. */
  #knownBy(facts: FolderFacts): FolderNode | undefined {
    const node = this.#known.get(facts.key);
    if (node === undefined || node.is(facts)) return node;
    this.#known.delete(node.key);
    this.#settle(node.removePlaces());
    return undefined;
  }

  #place(node: FolderNode, parent: FolderNode, name: string): void {
    if (node.isPinned) {
      node.isPinned = false;
      this.#pinned--;
      if (node.descriptor !== undefined) this.#held.add(node);
    }
    // A folder that is mounted in itself is above itself, and has a place already.
    if (node === parent || node.isAt(parent, name)) return;
    if (node.children > 0) this.#keepAbove(node, parent);
    this.#settle(node.addPlace(parent, name));
  }

  /**
   * Makes sure that `node` is not above `parent`, in which it was found just now. Folders that were moved on the host are remembered
   * where they were: the one among those above `parent` that is said to be in `node` is not there any more.
   */
  #keepAbove(node: FolderNode, parent: FolderNode): void {
    let at: FolderNode | undefined = parent;
    for (let depth = 0; at !== undefined; depth++) {
      const above: FolderNode | undefined = at.places[0]?.parent;
      if (above === node || depth >= MAX_DEPTH) {
        this.#settle(at.removePlaces());
        return;
      }
      at = above;
    }
  }

  #hold(node: FolderNode, descriptor: Descriptor): void {
    if (node.descriptor !== undefined) {
      descriptor.close();
      return;
    }
    node.descriptor = descriptor;
    this.#held.add(node);
    if (this.#held.size > MAX_DESCRIPTORS) this.#letGoSome(1, node);
  }

  /** Closes the descriptors that were not used for longest. */
  #letGoSome(most: number, except?: FolderNode): boolean {
    let left = most;
    for (const old of this.#held) {
      if (left === 0) break;
      if (old === except || old.users > 0) continue;
      this.#letGo(old);
      left--;
    }
    return left < most;
  }

  #letGo(node: FolderNode): void {
    this.#held.delete(node);
    node.descriptor?.close();
    node.descriptor = undefined;
  }

  #pin(node: FolderNode): void {
    if (node.isPinned) return;
    this.#settle(node.removePlaces());
    node.isPinned = true;
    this.#pinned++;
    this.#held.delete(node);
  }

  /** Drops those that nobody knows or uses any more, and what was kept for their sake only. */
  #settle(nodes: readonly FolderNode[]): void {
    const left = [...nodes];
    for (let node = left.pop(); node !== undefined; node = left.pop()) {
      if (node === this.root || node.entries > 0 || node.children > 0 || node.users > 0) continue;
      if (this.#known.get(node.key) === node) this.#known.delete(node.key);
      if (node.isPinned) this.#pinned--;
      node.isPinned = false;
      this.#letGo(node);
      left.push(...node.removePlaces());
    }
  }

  /** Opens a node again by its name. One that is not there any more is still what the guest has open of it. */
  async #reopen(node: FolderNode, user: FileOwner): Promise<Descriptor> {
    try {
      return await this.#find(node, user);
    } catch (error) {
      const [opened] = node.opened ?? [];
      if (opened === undefined || (error as NodeJS.ErrnoException).code !== 'ESTALE') throw error;
      return opened;
    }
  }

  /** Goes down to a node by names, from the last folder above it that is open still. */
  async #find(node: FolderNode, user: FileOwner): Promise<Descriptor> {
    const closed: FolderNode[] = [];
    for (let at = node; at.descriptor === undefined; ) {
      const above = at.places[0]?.parent;
      if (above === undefined || closed.length >= MAX_DEPTH) throw fileError('ESTALE');
      closed.push(at);
      at = above;
    }
    for (const at of closed.reverse()) await this.#reopenIn(at, user);
    if (node.descriptor === undefined) throw fileError('ESTALE');
    return node.descriptor;
  }

  async #reopenIn(node: FolderNode, user: FileOwner): Promise<void> {
    for (const { parent, name } of [...node.places]) {
      const found = await this.use(parent, user, async (dir) => {
        const facts = new FolderFacts();
        const fd = await this.#io.call('lookup', user, dir, encodeName(name), facts.words);
        const descriptor = new Descriptor(this.#io, fd);
        if (this.#known.get(node.key) === node && node.is(facts)) this.#hold(node, descriptor);
        else descriptor.close();
      }).then(
        () => node.descriptor !== undefined,
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false;
          throw error;
        },
      );
      if (found) return;
    }
    throw fileError('ESTALE');
  }

  describe(node: FolderNode): unknown {
    const path: string[] = [];
    let bytes = 0;
    let at = node;
    while (at !== this.root) {
      const [place] = at.places;
      if (place === undefined) return undefined;
      bytes += Buffer.byteLength(place.name) + 1;
      if (bytes > MAX_PATH_BYTES || path.length === MAX_PATH_NAMES) return undefined;
      path.push(place.name);
      at = place.parent;
    }
    const [dev, ino] = node.key.split(':');
    return { path: path.reverse(), dev, ino, type: node.type, born: String(node.bornNs) };
  }

  /** Hands out an entry of what a description is of. */
  async recall(description: unknown, user: FileOwner): Promise<FolderNode> {
    const { data } = descriptionSchema.safeParse(description);
    if (data === undefined) throw fileError('ESTALE');
    let node = this.root;
    for (const name of data.path) {
      const above = node;
      try {
        ({ node } = await this.lookup(above, name, user));
      } finally {
        this.#giveBack(above);
      }
    }
    const { type = node.type, born = String(node.bornNs) } = data;
    if (`${data.dev}:${data.ino}` === node.key && type === node.type && born === String(node.bornNs))
      return node;
    this.#giveBack(node);
    throw fileError('ESTALE');
  }

  #giveBack(node: FolderNode): void {
    if (node !== this.root) this.forget(node, 1);
  }

  close(): void {
    for (const node of [this.root, ...this.#known.values()]) {
      node.descriptor?.close();
      node.descriptor = undefined;
    }
    this.#known.clear();
    this.#held.clear();
  }
}
