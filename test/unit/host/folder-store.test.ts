/** Entries that appear and disappear whole, and what is left of them by a process that was killed. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { discard, removeEntry, showEntry, sweep, unfinishedName } from '../../../src/host/folder-store.js';
import { OwnFolder } from '../../../src/host/own-folder.js';
import { temporaryDirectory } from '../../support/guest.js';

let directory: string;
let store: OwnFolder;
beforeEach(() => {
  directory = join(temporaryDirectory(), 'store');
  store = OwnFolder.make(directory, { code: 'TSVM_FILE', what: 'a folder', hint: 'none' });
});
afterEach(() => store[Symbol.dispose]());

function put(name: string): void {
  mkdirSync(join(directory, name));
  writeFileSync(join(directory, name, 'a'), name);
}
const names = (): string[] => readdirSync(directory).sort();

test('showEntry() shows what was made, or leaves what another process made', () => {
  const first = unfinishedName(store);
  const second = unfinishedName(store);
  put(first);
  put(second);
  showEntry(store, first, 'x');
  showEntry(store, second, 'x');
  discard(store, second);
  expect(names()).toEqual(['x']);
  expect(store.folder('x')?.read('a', 1000)).toBe(first);
  expect(() => showEntry(store, 'nothing', 'y')).toThrow('ENOENT');
});

test('removeEntry() tells whether there was one', () => {
  put('x');
  expect([removeEntry(store, 'x'), removeEntry(store, 'x')]).toEqual([true, false]);
  expect(names()).toEqual([]);
});

test('removeEntry() has the entry out of sight before it removes anything of it', () => {
  put('x');
  const looks = store.remove.bind(store);
  let seen: boolean | undefined;
  store.remove = (name) => {
    seen = existsSync(join(directory, 'x'));
    looks(name);
  };
  removeEntry(store, 'x');
  expect(seen).toBe(false);
});

test('removeEntry() removes the keystone first where an entry cannot be renamed', () => {
  put('x');
  store.rename = () => {
    throw Object.assign(new Error('EXDEV'), { code: 'EXDEV', errno: -18, syscall: 'rename' });
  };
  const removed: string[] = [];
  const remove = store.remove.bind(store);
  store.remove = (name) => {
    removed.push(`${name} ${existsSync(join(directory, 'x/a'))}`);
    remove(name);
  };
  expect(removeEntry(store, 'x', 'a')).toBe(true);
  expect(removed).toEqual(['x false']);
  expect(names()).toEqual([]);
});

describe('sweep()', () => {
  test('removes what was being removed, and what a process that has ended had begun', () => {
    const { pid } = spawnSync('true');
    for (const name of ['.removed-x-1', `.unpacking-a-${pid}`, `.unpacking-b-${process.pid}`, 'x', '.other'])
      put(name);
    sweep(store);
    expect(names()).toEqual(['.other', `.unpacking-b-${process.pid}`, 'x']);
  });
});
