/**
 * The guests that `guests/build` made, found by their manifests.
 *
 * `DIRECTORY/NAME-KEY` holds a guest, and the link `DIRECTORY/NAME` names the one that the recipe makes now.
 */
import { readdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrnoError, TsvmError } from '../errors.js';
import { cacheDirectory } from './cache-directory.js';
import { packageFile } from './package-file.js';

/** What of a manifest tsvm needs; it says more, for people and for comparing builds. */
interface Manifest {
  readonly name: string;
  readonly key: string;
  readonly kernel: string;
  readonly bzImage: string;
  readonly initramfs: string;
  readonly rootfs: string;
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
  /** Whether it is the one that its recipe makes now. */
  readonly current: boolean;
  /** The same kernel, compressed. */
  readonly bzImage: string;
  /** ext4 image of a root file system. */
  readonly rootfs: string;
}

/** Command line of a guest for another root: what the guest's own says of its initramfs is not true there. */
export function cmdlineForRoot({ cmdline }: Pick<Guest, 'cmdline'>): string {
  return cmdline.replace(/ ?\brootfstype=ramfs\b/, '');
}

export const DEFAULT_GUEST = 'default';

/** Where built guests are kept: `$TSVM_GUEST_DIR`, else `tsvm/guests` in the user's cache. */
export function guestDirectory(): string {
  return cacheDirectory('TSVM_GUEST_DIR', 'guests');
}

/** Every guest that was built whole, the current ones first. */
export async function listGuests(): Promise<Guest[]> {
  const guests = (await Promise.all([guestDirectory(), shippedGuests()].map(guestsIn))).flat();
  return guests.sort(
    ({ build: a }, { build: b }) => Number(b.current) - Number(a.current) || a.name.localeCompare(b.name),
  );
}

async function guestsIn(root: string): Promise<Guest[]> {
  const guests: Guest[] = [];
  for (const entry of await readdir(root, { withFileTypes: true }).catch(() => [])) {
    if (!entry.isDirectory()) continue; // the links that name the current ones are not directories
    const directory = join(root, entry.name);
    const manifest = await readManifest(directory);
    if (manifest === undefined) continue;
    const current = await realpath(join(root, manifest.name)).catch(() => undefined);
    guests.push(guestOf(manifest, directory, current === (await realpath(directory))));
  }
  return guests;
}

/**
 * The guest of that name that its recipe makes now; else the one that came with the package.
 *
 * @throws TsvmError `TSVM_GUEST_BUILD` if it was not built.
 */
export async function findGuest(name: string = DEFAULT_GUEST): Promise<Guest> {
  for (const root of [guestDirectory(), shippedGuests()]) {
    const directory = await realpath(join(root, name)).catch(() => undefined);
    const manifest = directory === undefined ? undefined : await readManifest(directory);
    if (directory !== undefined && manifest !== undefined) return guestOf(manifest, directory, true);
  }
  throw new TsvmError('TSVM_GUEST_BUILD', `the guest '${name}' has not been built`, {
    hint: 'build it (a few minutes, once): tsvm guest build; or name a kernel: --kernel FILE',
  });
}

/** In the package as it is published (scripts/pack); not in the repository. */
function shippedGuests(): string {
  return packageFile('guests/built');
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
      bzImage: join(directory, manifest.bzImage),
      rootfs: join(directory, manifest.rootfs),
    },
  };
}

async function readManifest(directory: string): Promise<Manifest | undefined> {
  let text: string;
  try {
    text = await readFile(join(directory, 'manifest.json'), 'utf8');
  } catch (error) {
    if (isErrnoError(error)) return undefined; // a build that goes on, or was broken off
    throw error;
  }
  return parseManifest(text);
}

const TEXT_FIELDS = [
  'name',
  'key',
  'kernel',
  'bzImage',
  'initramfs',
  'rootfs',
  'version',
  'cmdline',
] as const;

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
  // A kernel without ACPI is what the recipes make unless they say otherwise.
  return { ...(value as Manifest), discovery: value.discovery === 'acpi' ? 'acpi' : 'cmdline' };
}
