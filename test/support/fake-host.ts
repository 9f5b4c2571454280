/** Hosts that are made of a few files, for what reads /proc, /sys and /etc by a `HostReader`. */
import type { Stats } from 'node:fs';
import type { HostReader, Room } from '../../src/host/host-tree.js';

/** Content by path below the root. */
export type HostFiles = Readonly<Record<string, string>>;

const isIn = (folder: string) => (path: string) => path.startsWith(`${folder}/`);
const plain = (path: string): string => path.replace(/^\//, '');

interface Whole {
  readonly owner?: number;
  readonly mode?: number;
  readonly room?: Room;
}

/** A host of these files, all of them regular and one user's, in memory. A link's content is its target. */
export function fakeHost(
  files: HostFiles,
  { owner = 0, mode = 0o644, room = { freeBytes: 2 ** 40, writable: true } }: Whole = {},
): HostReader {
  const paths = Object.keys(files);
  const text = (path: string): string | undefined => files[plain(path)]?.trim();
  return {
    text,
    number: (path) => (/^-?\d+$/.test(text(path) ?? '') ? Number(text(path)) : undefined),
    names(path) {
      const inside = paths.filter(isIn(plain(path))).map((name) => name.slice(plain(path).length + 1));
      return inside.length === 0 ? undefined : [...new Set(inside.map((name) => name.split('/')[0] ?? ''))];
    },
    stats(path) {
      const isFile = plain(path) in files;
      const isFolder = paths.some(isIn(plain(path)));
      if (!isFile && !isFolder) return undefined;
      return {
        rdev: 0,
        mode,
        uid: owner,
        gid: 0,
        isFile: () => isFile,
        isDirectory: () => isFolder,
        isCharacterDevice: () => false,
        isSymbolicLink: () => false,
      } as Stats;
    },
    link: text,
    room: () => room,
  };
}
