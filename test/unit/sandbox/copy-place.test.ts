import { expect, test } from 'vitest';
import { copyPath, isFollowed } from '../../../src/sandbox/copy-place.js';

const FILE = { path: 'a/f', isDirectory: false };
const FOLDER = { path: 'a/d', isDirectory: true };

test.each([
  [FILE, 'missing', '/x', '/x'],
  [FILE, 'other', '/x', '/x'],
  [FILE, 'directory', '/x', '/x/f'],
  [FILE, 'directory', '/x/', '/x/f'],
  [FILE, 'directory', '/', '/f'],
  [FOLDER, 'missing', '/x', '/x'],
  [FOLDER, 'missing', '/x/', '/x'],
  [FOLDER, 'directory', '/x', '/x/d'],
  [{ ...FOLDER, path: 'a/d/' }, 'directory', '/x', '/x/d'],
  [{ ...FOLDER, path: 'a/d/.' }, 'directory', '/x', '/x'],
  [{ ...FOLDER, path: '.' }, 'directory', '/x', '/x'],
  [{ ...FOLDER, path: '/' }, 'directory', 'x', 'x'],
  [{ ...FOLDER, path: 'a/..' }, 'directory', 'x', 'x'],
] as const)('%j goes to what is %s, %s: %s', (source, kind, path, to) => {
  expect(copyPath(source, { kind, path })).toBe(to);
});

test.each([
  [FOLDER, 'other', '/x', /^\/x is no directory$/],
  [FILE, 'other', '/x/', /^\/x\/ is no directory$/],
  [FILE, 'missing', '/x/', /^\/x\/ is not there$/],
] as const)('%j is not copied to what is %s, %s', (source, kind, path, message) => {
  expect(() => copyPath(source, { kind, path })).toThrow(message);
});

test('a slash at the end follows a link', () => {
  expect(['a', 'a/', 'a/.', '.', 'a.'].map(isFollowed)).toEqual([false, true, true, true, false]);
});
