/**
 * Writes a version into the files of the current folder that say it, and makes what is unreleased in the changelog a section of that version.
 *
 *   node scripts/release-files.mjs VERSION
 */
import { readFileSync, writeFileSync } from 'node:fs';

const [version] = process.argv.slice(2);
const UNRELEASED = '## [Unreleased]\n';

function edit(path, change) {
  writeFileSync(path, change(readFileSync(path, 'utf8')));
}

function replaceOnce(text, from, to, path) {
  if (text.split(from).length !== 2) throw new Error(`${path}: ${JSON.stringify(from)} is not in it once`);
  return text.replace(from, () => to);
}

const { version: before } = JSON.parse(readFileSync('package.json', 'utf8'));
if (before.localeCompare(version, 'en', { numeric: true }) > 0)
  throw new Error(`${version} is older than ${before}`);

edit('CHANGELOG.md', (text) => {
  const [, rest = ''] = text.split(UNRELEASED);
  const unreleased = rest.split(/^## /m)[0].trim();
  if (unreleased === '') throw new Error('CHANGELOG.md: nothing is unreleased');
  const date = new Date().toISOString().slice(0, 10);
  return replaceOnce(text, UNRELEASED, `${UNRELEASED}\n## [${version}] - ${date}\n`, 'CHANGELOG.md');
});
edit('src/util/version.ts', (text) =>
  replaceOnce(text, `'${before}'`, `'${version}'`, 'src/util/version.ts'),
);
edit('package.json', (text) =>
  replaceOnce(text, `"version": "${before}"`, `"version": "${version}"`, 'package.json'),
);
edit('package-lock.json', (text) => {
  const lock = JSON.parse(text);
  lock.version = version;
  lock.packages[''].version = version;
  return `${JSON.stringify(lock, undefined, 2)}\n`;
});
