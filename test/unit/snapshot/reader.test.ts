/** Folders that openSnapshot() takes, and those that it refuses: damaged, foreign and hostile ones. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { TsvmError } from '../../../src/errors.js';
import type { FilePiece, Ram } from '../../../src/kvm/ram.js';
import { MANIFEST_NAME, MAX_MANIFEST_BYTES, SNAPSHOT_FORMAT } from '../../../src/snapshot/format.js';
import { checkManifest, openSnapshot } from '../../../src/snapshot/reader.js';
import { printable } from '../../../src/util/printable.js';
import { PAGE_BYTES } from '../../../src/util/units.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';
import { openFiles } from '../../support/scratch-addon.js';
import {
  editManifest,
  type LooseSnapshot,
  memoryFile,
  readSnapshot,
  saveFake,
  writeManifest,
} from '../../support/snapshots.js';

const PAGES = 16;
const root = temporaryDirectory();
let folders = 0;
let directory: string;

const bytes = Uint8Array.from({ length: PAGES * PAGE_BYTES }, (_, i) => 1 + (i % 251));

beforeEach(async () => {
  directory = join(root, `snapshot${++folders}`);
  await saveFake(directory, bytes, [
    { first: 1, count: 2 },
    { first: 8, count: 3 },
  ]);
});

async function refusal(path: string): Promise<TsvmError> {
  const outcome = await openSnapshot(path).then(
    ({ memory }) => {
      memory.close();
      return 'it was opened';
    },
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(TsvmError);
  const error = outcome as TsvmError;
  expect(error.code).toBe('TSVM_SNAPSHOT');
  expect(error.message).not.toContain('\n');
  expect(error.hint).toBeTruthy();
  expect(error.message).toContain(path);
  return error;
}

/** Files that this file's tests have open: others run in the same process. */
const openHere = (): string[] => openFiles().filter((path) => path.startsWith(`${root}/`));

/** Flips one bit of the byte at `offset`. */
function flip(path: string, offset: number): void {
  const content = readFileSync(path);
  content[offset]! ^= 1;
  writeFileSync(path, content);
}

test('openSnapshot() hands out the pages of the file at their places', async () => {
  const { memory, snapshot } = await openSnapshot(directory);
  const pieces: FilePiece[] = [];
  memory.mapInto({ mapFiles: (given: FilePiece[]) => pieces.push(...given) } as unknown as Ram);
  expect(pieces).toEqual([
    { fd: expect.any(Number), first: 1, count: 2, fileOffset: PAGE_BYTES },
    { fd: expect.any(Number), first: 8, count: 3, fileOffset: 8 * PAGE_BYTES },
  ]);
  expect(snapshot.memory.bytes).toBe(bytes.length);
  memory.close();
  memory.close();
});

test('openSnapshot() takes a folder that was copied, having computed its checksum', async () => {
  const copy = `${directory}-copy`;
  cpSync(directory, copy, { recursive: true });
  (await openSnapshot(copy)).memory.close();
});

