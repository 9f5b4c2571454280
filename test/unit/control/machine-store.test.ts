import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkName, isRunning, MachineStore, newName } from '../../../src/control/machine-store.js';
import { temporaryDirectory } from '../../support/guest.js';
import { notRoot } from '../../support/skip-reasons.js';

const root = temporaryDirectory();
const ABOUT = { memoryBytes: 1, cpus: 1, command: [] };
let stores = 0;
const newStore = (): MachineStore => new MachineStore(join(root, String(stores++)));

test.each(['a', 'web', 'A-1.b_c', newName(), 'x'.repeat(63)])('%s is a name', (name) => checkName(name));
test.each(['', '.', '..', '.a', '-a', 'a/b', 'a b', 'ä', 'a\n', 'x'.repeat(64)])('%j is none', (name) =>
  expect(() => checkName(name)).toThrow('not a name for a machine'),
);

describe('a name', () => {
  test('is its owner’s while it runs, in folders that nobody else reads', () => {
    const store = newStore();
    const folder = store.claim('web', ABOUT);
    expect(() => store.claim('web', ABOUT)).toThrow('runs already');
    expect(store.list().map(({ record }) => record.name)).toEqual(['web']);
    expect([store.directory, folder.path].map((path) => statSync(path).mode & 0o777)).toEqual([0o700, 0o700]);
    expect(statSync(join(folder.path, 'machine.json')).mode & 0o777).toBe(0o600);
  });

  test('is free again after the end, and what was there is gone', () => {
    const store = newStore();
    const folder = store.claim('web', ABOUT);
    writeFileSync(folder.logPath, 'old');
    folder.write({ ...store.find('web').record, end: { kind: 'stopped', exitCode: 130, atMs: 1 } });
    expect(isRunning(store.find('web').record)).toBe(false);
    store.claim('web', ABOUT);
    expect([existsSync(folder.logPath), readdirSync(store.directory)]).toEqual([false, ['web']]);
  });

  test('of a process that is gone is marked as lost, whoever has its number now', () => {
    const store = newStore();
    const folder = store.claim('web', ABOUT);
    writeFileSync(folder.socketPath, '');
    folder.write({ ...store.find('web').record, pidStart: '1' });
    expect(store.find('web').record.end).toMatchObject({ kind: 'lost', exitCode: 137 });
    expect(existsSync(folder.socketPath)).toBe(false);
    expect(folder.record?.end?.kind).toBe('lost');
    store.claim('web', ABOUT);
    expect(store.find('web').record.end).toBeUndefined();
  });

  test('taken by somebody who was killed before the record was written is free after some seconds', () => {
    const store = newStore();
    store.claim('other', ABOUT);
    const path = join(store.directory, 'web');
    mkdirSync(path);
    expect(() => store.claim('web', ABOUT)).toThrow('runs already');
    utimesSync(path, 1, 1);
    store.claim('web', ABOUT);
  });

  test('that nobody has is said so', () => {
    const store = newStore();
    expect(() => store.find('web')).toThrow("there is no machine 'web'");
    expect(() => store.find('../web')).toThrow('there is no machine');
    expect(store.list()).toEqual([]);
  });
});

test('a damaged record is no machine, and no error', () => {
  const store = newStore();
  const { path } = store.claim('web', ABOUT);
  writeFileSync(join(path, 'machine.json'), '{');
  store.claim('other', ABOUT);
  expect(store.list().map(({ record }) => record.name)).toEqual(['other']);
});

test('a folder that others may write to is refused', () => {
  const store = newStore();
  mkdirSync(store.directory);
  chmodSync(store.directory, 0o777);
  expect(() => store.claim('web', ABOUT)).toThrow('others may write there');
});

test('a path that cannot be is said with its remedy', () => {
  writeFileSync(join(root, 'file'), '');
  expect(() => new MachineStore(join(root, 'file/tsvm')).claim('web', ABOUT)).toThrow(
    /cannot make .*not a directory/,
  );
});

test('a full disk costs the log, not the record of the end (as the superuser)', ({ skip }) => {
  skip(notRoot() !== undefined, notRoot());
  const disk = join(root, 'full');
  mkdirSync(disk);
  expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=32k', 'tmpfs', disk]).status).toBe(0);
  try {
    const store = new MachineStore(join(disk, 'tsvm'));
    const folder = store.claim('web', ABOUT);
    for (const path of [folder.logPath, join(disk, 'rest')]) {
      try {
        writeFileSync(path, Buffer.alloc(64 << 10));
      } catch {
        // It is full now.
      }
    }
    expect(() => store.claim('other', ABOUT)).toThrow(/cannot (write to|make) .*no space left/);
    expect(readdirSync(store.directory)).toEqual(['web']);
    folder.writeEnd({ kind: 'stopped', exitCode: 130, atMs: 1 });
    expect(store.find('web').record.end?.kind).toBe('stopped');
  } finally {
    spawnSync('umount', [disk]);
  }
});
