/** Files that a release changes: scripts/release-files.mjs. */
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VERSION } from '../../src/util/version.js';
import { temporaryDirectory } from '../support/guest.js';

const REPOSITORY = join(import.meta.dirname, '../..');
const FILES = ['package.json', 'package-lock.json', 'src/util/version.ts'];
const folder = temporaryDirectory();
for (const file of FILES) cpSync(join(REPOSITORY, file), join(folder, file));

const textOf = (file: string): string => readFileSync(join(folder, file), 'utf8');
function release(version: string, changelog: string): string {
  writeFileSync(join(folder, 'CHANGELOG.md'), changelog);
  const program = join(REPOSITORY, 'scripts/release-files.mjs');
  return spawnSync(process.execPath, [program, version], { cwd: folder, encoding: 'utf8' }).stderr;
}

test('the version is the same in all files, and a release changes it in all', () => {
  expect(JSON.parse(textOf('package.json')).version).toBe(VERSION);
  expect(
    release('98.0.1', '# Changelog\n\n## [Unreleased]\n\n- new\n\n## [0.0.1] - 2020-01-01\n\n- old\n'),
  ).toBe('');
  for (const file of FILES) expect(textOf(file)).toContain('98.0.1');
  const lock = JSON.parse(textOf('package-lock.json'));
  expect([lock.version, lock.packages[''].version]).toEqual(['98.0.1', '98.0.1']);
  expect(textOf('CHANGELOG.md')).toMatch(
    /^# Changelog\n\n## \[Unreleased\]\n\n## \[98\.0\.1\] - \d{4}-\d\d-\d\d\n\n- new\n\n## \[0\.0\.1\] - 2020-01-01\n\n- old\n$/,
  );
});

test('an older version, and a changelog without news, are refused', () => {
  expect(release('0.0.9', '## [Unreleased]\n\n- new\n')).toMatch(/0\.0\.9 is older than/);
  expect(release('99.0.0', '## [Unreleased]\n\n## [0.0.1]\n\n- old\n')).toMatch(/nothing is unreleased/);
});