describe('openSnapshot() refuses', () => {
  test('a folder that does not exist, is empty, or is a file', async () => {
    expect((await refusal(join(root, 'none'))).message).toMatch(
      /is not a snapshot: machine.json: no such file/,
    );
    const empty = join(root, 'empty');
    mkdirSync(empty, { recursive: true });
    await refusal(empty);
    const file = join(root, 'file');
    writeFileSync(file, '');
    await refusal(file);
    await refusal('a\0b');
  });

  test.each([
    ['nothing', ''],
    ['no JSON', 'machine'],
    ['null', 'null'],
    ['a number', '7'],
    ['a string', '"x"'],
    ['a list', '[]'],
    ['an empty object', '{}'],
    ['format 0', '{"format":0}'],
    ['format "1"', '{"format":"1"}'],
    ['no snapshot', '{"format":1,"checksum":""}'],
    ['bytes that are no UTF-8', Buffer.from([0xff, 0xfe, 0x80])],
  ])('a machine.json that holds %s', async (_name, content) => {
    writeFileSync(join(directory, MANIFEST_NAME), content);
    await refusal(directory);
  });

  test('a format of the future, naming both', async () => {
    const path = join(directory, MANIFEST_NAME);
    writeFileSync(path, readFileSync(path, 'utf8').replace(`"format":${SNAPSHOT_FORMAT}`, '"format":99'));
    expect((await refusal(directory)).message).toMatch(/it has format 99, and this tsvm reads format 2/);
  });

  test('any flipped byte of machine.json', async () => {
    const path = join(directory, MANIFEST_NAME);
    const good = readFileSync(path);
    expect(checkManifest(directory, good.toString()).snapshot.tsvm).toBe('0.0.0');
    for (let at = 0; at < good.length - 1; at++) {
      const bad = Buffer.from(good);
      bad[at]! ^= 1;
      // A file for each takes twenty seconds on a busy machine.
      expect(() => checkManifest(directory, bad.toString()), `byte ${at}`).toThrow(TsvmError);
      if (at % 100 !== 0) continue;
      writeFileSync(path, bad);
      await refusal(directory);
    }
  });

  test('a machine.json that was cut', async () => {
    const path = join(directory, MANIFEST_NAME);
    const good = readFileSync(path);
    for (let length = 0; length < good.length - 2; length += 7) {
      writeFileSync(path, good.subarray(0, length));
      await refusal(directory);
    }
  });

  test('a machine.json that is too long', async () => {
    truncateSync(join(directory, MANIFEST_NAME), MAX_MANIFEST_BYTES + 1);
    expect((await refusal(directory)).message).toMatch(/bytes long/);
  });

  test('a machine.json that nests without end', async () => {
    const depth = 200_000;
    writeManifest(directory, `${'['.repeat(depth)}${']'.repeat(depth)}`);
    await refusal(directory);
  });

  test('a missing memory file', async () => {
    rmSync(memoryFile(directory));
    expect((await refusal(directory)).message).toMatch(/memory file .* cannot be opened: no such file/);
  });

  test('a memory file that was cut or grew', async () => {
    truncateSync(memoryFile(directory), bytes.length - 1);
    expect((await refusal(directory)).message).toMatch(/is 65535 bytes long, not 65536/);
    appendFileSync(memoryFile(directory), 'xy');
    await refusal(directory);
  });

  test.each([
    ['the first page', PAGE_BYTES],
    ['the last byte', 11 * PAGE_BYTES - 1],
  ])('a flipped bit of memory in %s, copied or not', async (_name, offset) => {
    flip(memoryFile(directory), offset);
    expect((await refusal(directory)).message).toMatch(/is damaged: its checksum does not fit/);
    const copy = `${directory}-copy`;
    cpSync(directory, copy, { recursive: true });
    await refusal(copy);
  });

  test('a memory file that was changed and given its old times again', async () => {
    const path = memoryFile(directory);
    flip(path, PAGE_BYTES);
    utimesSync(path, 0, 0);
    await refusal(directory);
  });

  test.each([
    ['a FIFO', (path: string) => spawnSync('mkfifo', [path])],
    ['a folder', (path: string) => mkdirSync(path)],
    ['a device without end', (path: string) => symlinkSync('/dev/zero', path)],
    ['a link to itself', (path: string) => symlinkSync(path, path)],
  ])('%s instead of a file', async (_name, make) => {
    const memory = memoryFile(directory);
    rmSync(memory);
    make(memory);
    await refusal(directory);
    const manifest = join(directory, MANIFEST_NAME);
    rmSync(manifest);
    make(manifest);
    await refusal(directory);
  });

  test('memory of another size than its machine has, before it reads any', async () => {
    const huge = 2 ** 42;
    truncateSync(memoryFile(directory), huge);
    editManifest(directory, (snapshot) => {
      snapshot.memory.bytes = huge;
      snapshot.memory.pages = [[0, huge / PAGE_BYTES]];
    });
    await refusal(directory);
    editManifest(directory, (snapshot) => {
      snapshot.config.memoryBytes = huge;
    });
    await refusal(directory);
  });

  const changes: Readonly<Record<string, (snapshot: LooseSnapshot) => unknown>> = {
    'pages out of order': (it) => it.memory.pages.reverse(),
    'pages twice': (it) => it.memory.pages.push([10, 1]),
    'pages beyond memory': (it) => it.memory.pages.push([PAGES - 1, 2]),
    'pages far beyond memory': (it) => it.memory.pages.push([Number.MAX_SAFE_INTEGER, 1]),
    'an empty run of pages': (it) => it.memory.pages.push([12, 0]),
    'a negative page': (it) => it.memory.pages.unshift([-1, 1]),
    'half a page': (it) => it.memory.pages.push([12.5, 1]),
    'a run of three numbers': (it) => it.memory.pages.push([12, 1, 1]),
    'pages that are no list': (it) => (it.memory.pages = { length: 1 }),
    'a memory file elsewhere': (it) => (it.memory.file = '../memory-00'),
    'a memory file with a NUL': (it) => (it.memory.file = 'memory-00\0'),
    'another checksum of memory': (it) => {
      it.memory.sha256 = '0'.repeat(64);
      it.memory.stamp.inode = '1';
    },
    'bad base64': (it) => (it.state.typed = '*'),
    'a negative count': (it) => (it.config.cpus = -1),
    'a register beyond its width': (it) => (it.state.platform.rtc.index = 256),
    'a field too many': (it) => (it.state.more = 1),
    'a field too few': (it) => delete it.state.vm,
    'null for a field': (it) => (it.host = null),
    'a console of no kind': (it) => (it.config.console = 'vga'),
    'an empty base': (it) => (it.base = {}),
    'a base that is not there': (it) => (it.base = { directory: '../none', checksum: '0'.repeat(64) }),
    'itself as its base': (it) => (it.base = { directory: '.', checksum: '0'.repeat(64) }),
    'a base with a NUL': (it) => (it.base = { directory: 'a\0b', checksum: '0'.repeat(64) }),
  };
  test.each(Object.keys(changes))('%s', async (name) => {
    editManifest(directory, (snapshot) => {
      changes[name]?.(snapshot);
      return undefined;
    });
    await refusal(directory).catch((error) => {
      // The path of a base is another.
      if (!name.includes('base')) throw error;
    });
    expect(openHere()).toEqual([]);
  });

  test.each(['is not there', 'others may write to'])(
    'a base that %s, in one line without what a terminal obeys',
    async (how) => {
      const base = 'base\n\u001b[2Jhint: tsvm restore --share x=. .';
      if (how !== 'is not there') {
        mkdirSync(join(directory, base));
        chmodSync(join(directory, base), 0o777);
      }
      editManifest(directory, (it) => {
        it.base = { directory: base, checksum: '0'.repeat(64) };
      });
      const error = await refusal(directory);
      for (const text of [error.message, error.hint ?? '']) expect(text).toBe(printable(text));
      expect(error.message).toContain(printable(base));
    },
  );

  test('more runs of pages than a process can have mappings', async () => {
    const pages = 140_000;
    const memoryBytes = pages * PAGE_BYTES;
    const path = memoryFile(directory);
    truncateSync(path, memoryBytes);
    editManifest(directory, (snapshot) => {
      snapshot.config.memoryBytes = memoryBytes;
      snapshot.memory.bytes = memoryBytes;
      snapshot.memory.pages = Array.from({ length: pages / 2 }, (_, i) => [2 * i, 1]);
    });
    expect((await refusal(directory)).message).toMatch(/pieces/);
  });
});

