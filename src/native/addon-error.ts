/** Causes for which the addon does not load, told apart by the loader's words and the file's head, each with its one remedy. */
import { closeSync, openSync, readSync } from 'node:fs';
import { isErrnoError, TsvmError } from '../errors.js';

export interface AddonFacts {
  /** Node's code: MODULE_NOT_FOUND, ERR_DLOPEN_FAILED. */
  readonly code: string | undefined;
  /** First line of what Node or the loader of shared objects said. */
  readonly said: string;
  readonly path: string;
  readonly file: AddonFile;
}

/** State of the file: `foreign` is for another processor. */
export type AddonFile = 'missing' | 'unreadable' | 'no object' | 'foreign' | 'good';

interface Row {
  readonly id: string;
  applies(facts: AddonFacts): boolean;
  /** One sentence; `anew` is how the addon is made or fetched again. */
  remedy(facts: AddonFacts, anew: string): string;
}

/** Debian packages of the libraries that the addon is linked with. */
const LIBRARY_PACKAGES: Readonly<Record<string, string>> = {
  'libstdc++.so.6': 'libstdc++6',
  'libgcc_s.so.1': 'libgcc-s1',
};
const LIBRARY = /^(\S+): cannot open shared object file: No such file/;
const VERSION = /version [`'](GLIBC|GLIBCXX|CXXABI)_([\d.]+)' not found/;
/** Words of musl's loader, which glibc's does not have. */
const MUSL = /^Error (loading shared library|relocating) /;

/** Causes in the order in which they are tried: the state of the file says more than the loader, which calls a foreign file missing. */
const ROWS: readonly Row[] = [
  {
    id: 'switched-off',
    applies: ({ code }) => code === 'ERR_DLOPEN_DISABLED',
    remedy: () => 'start Node.js without --no-addons, and with --allow-addons if it has --permission',
  },
  {
    id: 'missing',
    applies: ({ file }) => file === 'missing',
    remedy: (_, anew) => anew,
  },
  {
    id: 'permission',
    applies: ({ file, said }) => file === 'unreadable' || /Permission denied/.test(said),
    remedy: ({ path }) => `let this user read it, and enter the folders above it: chmod a+r ${path}`,
  },
  {
    id: 'damaged',
    applies: ({ file }) => file === 'no object',
    remedy: (_, anew) => `the file is damaged: ${anew}`,
  },
  {
    id: 'architecture',
    applies: ({ file, said }) => file === 'foreign' || /wrong ELF class/.test(said),
    remedy: (_, anew) => `the file is for another processor, and was copied from another machine: ${anew}`,
  },
  {
    id: 'mounted-noexec',
    applies: ({ said }) => /failed to map segment|Operation not permitted/.test(said),
    remedy: ({ path }) =>
      `its file system is mounted noexec: mount -o remount,exec "$(findmnt -nro TARGET -T ${path})"`,
  },
  {
    id: 'glibc-too-old',
    applies: ({ said }) => VERSION.exec(said)?.[1] === 'GLIBC',
    remedy: ({ said }) =>
      `this host's C library is too old: use a distribution with glibc ${VERSION.exec(said)?.[2]} or later`,
  },
  {
    id: 'libstdc++-too-old',
    applies: ({ said }) => VERSION.test(said),
    remedy: () => "this host's C++ library is too old: apt-get install libstdc++6 of a later distribution",
  },
  {
    id: 'node-too-old',
    applies: ({ said }) => /\b(napi_|node_api_)\w+/.test(said),
    remedy: () =>
      'this Node.js lacks a part of Node-API: use Node.js 24, or another version from 20.17 or 22.2 on',
  },
  {
    id: 'musl',
    applies: ({ said }) => MUSL.test(said) || /\bld-linux-x86-64\.so/.test(said),
    remedy: () =>
      'this Node.js is for musl (Alpine), and the addon for glibc: use a Debian image, as node:24-bookworm-slim',
  },
  {
    id: 'built-for-musl',
    applies: ({ said }) => /^(libc\.musl-|ld-musl-)\S*: cannot open/.test(said),
    remedy: (_, anew) => `the file is for musl (Alpine), and this host has glibc: ${anew}`,
  },
  {
    id: 'library-missing',
    applies: ({ said }) => LIBRARY.test(said),
    remedy({ said }) {
      const [, library = ''] = LIBRARY.exec(said) ?? [];
      const debianPackage = LIBRARY_PACKAGES[library];
      return debianPackage === undefined ? `install ${library}` : `apt-get install ${debianPackage}`;
    },
  },
  {
    id: 'node-abi',
    applies: ({ said }) => /NODE_MODULE_VERSION|did not self-register/.test(said),
    remedy: (_, anew) => `the file is for another version of Node.js: ${anew}`,
  },
  {
    id: 'unknown',
    applies: () => true,
    remedy: (_, anew) => anew,
  },
];

/** Names of all causes, for the documentation. */
export const ADDON_CAUSE_IDS: readonly string[] = ROWS.map(({ id }) => id);

/** Name and remedy of the one cause that applies. */
export function addonCause(
  facts: AddonFacts,
  anew: string,
): { readonly id: string; readonly remedy: string } {
  const row = ROWS.find(({ applies }) => applies(facts));
  if (row === undefined) throw new Error('the last cause fits every failure');
  return { id: row.id, remedy: row.remedy(facts, anew) };
}

/** The error of an addon that was not loaded, in the loader's words. `anew`: how it is made or fetched again. */
export function addonError(cause: unknown, path: string, anew: string): TsvmError {
  const { code, message = String(cause) } = cause as { code?: string; message?: string };
  const facts = { code, said: message.split('\n')[0] ?? '', path, file: stateOf(path) };
  return new TsvmError('TSVM_ADDON', `the native addon cannot be loaded: ${facts.said}`, {
    hint: addonCause(facts, anew).remedy,
    cause,
  });
}

/** <elf.h>: the magic number, 64 bits, and x86-64 as the machine. */
const ELF_MAGIC = '\x7fELF';
const ELF_CLASS = 4;
const ELFCLASS64 = 2;
const ELF_MACHINE = 18;
const EM_X86_64 = 62;

function stateOf(path: string): AddonFile {
  const head = Buffer.alloc(20);
  try {
    const fd = openSync(path, 'r');
    try {
      if (readSync(fd, head) < head.length) return 'no object';
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return isErrnoError(error) && error.code === 'ENOENT' ? 'missing' : 'unreadable';
  }
  if (head.toString('latin1', 0, ELF_MAGIC.length) !== ELF_MAGIC) return 'no object';
  return head[ELF_CLASS] === ELFCLASS64 && head.readUInt16LE(ELF_MACHINE) === EM_X86_64 ? 'good' : 'foreign';
}
