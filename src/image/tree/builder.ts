/**
 * Layers on top of each other (OCI image-spec 1.1, layer.md): an entry takes the place of what has its name, a mark removes what layers below
 * gave.
 *
 * Folders on the way to an entry are looked up as in a root of their own: a link is followed, and an absolute one or `..` leads no higher than
 * the root.
 *
 * @spec oci-image-1.1 layer.md  Layers  #yes
 */
import { setImmediate } from 'node:timers/promises';
import { imageError } from '../image-error.js';
import { countEntry, countHeader, type Limits } from '../tar/limits.js';
import { checkName, checkPart, shownName } from '../tar/name.js';
import { type DirectoryNode, type FileNode, MAX_LINKS, PLAIN_FOLDER, type TreeNode } from './tree.js';

/** Beginning of the name of a mark: what follows is a name that is not there any more. */
const MARK = '.wh.';
/** Mark of a directory in which nothing of the layers below is. */
const OPAQUE = '.wh..wh..opq';
/** Bound of the folders that are looked up on the way, by links or not. */
const MAX_STEPS = 1024;
/** Folder whose content is the machine's or the container's. */
const DEVICES = 'dev';
/** Entries that are placed until others of the process have their turn. */
const ENTRIES_AT_ONCE = 64;

/** Entry of a layer, with its name as the archive has it. */
export type LayerEntry =
  | { readonly name: string; readonly kind: 'node'; readonly node: TreeNode }
  | { readonly name: string; readonly kind: 'hard-link'; readonly target: string }
  /** Device, which is left out, with whatever is linked to it. */
  | { readonly name: string; readonly kind: 'device' };

/** Place of a name: its folder, as far as that is there. */
interface Place {
  /** Folders from the root on; the last is the folder of the name, or the lowest above it that is there. */
  readonly folders: DirectoryNode[];
  /** Names of those folders, but of the root. */
  readonly names: string[];
  /** Names of folders that are not there. */
  readonly missing: string[];
  /** Name in the folder; undefined for the root itself. */
  readonly base: string | undefined;
}

async function giveWay(signal: AbortSignal | undefined): Promise<void> {
  await setImmediate();
  signal?.throwIfAborted();
}

export class TreeBuilder {
  readonly #drop: (file: FileNode) => void;
  readonly #limits: Limits;
  /** Paths of devices and of what is in the top `dev`. */
  readonly #leftOut = new Set<string>();
  #root: DirectoryNode = { ...PLAIN_FOLDER, kind: 'directory', children: new Map() };

  /**
   * @param drop - called for a file that has no name any more
   * @param limits - counted down by what is kept besides the entries
   */
  constructor(drop: (file: FileNode) => void, limits: Limits) {
    this.#drop = drop;
    this.#limits = limits;
  }

  get root(): DirectoryNode {
    return this.#root;
  }

  /**
   * Applies a layer. Wherever its marks stand in it, they remove what was there before.
   *
   * @throws TsvmError `TSVM_IMAGE` for an entry that has no place; the reason of `signal`.
   */
  async apply(marks: readonly string[], entries: readonly LayerEntry[], signal?: AbortSignal): Promise<void> {
    for (const [i, mark] of marks.entries()) {
      this.#hide(mark);
      if (i % ENTRIES_AT_ONCE === 0) await giveWay(signal);
    }
    for (const [i, entry] of entries.entries()) {
      this.#add(entry);
      if (i % ENTRIES_AT_ONCE === 0) await giveWay(signal);
    }
  }

