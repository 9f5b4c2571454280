/** The host's own description of itself: the files of /sys, /proc and /dev below a root, `/` but in tests. */
import {
  accessSync,
  constants,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** Ways to read a host. */
export type HostReader = Pick<HostTree, 'text' | 'number' | 'names' | 'stats' | 'link' | 'room'>;

export class HostTree {
  readonly #root: string;

  constructor(root = '/') {
    this.#root = root;
  }

  /** Content of a file without the blanks at its ends; undefined if it cannot be read. */
  text(path: string): string | undefined {
    try {
      return readFileSync(join(this.#root, path), 'utf8').trim();
    } catch {
      return undefined; // not there, or not this user's to read: the check says that it does not know
    }
  }

  /** A file that holds one whole number; undefined for anything else. */
  number(path: string): number | undefined {
    const text = this.text(path);
    return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined;
  }

  /** Names in a folder, sorted; undefined if it cannot be read. */
  names(path: string): string[] | undefined {
    try {
      return readdirSync(join(this.#root, path)).sort();
    } catch {
      return undefined;
    }
  }

  /** Permission bits of a file; undefined if it is not there. */
  mode(path: string): number | undefined {
    try {
      return statSync(join(this.#root, path)).mode & 0o7777;
    } catch {
      return undefined;
    }
  }

  /** Facts of a file, or of what a link leads to; of the link itself if that is nothing; undefined if it is not there. */
  stats(path: string): Stats | undefined {
    const at = join(this.#root, path);
    try {
      return statSync(at, { throwIfNoEntry: false }) ?? lstatSync(at, { throwIfNoEntry: false });
    } catch {
      return undefined; // below a folder that this user may not enter
    }
  }

  /** Target of a link; undefined if there is none. */
  link(path: string): string | undefined {
    try {
      return readlinkSync(join(this.#root, path));
    } catch {
      return undefined;
    }
  }

  /** Room where `path` is, or would be made. */
  room(path: string): Room {
    for (let at = join(this.#root, path); ; at = dirname(at)) {
      try {
        const { bavail, bsize } = statfsSync(at);
        return { freeBytes: bavail * bsize, writable: this.#isWritable(at) };
      } catch {
        if (at === dirname(at)) return { freeBytes: 0, writable: false };
      }
    }
  }

  #isWritable(at: string): boolean {
    try {
      accessSync(at, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  }
}

/** Room for this user's files. */
export interface Room {
  readonly freeBytes: number;
  readonly writable: boolean;
}
