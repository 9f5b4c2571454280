/** Debians, made by debootstrap: once, for it takes half a minute and the network. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './must.js';
import { cached, uncached } from './test-cache.js';

const MINIMAL = 'debian-bookworm';
const SYSTEMD = 'debian-bookworm-systemd';
/** Sparse; a third of it is used. */
const IMAGE_MIB = 1024;

/** Reason why there is none, if there is none. */
export const debianProblem = (): string | undefined => uncached(MINIMAL);

export const systemdProblem = (): string | undefined => uncached(SYSTEMD);

/** Root of the Debian. */
export function debianRoot(): string {
  return cached(MINIMAL, (folder) => debootstrap(folder));
}

/** A Debian with systemd, whose root logs in without a password: a folder, and an ext4 image of it. */
export function debianWithSystemd(): { readonly root: string; readonly image: string } {
  const folder = cached(SYSTEMD, (unfinished) => {
    const root = join(unfinished, 'root');
    mkdirSync(unfinished);
    debootstrap(root, '--include=systemd-sysv,udev,dbus');
    const shadow = join(root, 'etc/shadow');
    writeFileSync(shadow, readFileSync(shadow, 'utf8').replace(/^root:[^:]*:/, 'root::'));
    must('mke2fs', '-q', '-t', 'ext4', '-d', root, join(unfinished, 'root.ext4'), `${IMAGE_MIB}M`);
  });
  return { root: join(folder, 'root'), image: join(folder, 'root.ext4') };
}

function debootstrap(root: string, ...options: string[]): void {
  must('debootstrap', '--variant=minbase', ...options, 'bookworm', root, 'http://deb.debian.org/debian');
}
