/**
 * The guests that `guests/build` made, found by their manifests.
 *
 * `DIRECTORY/NAME-KEY` holds a guest, and the link `DIRECTORY/NAME` names the one that the recipe makes now.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isErrnoError, TsvmError } from '../errors.js';
import { cacheDirectory } from '../host/cache-directory.js';
import { readHostFacts } from '../host/facts.js';
import { removeEntry } from '../host/folder-store.js';
import { type FolderRules, isName, OwnFolder } from '../host/own-folder.js';
import type { HostFacts } from '../kvm/profiles/profile.js';
import { detectProfile } from '../kvm/profiles/registry.js';
import { guestRemedy, installedGuests } from '../util/package-file.js';

/** Rules of the folder of guests: a kernel that somebody else put there would have a guest's secrets. The superuser's guests are for all. */
const RULES: FolderRules = {
  code: 'TSVM_GUEST_BUILD',
  what: 'the folder of guests',
  hint: 'set TSVM_GUEST_DIR to a folder of your own, or with sudo: sudo -H',
  rootsToo: true,
};
const MANIFEST = 'manifest.json';
/** Bound of a manifest, which has the names and versions of what a guest was built from. */
const MAX_MANIFEST_BYTES = 1 << 20;

/** Part of a manifest that tsvm needs; it says more, for people and for comparing builds. */
interface Manifest {
  readonly name: string;
  readonly key: string;
  readonly kernel: string;
  readonly bzImage?: string;
  readonly initramfs: string;
  readonly rootfs?: string;
  readonly version: string;
  readonly cmdline: string;
  readonly discovery: 'acpi' | 'cmdline';
}

/**
 * A guest as fields of a machine's configuration, with absolute paths: `createMachine({ ...guest, command })`.
 *
 * @example
 * ```ts
 * import { createMachine, findGuest } from 'tsvm';
 *
 * const guest = await findGuest();
 * console.log(`Linux ${guest.build.version}`);
 * await using machine = await createMachine({ ...guest, cmdline: `${guest.cmdline} panic=-1` });
 * await machine.start();
 * ```
 */
export interface Guest {
  /** ELF vmlinux. */
  readonly kernel: string;
  /** An initramfs. */
  readonly initrd: string;
  /** The command line that goes with it, without `console=` and what the host profile adds. */
  readonly cmdline: string;
  readonly discovery: 'acpi' | 'cmdline';
  readonly build: GuestBuild;
}

/** Build of a guest: which one it is, and its files besides kernel and initramfs. */
export interface GuestBuild {
  readonly name: string;
  readonly key: string;
  /** The kernel's release. */
  readonly version: string;
  readonly directory: string;
  /** Tells whether it is the one that its recipe makes now. */
  readonly current: boolean;
  /** The same kernel, compressed. Absent from the guest that npm installs. */
  readonly bzImage?: string;
  /** ext4 image of a root file system. Absent from the guest that npm installs. */
  readonly rootfs?: string;
}

/** Command line of a guest for another root: what the guest's own says of its initramfs is not true there. */
export function cmdlineForRoot({ cmdline }: Pick<Guest, 'cmdline'>): string {
  return cmdline.replace(/ ?\brootfstype=ramfs\b/, '');
}

export const DEFAULT_GUEST = 'default';

/** The guest on Debian's own kernel: made in seconds, and taken until the default one is there. */
export const DEBIAN_GUEST = 'debian';

/** Reason not to take the Debian guest on this host by itself; undefined where it boots. */
export function debianGuestProblem(facts: HostFacts = readHostFacts()): string | undefined {
  return detectProfile(facts).name === 'pvm'
    ? 'on kvm_pvm Debian’s kernel does not come to init within minutes'
    : undefined;
}

/** Folder that built guests are kept in: `$TSVM_GUEST_DIR`, else `tsvm/guests` in the user's cache. */
export function guestDirectory(): string {
  return cacheDirectory('TSVM_GUEST_DIR', 'guests');
}

/** Removes a build of the user's own folder of guests. Throws errnos. */
export function removeGuest({ directory }: GuestBuild): void {
  using folder = OwnFolder.open(dirname(directory), RULES);
  if (folder !== undefined) removeEntry(folder, basename(directory), MANIFEST);
}

/** Every guest that was built whole, the current ones first. */
export async function listGuests(): Promise<Guest[]> {
  return shelves()
    .flatMap(guestsOn)
    .sort(
      ({ build: a }, { build: b }) => Number(b.current) - Number(a.current) || a.name.localeCompare(b.name),
    );
}

/**
 * Finds the guest of that name that its recipe makes now; else the one that came with the package. Without a name: the default one, and
 * until that is built the Debian one, if it is built and the host boots it.
 *
 * @throws TsvmError `TSVM_GUEST_BUILD` if it was not built, or lies where others may write.
 */
