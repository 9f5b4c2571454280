import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import {
  checkName,
  isRunning,
  MachineStore,
  newName,
  runDirectory,
} from '../../../src/control/machine-store.js';
import { TsvmError } from '../../../src/errors.js';
import { OwnFolder } from '../../../src/host/own-folder.js';
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

  test('of a machine that has ended is another one, with its log and the command line that made it', () => {
    const store = newStore();
    const start = { words: ['run', '--', 'x'], directory: '/' };
    const folder = store.claim('web', { ...ABOUT, start });
    store.claim('db', ABOUT);
    writeFileSync(folder.logPath, 'said');
    expect(() => store.rename('web', 'old')).toThrow('web runs, and keeps its name so long');
    const end = { kind: 'stopped', exitCode: 130, atMs: 1 } as const;
    folder.write({ ...store.find('web').record, end });
    expect(() => store.rename('web', 'db')).toThrow('name db: there is a machine of that name');
    expect(() => store.rename('web', '../x')).toThrow('not a name for a machine');
    expect(() => store.rename('nobody', 'x')).toThrow("there is no machine 'nobody'");
    store.rename('web', 'old');
    const { folder: renamed, record } = store.find('old');
    expect(record).toMatchObject({ name: 'old', start, end });
    expect(readFileSync(renamed.logPath, 'utf8')).toBe('said');
    expect(store.list().map(({ record }) => record.name)).toEqual(['db', 'old']);
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

test.each(['EMFILE', 'ENFILE', 'EIO'])('a machine that runs is no leftover because of %s', (code) => {
  const store = newStore();
  const folder = store.claim('web', ABOUT);
  const { open } = OwnFolder;
  const opened = vi.spyOn(OwnFolder, 'open').mockImplementation((path, rules) => {
    if (path !== folder.path) return open(path, rules);
    const cause = Object.assign(new Error(`${code}: open`), { code, errno: -1, syscall: 'open' });
    throw new TsvmError('TSVM_FILE', `cannot open ${path}: ${code}`, { cause });
  });
  try {
    for (const look of [() => store.claim('web', ABOUT), () => store.find('web'), () => store.list()])
      expect(look).toThrow(code);
  } finally {
    opened.mockRestore();
  }
  expect(store.find('web').record.end).toBeUndefined();
});

test('a folder without a record is somebody’s for a moment, also if the clock was put back', () => {
  const store = newStore();
  store.claim('other', ABOUT);
  mkdirSync(join(store.directory, 'web'), { mode: 0o700 });
  expect(() => store.claim('web', ABOUT)).toThrow('runs already');
  const later = Date.now() / 1000 + 3600;
  utimesSync(join(store.directory, 'web'), later, later);
  expect(store.claim('web', ABOUT).record?.name).toBe('web');
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

describe('a folder of machines that somebody else made', () => {
  /** Writes what an attacker prepares: a record of a process that is gone, with a field that is a command. */
  function trap(store: MachineStore, victim: string, mode = 0o777): void {
    const folder = join(store.directory, 'web');
    mkdirSync(folder, { recursive: true });
    const record = { version: 1, name: 'web', pid: 999_999_999, pidStart: '1', createdMs: 1, memoryBytes: 1 };
    writeFileSync(
      join(folder, 'machine.json'),
      JSON.stringify({ ...record, cpus: 1, command: [], '$(id)': 1 }),
    );
    writeFileSync(join(folder, 'api.sock'), '');
    writeFileSync(victim, 'mine');
    symlinkSync(victim, join(folder, 'machine.json.new'));
    chmodSync(store.directory, mode);
  }

  test('is refused by whoever only looks, and nothing in it is changed', () => {
    const store = newStore();
    const victim = join(root, 'bashrc');
    trap(store, victim);
    expect(() => store.list()).toThrow('others may write there');
    expect(() => store.find('web')).toThrow('others may write there');
    expect(readFileSync(victim, 'utf8')).toBe('mine');
    expect(existsSync(join(store.directory, 'web/api.sock'))).toBe(true);
  });

  test('of another user is refused (as the superuser)', ({ skip }) => {
    skip(notRoot() !== undefined, notRoot());
    const store = newStore();
    trap(store, join(root, 'bashrc2'), 0o700);
    spawnSync('chown', ['-R', '65534:65534', store.directory]);
    for (const action of [() => store.list(), () => store.find('web'), () => store.claim('new', ABOUT)])
      expect(action).toThrow(expect.objectContaining({ message: expect.stringContaining('another user') }));
  });

  test('is refused if it is a link', () => {
    const target = newStore();
    target.claim('web', ABOUT);
    const link = join(root, 'link-to-machines');
    symlinkSync(target.directory, link);
    expect(() => new MachineStore(link).list()).toThrow('a link');
  });

  test('is no place for records with more than they have, links and pipes', () => {
    const store = newStore();
    const { path } = store.claim('web', ABOUT);
    const file = join(path, 'machine.json');
    const record = JSON.parse(readFileSync(file, 'utf8'));
    for (const change of [
      { more: 1 },
      { pid: 0 },
      { pid: '1' },
      { pidStart: 'x' },
      { command: [1] },
      { end: { kind: 'stopped', exitCode: 1, atMs: 1, more: 1 } },
      { end: { kind: 'other', exitCode: 1, atMs: 1 } },
      { memoryBytes: -1 },
    ]) {
      writeFileSync(file, JSON.stringify({ ...record, ...change }));
      expect(store.list(), JSON.stringify(change)).toEqual([]);
    }
    writeFileSync(`${file}.real`, JSON.stringify(record));
    rmSync(file);
    symlinkSync(`${file}.real`, file);
    expect(store.list()).toEqual([]);
    rmSync(file);
    spawnSync('mkfifo', [file]);
    expect(store.list()).toEqual([]);
  });
});

test('runDirectory() takes no XDG_RUNTIME_DIR of another user’s', () => {
  vi.stubEnv('TSVM_RUN_DIR', '');
  const own = join(root, 'runtime');
  mkdirSync(own, { mode: 0o700 });
  const at = (path: string): string => {
    vi.stubEnv('XDG_RUNTIME_DIR', path);
    return runDirectory();
  };
  expect(at(own)).toBe(join(own, 'tsvm'));
  for (const path of [join(root, 'not-there'), '/proc/1/root/nowhere']) expect(at(path)).not.toContain(path);
  symlinkSync(own, join(root, 'runtime-link'));
  expect(at(join(root, 'runtime-link'))).not.toContain(root);
  chmodSync(own, 0o777);
  expect(at(own)).not.toContain(root);
  vi.unstubAllEnvs();
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