describe('a differential snapshot', () => {
  async function differential(base: string, name: string): Promise<string> {
    const made = join(root, `${name}${++folders}`);
    const { checksum } = JSON.parse(readFileSync(join(base, MANIFEST_NAME), 'utf8'));
    await saveFake(made, bytes, [{ first: 2, count: 1 }], {
      base: { directory: `../${base.slice(root.length + 1)}`, checksum },
    });
    return made;
  }

  test('is mapped over its base', async () => {
    const { memory } = await openSnapshot(await differential(directory, 'diff'));
    const pieces: FilePiece[] = [];
    memory.mapInto({ mapFiles: (given: FilePiece[]) => pieces.push(...given) } as unknown as Ram);
    memory.close();
    expect(pieces.map(({ first, count }) => [first, count])).toEqual([
      [1, 2],
      [8, 3],
      [2, 1],
    ]);
    expect(new Set(pieces.map(({ fd }) => fd)).size).toBe(2);
  });

  test('is refused when its base was replaced, is gone or is damaged', async () => {
    const made = await differential(directory, 'diff');
    flip(memoryFile(directory), PAGE_BYTES);
    await expect(openSnapshot(made)).rejects.toThrow(/is damaged: its checksum does not fit/);
    expect(openHere()).toEqual([]);
    await saveFake(directory, bytes, [{ first: 0, count: 1 }]);
    await expect(openSnapshot(made)).rejects.toThrow(
      /the snapshot it is based on, .*, has been replaced since/,
    );
    rmSync(directory, { recursive: true });
    await expect(openSnapshot(made)).rejects.toThrow(/is not a snapshot/);
  });

  test('is found with its base through a link to its folder', async () => {
    const made = await differential(directory, 'diff');
    mkdirSync(join(root, 'deep/er'), { recursive: true });
    const link = join(root, `deep/er/link${folders}`);
    symlinkSync(made, link);
    (await openSnapshot(link)).memory.close();
  });

  test('moves together with its base', async () => {
    const made = await differential(directory, 'diff');
    const elsewhere = join(root, `moved${folders}`);
    mkdirSync(elsewhere);
    for (const path of [directory, made]) renameSync(path, join(elsewhere, path.slice(root.length + 1)));
    (await openSnapshot(join(elsewhere, made.slice(root.length + 1)))).memory.close();
  });

  test('is refused after 32 in a row, with every file closed again', async () => {
    let last = directory;
    for (let i = 0; i < 31; i++) last = await differential(last, 'chain');
    (await openSnapshot(last)).memory.close();
    last = await differential(last, 'chain');
    expect((await refusal(last)).message).toMatch(/more than 32 differential snapshots in a row/);
    await new Promise(setImmediate);
    await eventually(openHere).toEqual([]);
  });

  test('of another size of memory than its base is refused', async () => {
    const small = bytes.subarray(0, 8 * PAGE_BYTES);
    const { checksum } = JSON.parse(readFileSync(join(directory, MANIFEST_NAME), 'utf8'));
    const made = join(root, 'other-size');
    await saveFake(made, small, [], { base: { directory, checksum } });
    await expect(openSnapshot(made)).rejects.toThrow(/another size of memory/);
    expect(readSnapshot(made).memory.pages).toEqual([]);
  });
});

test('openSnapshot() reads the old or the new one while the folder is replaced again and again', async () => {
  let going = true;
  const replace = (async () => {
    for (let i = 0; i < 20; i++) await saveFake(directory, bytes, [{ first: i % 8, count: 1 }]);
    going = false;
  })();
  let opened = 0;
  while (going) {
    (await openSnapshot(directory)).memory.close();
    opened++;
  }
  await replace;
  expect(opened).toBeGreaterThan(0);
});
