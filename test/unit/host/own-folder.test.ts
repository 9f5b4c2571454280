/** The way into folders of our own: what is refused, and that nothing behind a link is touched. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { type FolderRules, OwnFolder } from '../../../src/host/own-folder.js';
import { temporaryDirectory } from '../../support/guest.js';
import { notRoot } from '../../support/skip-reasons.js';

const root = temporaryDirectory();
const RULES: FolderRules = { code: 'TSVM_FILE', what: 'the folder', hint: 'take another' };
const SOMEBODY = 65534;
let count = 0;
let path: string;

beforeEach(() => {
  path = join(root, String(count++));
  mkdirSync(path, { mode: 0o700 });
});

const opened = (rules: Partial<FolderRules> = {}): OwnFolder => {
  const folder = OwnFolder.open(path, { ...RULES, ...rules });
  if (folder === undefined) throw new Error('it is not there');
  return folder;
};

describe('OwnFolder.open()', () => {
  test.each([0o770, 0o702, 0o777, 0o720])('refuses a folder of mode %o, with the remedy', (mode) => {
    chmodSync(path, mode);
    expect(() => opened()).toThrow(expect.objectContaining({ hint: `chmod go-w ${path}` }));
  });

  test.each([0o755, 0o750, 0o701])('refuses a secret folder of mode %o, with the remedy', (mode) => {
    chmodSync(path, mode);
    opened()[Symbol.dispose]();
    expect(() => opened({ secret: true })).toThrow(expect.objectContaining({ hint: `chmod 700 ${path}` }));
  });

  test('refuses a link, a file and a FIFO, and has none where there is nothing', () => {
    const [link, file, fifo] = ['link', 'file', 'fifo'].map((name) => join(path, name)) as [
      string,
      string,
      string,
    ];
    symlinkSync(path, link);
    writeFileSync(file, '');
    spawnSync('mkfifo', [fifo]);
    for (const at of [link, file, fifo])
      expect(() => OwnFolder.open(at, RULES)).toThrow('a link, or no directory');
    expect(OwnFolder.open(join(path, 'none'), RULES)).toBeUndefined();
    expect(() => OwnFolder.make(link, RULES)).toThrow('a link, or no directory');
  });

  test('cannot be made where the kernel makes none, and with those above it where it does', () => {
    for (const at of ['/proc/tsvm', '/proc/tsvm/more', join(path, 'file', 'more')]) {
      writeFileSync(join(path, 'file'), '');
      expect(() => OwnFolder.make(at, RULES)).toThrow('cannot make');
    }
    OwnFolder.make(join(path, 'a', 'b', 'c'), RULES)[Symbol.dispose]();
    expect(lstatSync(join(path, 'a')).mode & 0o777).toBe(0o700);
  });

  test('refuses another user’s folder, and takes the superuser’s where it is asked to (as root)', ({
    skip,
  }) => {
    skip(notRoot() !== undefined, notRoot());
    chownSync(path, SOMEBODY, SOMEBODY);
    expect(() => opened()).toThrow(`another user's (uid ${SOMEBODY})`);
    expect(() => opened({ rootsToo: true })).toThrow('another user');
    chmodSync(root, 0o711);
    const others = join(root, 'of-root');
    mkdirSync(others, { mode: 0o755 });
    process.seteuid?.(SOMEBODY);
    try {
      expect(() => OwnFolder.open(others, RULES)).toThrow("another user's (uid 0)");
      OwnFolder.open(others, { ...RULES, rootsToo: true })?.[Symbol.dispose]();
      opened()[Symbol.dispose]();
    } finally {
      process.seteuid?.(0);
    }
  });

  test('leaves no descriptor open when it refuses', () => {
    const before = readdirSync('/proc/self/fd').length;
    chmodSync(path, 0o777);
    for (let i = 0; i < 50; i++) expect(() => opened()).toThrow();
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 10);
  });
});

describe('OwnFolder', () => {
  test('reads files of its own, no longer than they may be', () => {
    using folder = opened();
    folder.write('a', 'text');
    expect([folder.read('a', 4), folder.read('none', 4)]).toEqual(['text', undefined]);
    expect(() => folder.read('a', 3)).toThrow('longer than 3 bytes');
    truncateSync(join(path, 'a'), 2 ** 40);
    expect(() => folder.read('a', 1 << 20)).toThrow('longer than');
  });

  test('reads and opens no link, FIFO, folder, or file that others may write', async () => {
    using folder = opened();
    symlinkSync('/etc/passwd', join(path, 'link'));
    spawnSync('mkfifo', [join(path, 'fifo')]);
    mkdirSync(join(path, 'folder'));
    writeFileSync(join(path, 'open'), 'x');
    chmodSync(join(path, 'open'), 0o666);
    for (const name of ['link', 'fifo', 'folder', 'open']) {
      expect(() => folder.read(name, 100)).toThrow();
      await expect(folder.openFile(name)).rejects.toThrow();
      await expect(folder.openLock(name)).rejects.toThrow();
      expect(() => folder.truncate(name)).toThrow();
    }
  });

  test('writes through no link, whichever name it has', () => {
    using folder = opened();
    const victim = join(root, `victim${count}`);
    writeFileSync(victim, 'mine');
    for (const name of ['a', 'a.new', '.a.new', '.a']) symlinkSync(victim, join(path, name));
    folder.write('a', 'text');
    expect([readFileSync(victim, 'utf8'), folder.read('a', 9)]).toEqual(['mine', 'text']);
    expect(lstatSync(join(path, 'a')).mode & 0o777).toBe(0o600);
  });

  test('removes a folder that its owner may neither read nor change', () => {
    const inner = join(path, 'made/within/inner');
    mkdirSync(inner, { recursive: true });
    writeFileSync(join(inner, 'file'), '');
    for (const [at, mode] of [
      [inner, 0],
      [dirname(inner), 0o500],
      [join(path, 'made'), 0o100],
    ] as const)
      chmodSync(at, mode);
    using folder = opened();
    folder.remove('made');
    expect(readdirSync(path)).toEqual([]);
  });

  test('removes a link and not what it leads to', () => {
    using folder = opened();
    const kept = join(root, `kept${count}`);
    mkdirSync(kept);
    writeFileSync(join(kept, 'x'), '');
    symlinkSync(kept, join(path, 'link'));
    folder.remove('link');
    expect([folder.names(), existsSync(join(kept, 'x'))]).toEqual([[], true]);
  });

  test('stays the folder that was opened when another takes its name', () => {
    using folder = opened();
    spawnSync('mv', [path, `${path}.moved`]);
    mkdirSync(path);
    folder.write('a', 'text');
    expect([readdirSync(path), readdirSync(`${path}.moved`)]).toEqual([[], ['a']]);
  });

  test.each(['', '.', '..', '../x', 'a/b', 'a\0'])('has no file %j', (name) => {
    using folder = opened();
    expect(() => folder.at(name)).toThrow('not a name');
  });
});
