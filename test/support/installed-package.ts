/** The three packages as they are published, installed into a folder of their own, without a registry. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must } from './must.js';
import { cachedFor, findCached, uncached } from './test-cache.js';

const NAME = 'package';
/** Files that they are made of, but the guest; from the repository's root, where tests run. */
const CONTENT = [
  ...['package.json', 'LICENSE', 'README.md', 'scripts', 'dist', 'guests'],
  ...['kvm_addon.node', 'container-launcher', 'agent', 'probe-root'].map(
    (name) => `kvm-addon/build/Release/${name}`,
  ),
];

/** Reason why there is none, if there is none. */
export const packageProblem = (): string | undefined => uncached(NAME);

/** Folder of a project that has them in its node_modules. In the rig, the one that was made before it started. */
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
  const archives = mkdtempSync(join(tmpdir(), 'tsvm-test-'));
  try {
    const files = must('scripts/pack', archives).trim().split('\n');
    mkdirSync(folder);
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const paths = files.map((file) => join(archives, file));
    must('npm', '--prefix', folder, 'install', '--offline', '--no-audit', '--no-fund', ...paths);
  } finally {
    rmSync(archives, { recursive: true, force: true });
  }
}

/** The versions of Node that tsvm supports, as programs. */
export const nodeVersions = (): string[] =>
  ['20', '22', '24'].map((major) => must('test/run/node-versions', 'path', major).trim());
