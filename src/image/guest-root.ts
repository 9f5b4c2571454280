/** Root of a guest that tsvm builds, as a directory: what a command sees in such a machine, for one on the host's kernel. */
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type CpioEntry, readCpio } from '../boot/cpio.js';
import { unpackInitrd } from '../boot/unpack-initrd.js';
import { runXz } from '../host/process/program-filter.js';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../util/file-mode.js';
import { MIB } from '../util/units.js';
import type { Blob } from './blob.js';
import { imageError } from './image-error.js';
import { outputOf } from './program.js';
import { LIMITS } from './tar/limits.js';
import type { Extent } from './tar/sparse.js';
import { type LayerEntry, TreeBuilder } from './tree/builder.js';
import { DirectorySink } from './tree/directory-sink.js';
import { PLAIN_FOLDER, type TreeNode } from './tree/tree.js';

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
  const archives = await unpackInitrd(await initramfs.read(MAX_INITRAMFS_BYTES), runXz, MAX_INITRAMFS_BYTES);
  const entries = archives.flatMap((archive) => [...readCpio(archive)]);
  if (!entries.some(({ path }) => path === BUSYBOX)) {
    throw imageError(
      `${initramfs.path}: there is no ${BUSYBOX} in it`,
      'build the guest again: tsvm guest build',
    );
  }
  await using sink = new DirectorySink(directory);
  const tree = new TreeBuilder((file) => sink.drop(file), { ...LIMITS });
  const nodes = entries.flatMap((entry) => layerEntryOf(entry));
  for (const { node, data } of nodes) if (node.kind === 'file') await sink.data(node, wholeOf(data));
  await tree.apply([], nodes);
  await sink.finish(tree.root);
  const busybox = { name: join(directory, BUSYBOX), debianPackage: 'busybox-static' };
  const applets = await outputOf(busybox, ['--list'], (complaint) => imageError(`${BUSYBOX}: ${complaint}`));
  for (const applet of applets.trim().split('\n')) {
    if (!APPLET.test(applet)) throw imageError(`${BUSYBOX}: '${applet}' is no name of a program`);
    if (applet !== 'busybox' && applet !== SHELL) symlinkSync('busybox', join(directory, 'bin', applet));
  }
}

type GuestEntry = LayerEntry & { kind: 'node'; data: Uint8Array };

/** Devices are left out: a container has its own. */
function layerEntryOf({ path, mode, data = new Uint8Array() }: CpioEntry): GuestEntry[] {
  const facts = { ...PLAIN_FOLDER, mode: mode & PERMISSIONS };
  const entry = (node: TreeNode): GuestEntry[] => [{ name: bytesOf(path), kind: 'node', node, data }];
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return entry({ ...facts, kind: 'directory', children: new Map() });
    case S_IFREG:
      return entry({ ...facts, kind: 'file', names: 0, sizeBytes: data.length });
    case S_IFLNK:
      return entry({ ...facts, kind: 'link', names: 0, target: Buffer.from(data).toString('latin1') });
    default:
      return [];
  }
}

const bytesOf = (path: string): string => Buffer.from(path).toString('latin1');

async function* wholeOf(bytes: Uint8Array): AsyncGenerator<Extent> {
  yield { offset: 0, bytes };
}
