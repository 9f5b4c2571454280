/** The package as it is published, installed from the registry into a folder of its own: before the rig starts, which reaches none. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './must.js';
import { cachedFor, findCached, uncached } from './test-cache.js';

const NAME = 'package';
/** What is in it, but its guest; from the repository's root, where tests run. */
const CONTENT = ['package.json', 'scripts/pack', 'dist', 'firmware', 'kvm-addon/build/Release', 'docs'];

/** Why there is none. */
export const packageProblem = (): string | undefined => uncached(NAME);

/** Folder of a project that has it in its node_modules. In the rig, the one that was made before it started. */
export function installedPackage(): string {
  const found = process.env['TSVM_RIG'] === '1' ? findCached(NAME) : undefined;
  return found ?? cachedFor(NAME, key(), install);
}

function key(): string {
  const hash = createHash('sha256');
  for (const file of CONTENT.flatMap(filesIn)) hash.update(file).update(readFileSync(file));
  const guests = must('guests/build', 'directory').trim();
  return hash
    .update(readFileSync(join(guests, 'default/manifest.json')))
    .digest('hex')
    .slice(0, 12);
}

function filesIn(path: string): string[] {
  try {
    return readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return [path];
    throw error;
  }
}

function install(folder: string): void {
  mkdirSync(folder);
  const file = must('scripts/pack', folder).trim();
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  must('npm', '--prefix', folder, 'install', '--no-audit', '--no-fund', join(folder, file));
  rmSync(join(folder, file));
}
