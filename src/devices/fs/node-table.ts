/** Table of what the guest knows: its node IDs, each with how often it was handed out and not yet forgotten. */
import { checkState } from '../../util/state.js';
import { type FileSystem, fileError } from '../backends/file-system.js';
import { FUSE_ROOT_ID } from './protocol.js';

/** Linux forgets only when it needs the memory, so there must be room for a large tree. */
const MAX_NODES = 1 << 18;
/**
 * Most nodes, and the most characters of their descriptions, that are saved: it is work at once, and other machines wait. Who uses one of
 * the rest gets ESTALE, upon which Linux looks it up by its name again.
 */
const MAX_SAVED_NODES = 20_000;
/** Characters of JSON: an eighth of what a snapshot may have for the whole machine. */
const MAX_SAVED_CHARACTERS = 2 << 20;

interface Known {
  /** Undefined: restored, and not found again. */
  node: object | undefined;
  description: unknown;
  /** Lookups that the guest has to forget. */
  lookups: number;
  /** Entries of it that the file system handed out: some may have been forgotten by now. */
  entries: number;
}

export type SavedNode = readonly [id: number, lookups: number, description: unknown];

export class NodeTable {
  readonly #fileSystem: FileSystem;
  readonly #known = new Map<number, Known>();
  readonly #ids = new Map<object, number>();
  #nextId = FUSE_ROOT_ID + 1;

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
  }

  /** Finds the nodes of a restored table again. Those that are not there any more stay unknown. Ends early after clear(). */
  async recall(): Promise<void> {
    for (const [id, known] of this.#known) {
      if (known.node !== undefined) continue;
      const node = await this.#recalled(known.description);
      if (node === undefined) continue;
      if (this.#known.get(id) !== known) {
        this.#fileSystem.forget?.(node, 1);
        continue;
      }
      known.node = node;
      known.entries = 1;
      this.#ids.set(node, id);
    }
  }

  async #recalled(description: unknown): Promise<object | undefined> {
    try {
      return await this.#fileSystem.recall?.(description);
    } catch {
      return undefined;
    }
  }

  /** Throws ESTALE for one that the guest does not know. */
  get(id: number): object {
    const node = id === FUSE_ROOT_ID ? this.#fileSystem.root : this.#known.get(id)?.node;
    if (node === undefined) throw fileError('ESTALE');
    return node;
  }

  /**
   * Returns the ID by which the guest is told of `node`, an entry of which was handed out: it has one more to forget. Throws ENFILE, with
   * the entry given back, if the guest knows too many.
   */
  add(node: object): number {
    if (node === this.#fileSystem.root) return FUSE_ROOT_ID;
    const id = this.#ids.get(node) ?? this.#newId(node);
    const known = this.#known.get(id);
    if (known !== undefined) {
      known.lookups++;
      known.entries++;
    }
    return id;
  }

  #newId(node: object): number {
    if (this.#known.size >= MAX_NODES) {
      this.#fileSystem.forget?.(node, 1);
      throw fileError('ENFILE');
    }
    const id = this.#nextId++;
    this.#known.set(id, { node, description: undefined, lookups: 0, entries: 0 });
    this.#ids.set(node, id);
    return id;
  }

  /** Gives an entry back that the guest is not told of. */
  drop(node: object): void {
    if (node === this.#fileSystem.root) return;
    const known = this.#known.get(this.#ids.get(node) ?? 0);
    if (known === undefined) this.#fileSystem.forget?.(node, 1);
    else known.entries++;
  }

  forget(id: number, count: number): void {
    const known = this.#known.get(id);
    if (known === undefined) return;
    known.lookups -= count;
    if (known.lookups > 0) return;
    this.#known.delete(id);
    if (known.node === undefined) return;
    if (this.#ids.get(known.node) === id) this.#ids.delete(known.node);
    this.#fileSystem.forget?.(known.node, known.entries);
  }

  get isEmpty(): boolean {
    return this.#known.size === 0;
  }

  clear(): void {
    for (const id of [...this.#known.keys()]) this.forget(id, Number.POSITIVE_INFINITY);
  }

  save(): { nextId: number; nodes: SavedNode[] } {
    const nodes: SavedNode[] = [];
    let tried = 0;
    let characters = 0;
    for (const [id, { node, description, lookups }] of this.#known) {
      if (tried++ === MAX_SAVED_NODES) break;
      const saved = node === undefined ? description : this.#fileSystem.describe?.(node);
      if (saved === undefined) continue;
      characters += JSON.stringify(saved).length;
      if (characters > MAX_SAVED_CHARACTERS) break;
      nodes.push([id, lookups, saved]);
    }
    return { nextId: this.#nextId, nodes };
  }

  restore({ nextId, nodes }: { nextId?: unknown; nodes?: unknown }): void {
    checkState(Number.isSafeInteger(nextId) && (nextId as number) > FUSE_ROOT_ID, 'fs: the next node ID');
    checkState(Array.isArray(nodes) && nodes.length <= MAX_SAVED_NODES, 'fs: nodes');
    for (const saved of nodes as readonly unknown[]) {
      checkState(Array.isArray(saved) && saved.length === 3, 'fs: a node');
      const [id, lookups, description] = saved as [unknown, unknown, unknown];
      checkState(
        Number.isSafeInteger(id) && (id as number) > FUSE_ROOT_ID && (id as number) < (nextId as number),
        'fs: a node ID',
      );
      checkState(Number.isSafeInteger(lookups) && (lookups as number) > 0, 'fs: lookups of a node');
      this.#known.set(id as number, { node: undefined, description, lookups: lookups as number, entries: 0 });
    }
    this.#nextId = nextId as number;
  }
}
