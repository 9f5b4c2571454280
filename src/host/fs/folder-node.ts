/** A file, folder or link of a share, as long as the guest knows it or something below it. */
import { S_IFDIR, S_IFLNK, S_IFREG } from '../../util/file-mode.js';
import type { Descriptor, FolderFacts } from './folder-io.js';

/** A name of a node, in a folder that the guest knows or knew. */
export interface Place {
  readonly parent: FolderNode;
  readonly name: string;
}

/** Names that are remembered of a file with hard links. The guest that removes one goes on with another. */
const MAX_PLACES = 2;

export class FolderNode {
  readonly key: string;
  readonly type: number;
  readonly bornNs: bigint;
  readonly ino: bigint;
  /** Places where it was seen, last first. None for the shared folder itself, and for what has no name that is known. */
  readonly places: Place[] = [];
  descriptor: Descriptor | undefined;
  /** Files that the guest has open of it, if it ever had any: it is found by these when no name of it is known any more. */
  opened: Set<Descriptor> | undefined;
  /** Says that it has no name on the host any more: its descriptor is all there is of it. */
  isPinned = false;
  /** Entries of it that were handed out and not given back. */
  entries = 0;
  /** Places of other nodes in it. */
  children = 0;
  /** Calls that need it. */
  users = 0;

  constructor(facts: FolderFacts) {
    this.key = facts.key;
    this.type = facts.type;
    this.bornNs = facts.bornNs;
    this.ino = facts.attributes.ino;
  }

  get isFile(): boolean {
    return this.type === S_IFREG;
  }

  get isFolder(): boolean {
    return this.type === S_IFDIR;
  }

  get isLink(): boolean {
    return this.type === S_IFLNK;
  }

  /** Says whether the facts are this file's, and not those of one that got its inode number after it. */
  is(facts: FolderFacts): boolean {
    return facts.key === this.key && facts.type === this.type && facts.bornNs === this.bornNs;
  }

  isAt(parent: FolderNode, name: string): boolean {
    const [first] = this.places;
    return first !== undefined && first.parent === parent && first.name === name;
  }

  /** Notes a name. Returns the parents that it is not noted in any more. */
  addPlace(parent: FolderNode, name: string): FolderNode[] {
    const left = this.removePlace(parent, name);
    this.places.unshift({ parent, name });
    parent.children++;
    // A folder has one name.
    return [...left, ...this.#cutPlaces(this.isFolder ? 1 : MAX_PLACES)];
  }

  removePlace(parent: FolderNode, name: string): FolderNode[] {
    const at = this.places.findIndex((place) => place.parent === parent && place.name === name);
    return at < 0 ? [] : leave(this.places.splice(at, 1));
  }

  removePlaces(): FolderNode[] {
    return this.#cutPlaces(0);
  }

  #cutPlaces(count: number): FolderNode[] {
    return leave(this.places.splice(count));
  }
}

function leave(places: readonly Place[]): FolderNode[] {
  return places.map(({ parent }) => {
    parent.children--;
    return parent;
  });
}