  #hide(mark: string): void {
    const { folders, missing, base = '' } = this.#find(mark);
    const folder = folders.at(-1)!;
    if (missing.length > 0) return;
    const name = base.slice(MARK.length);
    for (const gone of base === OPAQUE ? [...folder.children.keys()] : [name]) {
      this.#forget(folder.children.get(gone));
      folder.children.delete(gone);
    }
  }

  #add(entry: LayerEntry): void {
    const place = this.#find(entry.name);
    const { base } = place;
    if (base === undefined) {
      if (entry.kind !== 'node' || entry.node.kind !== 'directory')
        throw imageError('the root of the image is no folder in it');
      this.#root = { ...entry.node, children: this.#root.children };
      return;
    }
    const parts = [...place.names, ...place.missing, base];
    const path = parts.join('/');
    checkName(path);
    // Targets of links on the way are no more than checked as a whole.
    for (const part of place.missing) checkPart(path, part);
    if (entry.kind === 'device' || (parts[0] === DEVICES && parts.length > 1)) this.#leaveOut(entry, path);
    else if (entry.kind === 'node') this.#put(place, base, entry.node);
    else {
      const target = this.#targetOf(entry);
      if (target === undefined) this.#leaveOut(entry, path);
      else this.#put(place, base, target);
    }
  }

  /** File that a hard link leads to; undefined if it was left out. */
  #targetOf({
    name,
    target,
  }: LayerEntry & { kind: 'hard-link' }): Exclude<TreeNode, DirectoryNode> | undefined {
    const { folders, names, missing, base = '' } = this.#find(target);
    const node = missing.length > 0 ? undefined : folders.at(-1)!.children.get(base);
    if (node === undefined && this.#leftOut.has([...names, ...missing, base].join('/'))) return undefined;
    if (node === undefined)
      throw imageError(`${shownName(name)} is a link to ${shownName(target)}, which is not there`);
    if (node.kind === 'directory') throw imageError(`${shownName(name)} is a hard link to a folder`);
    return node;
  }

  #leaveOut(entry: LayerEntry, path: string): void {
    // By a link, a short name has a long path.
    if (!this.#leftOut.has(path)) countHeader(path.length, this.#limits);
    this.#leftOut.add(path);
    if (entry.kind === 'node' && entry.node.kind === 'file') this.#drop(entry.node);
  }

  #put({ folders, missing }: Place, base: string, node: TreeNode): void {
    // Counted first: what it takes the place of may be its only other name, or have that in it.
    if (node.kind !== 'directory') node.names++;
    let folder = folders.at(-1)!;
    for (const name of missing) {
      // One entry takes a hundred of them for granted with a name that no limit counts.
      countEntry(name, 0, this.#limits);
      const made: DirectoryNode = { ...PLAIN_FOLDER, kind: 'directory', children: new Map() };
      this.#replace(folder, name, made);
      folder = made;
    }
    const there = folder.children.get(base);
    if (node.kind === 'directory' && there?.kind === 'directory') {
      folder.children.set(base, { ...node, children: there.children });
    } else {
      this.#replace(folder, base, node);
    }
  }

  #replace(folder: DirectoryNode, name: string, node: TreeNode): void {
    this.#forget(folder.children.get(name));
    folder.children.set(name, node);
  }

  /** Takes a name away from a node, and from all that is in it. */
  #forget(node: TreeNode | undefined): void {
    if (node?.kind === 'directory') for (const child of node.children.values()) this.#forget(child);
    else if (node !== undefined && --node.names === 0 && node.kind === 'file') this.#drop(node);
  }

  /** Looks for the folder of a name. What is no folder on the way is one that is not there: it will be replaced. */
  #find(name: string): Place {
    const parts = partsOf(name);
    for (const part of parts) checkPart(name, part);
    const base = parts.pop();
    const place: Place = { folders: [this.#root], names: [], missing: [], base };
    const rest = parts.reverse();
    let links = 0;
    let steps = 0;
    for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
      if (++steps > MAX_STEPS) throw imageError(`${shownName(name)} leads through too many folders`);
      const link = step(place, part);
      if (link === undefined) continue;
      if (++links > MAX_LINKS) throw imageError(`${shownName(name)} leads through too many links`);
      if (link.startsWith('/')) {
        place.folders.length = 1;
        place.names.length = 0;
      }
      rest.push(...link.split('/').reverse());
    }
    return place;
  }
}

/** Goes a step on the way, and returns the target of a link that is there. */
function step({ folders, names, missing }: Place, part: string): string | undefined {
  if (part === '' || part === '.') return undefined;
  if (part === '..') {
    if (missing.pop() === undefined && names.pop() !== undefined) folders.pop();
    return undefined;
  }
  const child = missing.length === 0 ? folders.at(-1)!.children.get(part) : undefined;
  if (child?.kind === 'link') return child.target;
  if (child?.kind === 'directory') {
    folders.push(child);
    names.push(part);
  } else {
    missing.push(part);
  }
  return undefined;
}

/** Parts of a name, without those that say nothing: `./a//b/../c` is `a/c`. No name leads higher than the root. */
export function partsOf(name: string): string[] {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts;
}

/** Role of a name in its layer: marks are never files, and nothing below one is. */
export function roleOf(name: string): 'entry' | 'mark' | 'nothing' {
  const parts = partsOf(name);
  if (name === '') return 'nothing';
  if (parts.at(-1)?.startsWith(MARK)) return 'mark';
  return parts.some((part) => part.startsWith(MARK)) ? 'nothing' : 'entry';
}
