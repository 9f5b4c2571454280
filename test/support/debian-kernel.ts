/** Debian's own kernel, the one that the rig runs on, with the modules that a virtio disk needs: they are in none of its parts. */
import { copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { must } from './must.js';
import { cachedFor, findCached, uncached } from './test-cache.js';

const NAME = 'debian-kernel';

/** Modules in the order in which they are loaded. */
export const VIRTIO_MODULES = ['virtio_ring', 'virtio', 'virtio_mmio', 'virtio_blk'] as const;

/** Reason why there is none, if there is none. */
export const debianKernelProblem = (): string | undefined => uncached(NAME);

/** Folder with `vmlinux`, and a file `NAME.ko` for each of the modules. In the rig, the one that was made before it started. */
export function debianKernel(): string {
  const found = process.env['TSVM_RIG'] === '1' ? findCached(NAME) : undefined;
  return found ?? make();
}

function make(): string {
  const directory = must('test/rig/prepare').trim();
  const cache = dirname(directory);
  const debs = readdirSync(cache).filter((name) => /^linux-image-.*\.deb$/.test(name));
  const deb = debs.sort().at(-1);
  if (deb === undefined) throw new Error(`${cache} has no package of a kernel`);
  const [, version = ''] = /^linux-image-(.*)_amd64\.deb$/.exec(deb) ?? [];
  return cachedFor(NAME, version.replaceAll('.', '-'), (folder) => {
    mkdirSync(folder);
    copyFileSync(join(directory, 'vmlinux'), join(folder, 'vmlinux'));
    const unpacked = join(folder, 'package');
    must('dpkg', '-x', join(cache, deb), unpacked);
    for (const name of VIRTIO_MODULES) {
      const file = must('find', unpacked, '-name', `${name}.ko`).trim();
      copyFileSync(file, join(folder, `${name}.ko`));
    }
    must('rm', '-r', unpacked);
  });
}
