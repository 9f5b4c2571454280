/** The host's own description of itself: the files of /sys, /proc and /dev below a root, `/` but in tests. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

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
}
