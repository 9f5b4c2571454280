/** The guests that `guests/build` made, found by their manifests. */
import { readFile, readdir, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { TsvmError, isErrnoError } from '../errors.js';

/** What of a manifest tsvm needs; it says more, for people and for comparing builds. */
const manifestSchema = z.object({
  name: z.string(),
  key: z.string(),
  kernel: z.string(),
  bzImage: z.string(),
  initramfs: z.string(),
  rootfs: z.string().optional(),
  version: z.string(),
  cmdline: z.string(),
  discovery: z.enum(['acpi', 'cmdline']).default('cmdline'),
});

/** A guest with the absolute paths of its files. */
export interface Guest {
  readonly name: string;
  readonly key: string;
  /** ELF vmlinux. */
  readonly kernel: string;
  readonly bzImage: string;
  readonly initramfs: string;
  /** ext4 image of a root file system. */
  readonly rootfs: string | undefined;
  /** The kernel's release. */
  readonly version: string;
  /** The command line that goes with it, without `console=` and what the host profile adds. */
  readonly cmdline: string;
  readonly discovery: 'acpi' | 'cmdline';
  readonly directory: string;
  /** Whether it is the one that its recipe makes now. */
  readonly current: boolean;
}

export const DEFAULT_GUEST = 'default';

/** Where built guests are kept: `$TSVM_GUEST_DIR`, else `tsvm/guests` in the user's cache. */
export function guestDirectory(): string {
  const { TSVM_GUEST_DIR, XDG_CACHE_HOME } = process.env;
  return TSVM_GUEST_DIR ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tsvm', 'guests');
}

/** Every guest that was built whole, newest recipe first. */
export async function listGuests(): Promise<Guest[]> {
  const root = guestDirectory();
  const guests: Guest[] = [];
  for (const entry of await readdir(root, { withFileTypes: true }).catch(() => [])) {
    if (!entry.isDirectory()) continue;
    const guest = await readGuest(join(root, entry.name));
    if (guest !== undefined) guests.push(guest);
  }
  return guests.sort((a, b) => Number(b.current) - Number(a.current) || a.name.localeCompare(b.name));
}

/**
 * The guest of that name that its recipe makes now.
 *
 * @throws TsvmError `TSVM_GUEST_BUILD` if it was not built.
 */
export async function findGuest(name: string = DEFAULT_GUEST): Promise<Guest> {
  const guest = (await listGuests()).find((candidate) => candidate.name === name && candidate.current);
  if (guest === undefined) {
    throw new TsvmError('TSVM_GUEST_BUILD', `the guest '${name}' has not been built`, {
      hint: 'build it (a few minutes, once): tsvm guest build; or name a kernel: --kernel FILE',
    });
  }
  return guest;
}

/** Removes a built guest. */
export async function removeGuest(guest: Guest): Promise<void> {
  await rm(guest.directory, { recursive: true, force: true });
}

async function readGuest(directory: string): Promise<Guest | undefined> {
  let text: string;
  try {
    text = await readFile(join(directory, 'manifest.json'), 'utf8');
  } catch (error) {
    if (isErrnoError(error)) return undefined; // a build that goes on, or was broken off
    throw error;
  }
  const manifest = manifestSchema.safeParse(parseJson(text));
  if (!manifest.success) return undefined;
  const { data } = manifest;
  const currentKey = await readFile(join(guestDirectory(), `${data.name}.current`), 'utf8').catch(() => '');
  return {
    ...data,
    kernel: join(directory, data.kernel),
    bzImage: join(directory, data.bzImage),
    initramfs: join(directory, data.initramfs),
    rootfs: data.rootfs === undefined ? undefined : join(directory, data.rootfs),
    directory,
    current: currentKey.trim() === data.key,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
