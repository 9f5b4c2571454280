/** Root of a guest that tsvm builds, as a directory: what a command sees in such a machine, for one on the host's kernel. */
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type CpioEntry, readCpio } from '../boot/cpio.js';
import { unpackInitrd } from '../boot/unpack-initrd.js';
import { runXz } from '../host/program-filter.js';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../util/file-mode.js';
import { MIB } from '../util/units.js';
import type { Blob } from './blob.js';
import { imageError } from './image-error.js';
import { outputOf } from './program.js';

/** Bound of an initramfs of ours, which has 2 MiB. */
const MAX_INITRAMFS_BYTES = 256 * MIB;
const PERMISSIONS = 0o7777;
const BUSYBOX = 'bin/busybox';
const SHELL = 'sh';
const APPLET = /^[\w.[][\w.[-]*$/;

/**
 * Unpacks a guest's initramfs into a directory, and makes a link for each applet of its busybox: in a machine, init runs those.
 *
 * @throws TsvmError `TSVM_IMAGE` if it holds no busybox.
 */
export async function unpackGuest(initramfs: Blob, directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const archives = await unpackInitrd(await initramfs.read(MAX_INITRAMFS_BYTES), runXz, MAX_INITRAMFS_BYTES);
  const entries = archives.flatMap((archive) => [...readCpio(archive)]);
  if (!entries.some(({ path }) => path === BUSYBOX)) {
    throw imageError(
      `${initramfs.path}: there is no ${BUSYBOX} in it`,
      'build the guest again: tsvm guest build',
    );
  }
  const folders = new Set(['.']);
  for (const entry of entries) {
    // Below a folder of the archive's own, and no link.
    if (!folders.has(dirname(entry.path)))
      throw imageError(`${entry.path}: it is in no folder of the guest’s`);
    if ((entry.mode & S_IFMT) === S_IFDIR) folders.add(entry.path);
    put(entry, directory);
  }
  const busybox = { name: join(directory, BUSYBOX), debianPackage: 'busybox-static' };
  const applets = await outputOf(busybox, ['--list'], (complaint) => imageError(`${BUSYBOX}: ${complaint}`));
  for (const applet of applets.trim().split('\n')) {
    if (!APPLET.test(applet)) throw imageError(`${BUSYBOX}: '${applet}' is no name of a program`);
    if (applet !== 'busybox' && applet !== SHELL) symlinkSync('busybox', join(directory, 'bin', applet));
  }
}

/** Devices are left out: a container has its own. */
function put({ path, mode, data = new Uint8Array() }: CpioEntry, directory: string): void {
  if (path.split('/').includes('..')) throw imageError(`${path}: a path of the guest’s that leaves its root`);
  const at = join(directory, path);
  switch (mode & S_IFMT) {
    case S_IFDIR:
      mkdirSync(at);
      break;
    case S_IFREG:
      writeFileSync(at, data, { flag: 'wx' });
      break;
    case S_IFLNK:
      symlinkSync(Buffer.from(data), at);
      return;
    default:
      return;
  }
  chmodSync(at, mode & PERMISSIONS);
}
