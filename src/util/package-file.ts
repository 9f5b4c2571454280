/**
 * Files of tsvm that are not JavaScript: in a clone, or in the three packages that npm installs.
 *
 * | what | in a clone | installed |
 * |---|---|---|
 * | recipes of guests, the command | `guests/`, `dist/bin/` | `tsvm` |
 * | addon, launcher, probe | `kvm-addon/build/Release/` | `@tsvm/linux-x64-gnu` |
 * | the default guest, built | the folder of guests (host/guest-store.ts) | `@tsvm/guest-x64` |
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TsvmError } from '../errors.js';
import { VERSION } from './version.js';

const NATIVE_PACKAGE = '@tsvm/linux-x64-gnu';
const GUEST_PACKAGE = '@tsvm/guest-x64';

/** Absolute path of a file in the folder of tsvm. Holds for dist/util/, dist/bin/ and dist/lib/, which are equally deep. */
export function packageFile(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, ownUrl()));
}

/**
 * Absolute path of the addon, or of a program that is built with it.
 *
 * @throws TsvmError `TSVM_ADDON` if the package that has it is not installed, or in another version.
 */
export function nativeFile(name: string): string {
  if (isClone()) return packageFile(`kvm-addon/build/Release/${name}`);
  const found = installedPackage(NATIVE_PACKAGE);
  if (found?.version === VERSION) return join(found.folder, name);
  const instead = found === undefined ? '' : `, but ${found.version}`;
  throw new TsvmError('TSVM_ADDON', `${NATIVE_PACKAGE} ${VERSION} with ${name} is not installed${instead}`, {
    hint: nativeRemedy(),
  });
}

/** Remedy for a file of {@link nativeFile} that is missing. */
export function nativeRemedy(): string {
  return isClone()
    ? 'build it: npm run build'
    : `install ${NATIVE_PACKAGE} ${VERSION} beside tsvm (npm leaves it out with --omit=optional, and on hosts without glibc: build a clone there)`;
}

/** Folder with the guest that was installed; undefined in a clone, and if there is none. */
export function installedGuests(): string | undefined {
  const found = isClone() ? undefined : installedPackage(GUEST_PACKAGE);
  return found?.version === VERSION ? found.folder : undefined;
}

/** Remedy for a guest that is missing: the default one, or one with a `name`, which no package has. */
export function guestRemedy(name?: string): string {
  const build = `build it (a few minutes, once): tsvm guest build${name === undefined ? '' : ` ${name}`}`;
  return isClone() || name !== undefined
    ? build
    : `install ${GUEST_PACKAGE} ${VERSION} beside tsvm; or ${build}`;
}

const isClone = (): boolean => existsSync(packageFile('kvm-addon'));

/** Optional package, wherever npm, pnpm or yarn put it. */
function installedPackage(name: string): { folder: string; version: string } | undefined {
  let manifest: string;
  try {
    manifest = createRequire(ownUrl()).resolve(`${name}/package.json`);
  } catch {
    return undefined;
  }
  const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
  return { folder: dirname(manifest), version };
}

/** URL of this file. Bundlers leave none to a CommonJS file that has tsvm in it. */
function ownUrl(): string {
  const url: string | undefined = import.meta.url;
  if (url !== undefined) return url;
  throw new TsvmError('TSVM_ADDON', 'tsvm cannot find its files from inside of a bundle', {
    hint: 'leave it out of the bundle: --external:tsvm, or your bundler’s word for that',
  });
}
