/**
 * Manifests and notices of the three packages.
 *
 *   node scripts/package-manifests.mjs FOLDER GUEST-MANIFEST GLIBC
 *
 * FOLDER has a folder for each, GUEST-MANIFEST is what guests/build wrote, and GLIBC the version in busybox, as Debian says it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, guestManifest, glibc] = process.argv.slice(2);
const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));
const writeJson = (path, value) => writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`);

const {
  private: _,
  scripts,
  devDependencies,
  overrides,
  binary,
  ...own
} = readJson(join(import.meta.dirname, '../package.json'));
const { version, repository, os, cpu } = own;
/** Equal in all three. */
const shared = { version, type: 'module', repository, os, cpu };

const esModule = { types: './dist/lib/index.d.ts', default: './dist/lib/index.js' };
writeJson(join(folder, 'tsvm/package.json'), {
  ...own,
  exports: {
    '.': {
      // One instance for import and require, where require takes ES modules (Node 20.19, 22.12).
      'module-sync': esModule,
      import: esModule,
      require: { types: './dist/bin/index.d.cts', default: './dist/bin/index.cjs' },
    },
    './package.json': './package.json',
  },
  optionalDependencies: { '@tsvm/linux-x64-gnu': version, '@tsvm/guest-x64': version },
});

writeJson(join(folder, 'linux-x64-gnu/package.json'), {
  name: '@tsvm/linux-x64-gnu',
  description: 'The native parts of tsvm for x86-64 Linux with glibc',
  license: own.license,
  ...shared,
  libc: ['glibc'],
  preferUnplugged: true,
});
writeFileSync(
  join(folder, 'linux-x64-gnu/README.md'),
  'The native parts of [tsvm](https://www.npmjs.com/package/tsvm): its addon, and two programs. Install `tsvm`, which asks for it.\n',
);

const { bzImage, rootfs, systemMap, init, files, ...guest } = readJson(guestManifest);
const kept = [guest.kernel, guest.initramfs, guest.config];
writeJson(join(folder, 'guest-x64/default/manifest.json'), {
  ...guest,
  files: Object.fromEntries(kept.map((name) => [name, files[name]])),
});
writeJson(join(folder, 'guest-x64/package.json'), {
  name: '@tsvm/guest-x64',
  description: 'The default guest of tsvm: a Linux kernel, and an initramfs with busybox',
  license: 'SEE LICENSE IN NOTICE',
  ...shared,
  preferUnplugged: true,
});
const debian = (input) => guest.inputs[input].split(' ').find((word) => /^(\d+:)?\d+\./.test(word));
/** Version of the source of a Debian package: rebuilt packages have a suffix. */
const source = (binary) => binary.replace(/\+b\d+$/, '');
const snapshot = (name, of) => `https://snapshot.debian.org/package/${name}/${of.replace(/^\d+:/, '')}/`;
const linux = debian('kernel: source');
const busybox = source(debian('initramfs: busybox'));
const libc = /glibc \(= ([^)]+)\)/.exec(glibc)?.[1];
if (libc === undefined) throw new Error(`Debian does not say which glibc is in busybox: ${glibc}`);
const notice = `The default guest of tsvm is built from other people's work, under its own licences:

- default/vmlinux: Linux, GPL-2.0 with the syscall note (licenses/linux-source-6.12, licenses/GPL-2).
  Source: Debian's linux ${linux}, ${snapshot('linux', linux)},
  with the patches in guests/kernel/default of the package tsvm ${version}, configured as default/config says.
- default/initramfs.cpio: busybox, GPL-2.0 (licenses/busybox-static, licenses/GPL-2), unchanged from Debian's busybox-static.
  Source: Debian's busybox ${busybox}, ${snapshot('busybox', busybox)}
- the same file: the GNU C library, LGPL-2.1 (licenses/libc6, licenses/LGPL-2.1), which is linked into busybox.
  Source: Debian's glibc ${libc}, ${snapshot('glibc', libc)}
- the same file: tsvm's init and agent, Apache-2.0. Source: guests/init and guests/agent of the package tsvm ${version}.

guests/build of the package tsvm makes both files again from these sources; default/manifest.json has the sums of all that went in.
`;
writeFileSync(join(folder, 'guest-x64/NOTICE'), notice);
writeFileSync(
  join(folder, 'guest-x64/README.md'),
  'The default guest of [tsvm](https://www.npmjs.com/package/tsvm). Install `tsvm`, which asks for it. NOTICE says what it is made from.\n',
);