export async function findGuest(name?: string): Promise<Guest> {
  return findGuestFor(undefined, name);
}

/** Finds the same for a host with `facts`. Default: this host's, which are read only if they decide. */
export function findGuestFor(facts: HostFacts | undefined, name?: string): Guest {
  const named = currentGuest(name ?? DEFAULT_GUEST);
  if (named !== undefined) return named;
  const debian = name === undefined ? currentGuest(DEBIAN_GUEST) : undefined;
  const problem = debian === undefined ? undefined : debianGuestProblem(facts);
  if (debian !== undefined && problem === undefined) return debian;
  throw notBuilt(name ?? DEFAULT_GUEST, problem);
}

function currentGuest(name: string): Guest | undefined {
  for (const shelf of isName(name) ? shelves() : []) {
    const guest = guestsOn(shelf).find(({ build }) => build.current && build.name === name);
    if (guest !== undefined) return guest;
  }
  return undefined;
}

function notBuilt(name: string, problem: string | undefined): TsvmError {
  return new TsvmError(
    'TSVM_GUEST_BUILD',
    `the guest '${name}' has not been built${problem === undefined ? '' : `, and ${problem}`}`,
    { hint: remedyFor(name) },
  );
}

function remedyFor(name: string): string {
  if (name !== DEFAULT_GUEST && name !== DEBIAN_GUEST) return 'tsvm guest list says which are built';
  return `${guestRemedy(name === DEFAULT_GUEST ? undefined : name)}; or name a kernel: \`kernel: 'FILE'\``;
}

/** A folder of guests. */
interface Shelf {
  readonly path: string;
  /** Need of a look: what is in a package (scripts/pack makes it) is as good as the program itself. */
  readonly checked: boolean;
}

function shelves(): readonly Shelf[] {
  const installed = installedGuests();
  return [
    { path: guestDirectory(), checked: true },
    ...(installed === undefined ? [] : [{ path: installed, checked: false }]),
  ];
}

function guestsOn({ path, checked }: Shelf): Guest[] {
  using folder = checked ? OwnFolder.open(path, RULES) : undefined;
  if (checked && folder === undefined) return [];
  const at = (name: string): string => folder?.at(name) ?? join(path, name);
  const read = (name: string): string | undefined => {
    if (folder === undefined) return whenThere(() => readFileSync(join(path, name, MANIFEST), 'utf8'));
    using one = folder.folder(name);
    return one?.read(MANIFEST, MAX_MANIFEST_BYTES);
  };
  const entries = whenThere(() => readdirSync(folder?.self ?? path, { withFileTypes: true })) ?? [];
  return entries.flatMap((entry) => {
    if (!entry.isDirectory()) return []; // the links that name the current ones are not directories
    const text = read(entry.name);
    const manifest = text === undefined ? undefined : parseManifest(text);
    if (manifest === undefined) return []; // a build that goes on, or was broken off
    const { name } = manifest;
    // A package has one guest, in a folder of its name.
    const current = entry.name === name || whenThere(() => readlinkSync(at(name))) === entry.name;
    return [guestOf(manifest, join(path, entry.name), current)];
  });
}

/** Reads something; undefined if it is not there. */
function whenThere<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isErrnoError(error)) return undefined;
    throw error;
  }
}

function guestOf(manifest: Manifest, directory: string, current: boolean): Guest {
  const { name, key, version, cmdline, discovery } = manifest;
  return {
    kernel: join(directory, manifest.kernel),
    initrd: join(directory, manifest.initramfs),
    cmdline,
    discovery,
    build: {
      name,
      key,
      version,
      directory,
      current,
      ...(manifest.bzImage === undefined ? {} : { bzImage: join(directory, manifest.bzImage) }),
      ...(manifest.rootfs === undefined ? {} : { rootfs: join(directory, manifest.rootfs) }),
    },
  };
}

/** Names of the guest, and of files beside the manifest. */
const NAME_FIELDS = ['name', 'key', 'kernel', 'initramfs'] as const;
const OPTIONAL_NAME_FIELDS = ['bzImage', 'rootfs'] as const;
const TEXT_FIELDS = [...NAME_FIELDS, 'version', 'cmdline'] as const;

/** Undefined for a file that is no manifest of this format. */
function parseManifest(text: string): Manifest | undefined {
  let value: Partial<Manifest> | null;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  if (TEXT_FIELDS.some((field) => typeof value[field] !== 'string')) return undefined;
  const names = [...NAME_FIELDS, ...OPTIONAL_NAME_FIELDS.filter((field) => field in value)];
  if (names.some((field) => typeof value[field] !== 'string' || !isName(value[field]))) return undefined;
  // A kernel without ACPI is what the recipes make unless they say otherwise.
  return { ...(value as Manifest), discovery: value.discovery === 'acpi' ? 'acpi' : 'cmdline' };
}
