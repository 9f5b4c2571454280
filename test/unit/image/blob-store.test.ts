/** Blobs that are kept by their digests: cut off, killed, wrong, of two writers at once. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type BlobFacts, BlobStore } from '../../../src/image/blob-store.js';
import { digestOf } from '../../../src/image/digest.js';
import { eventually } from '../../support/eventually.js';
import { programFlock } from '../../support/flock.js';
import { temporaryDirectory } from '../../support/guest.js';

const folder = temporaryDirectory();
let count = 0;
const newStore = (): BlobStore => new BlobStore(join(folder, String(count++)), programFlock);

const factsOf = (bytes: Uint8Array): BlobFacts => ({
  digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
  size: bytes.length,
});
const CONTENT = randomBytes(1_000_003);
const FACTS = factsOf(CONTENT);
const partialOf = (store: BlobStore, facts = FACTS): string =>
  store.pathOf(facts.digest).replace(/[^/]+$/, (hex) => `.${hex}.partial`);
const namesIn = (store: BlobStore): string[] => readdirSync(join(store.directory, 'blobs/sha256')).sort();

/** All of the content from `start` on, in pieces; fails before the byte `end`. */
async function* from(start: number, end = Number.POSITIVE_INFINITY): AsyncGenerator<Uint8Array> {
  for (let at = start; at < CONTENT.length; at += 65536) {
    if (at + 65536 > end) throw new Error('cut off');
    yield CONTENT.subarray(at, at + 65536);
  }
}

describe('BlobStore.add()', () => {
  test('keeps a blob once, for its owner alone, and asks nobody for what is there', async () => {
    const store = newStore();
    const seen: number[] = [];
    const path = await store.add(FACTS, from, { onProgress: (bytes) => seen.push(bytes) });
    expect(readFileSync(path).equals(CONTENT)).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(store.directory).mode & 0o777).toBe(0o700);
    expect([seen[0], seen.at(-1)]).toEqual([0, CONTENT.length]);
    const never = () => {
      throw new Error('asked');
    };
    expect(await store.add(FACTS, never)).toBe(path);
    expect([store.sizeOf(FACTS.digest), store.list()]).toEqual([CONTENT.length, [FACTS]]);
    expect(namesIn(store)).toEqual([FACTS.digest.slice(7)]);
    const document = await store.addBytes(Buffer.from('{}'));
    expect(readFileSync(store.pathOf(document.digest), 'utf8')).toBe('{}');
  });

  test('goes on after what an earlier writer left', async () => {
    const store = newStore();
    await expect(store.add(FACTS, (start) => from(start, 300_000))).rejects.toThrow('cut off');
    const left = statSync(partialOf(store)).size;
    expect(left).toBe(262144);
    expect(store.list()).toEqual([]);
    const starts: number[] = [];
    await store.add(FACTS, (start) => {
      starts.push(start);
      return from(start);
    });
    expect(starts).toEqual([left]);
    expect(readFileSync(store.pathOf(FACTS.digest)).equals(CONTENT)).toBe(true);
  });

  test('starts anew where what was left is wrong or too long', async () => {
    for (const left of [Buffer.alloc(1000), Buffer.alloc(2_000_000)]) {
      const store = newStore();
      store.list();
      writeFileSync(partialOf(store), left, { mode: 0o600 });
      await store.add(FACTS, from);
      expect(readFileSync(store.pathOf(FACTS.digest)).equals(CONTENT)).toBe(true);
    }
  });

  test('refuses a wrong digest, too much, too little, and leaves no blob', async () => {
    const store = newStore();
    const other = factsOf(Buffer.from('other'));
    await expect(store.add({ ...other, size: CONTENT.length }, from)).rejects.toThrow(
      /what came has the digest/,
    );
    async function* endless() {
      for (;;) yield Buffer.alloc(65536);
    }
    await expect(store.add(FACTS, endless)).rejects.toThrow(
      /has at least \d+ bytes, and should have 1000003/,
    );
    await expect(store.add(FACTS, () => [CONTENT.subarray(1)])).rejects.toThrow(/has only 1000002 bytes/);
    expect(store.list()).toEqual([]);
    await store.add(FACTS, from);
    await expect(store.add({ ...FACTS, size: 5 }, from)).rejects.toThrow(/has at least 1000003 bytes/);
    await expect(store.add({ digest: 'sha256:../../x', size: 1 }, from)).rejects.toThrow(
      /not a SHA-256 digest/,
    );
  });

  test('writes through no link, and into no folder of others', async () => {
    const store = newStore();
    store.list();
    const outside = join(folder, 'outside');
    writeFileSync(outside, 'precious');
    symlinkSync(outside, partialOf(store));
    await expect(store.add(FACTS, from)).rejects.toMatchObject({ code: 'TSVM_IMAGE' });
    expect(readFileSync(outside, 'utf8')).toBe('precious');
    const open = newStore();
    mkdirSync(open.directory, { mode: 0o755 });
    await expect(open.add(FACTS, from)).rejects.toThrow(/others may enter it/);
  });

  test('of two at once lets one fetch, and both have the blob', async () => {
    const store = newStore();
    let fetched = 0;
    let waited = 0;
    const add = () =>
      store.add(
        FACTS,
        (start) => {
          fetched++;
          return from(start);
        },
        { onWait: () => waited++ },
      );
    const paths = await Promise.all([add(), add(), add()]);
    expect(new Set(paths).size).toBe(1);
    expect([fetched, waited > 0]).toEqual([1, true]);
    expect(namesIn(store)).toEqual([FACTS.digest.slice(7)]);
  });

  test('takes over from a process that was killed', async () => {
    const store = newStore();
    store.list();
    const path = partialOf(store);
    writeFileSync(path, CONTENT.subarray(0, 4096), { mode: 0o600 });
    // It locks the file, as a writer of another process does, and stays.
    const writer: ChildProcess = spawn('flock', ['--exclusive', '--no-fork', path, 'sleep', '1000'], {
      stdio: 'ignore',
    });
    try {
      const { ino } = statSync(path);
      await eventually(() => readFileSync('/proc/locks', 'utf8').includes(`:${ino} `)).toBe(true);
      const starts: number[] = [];
      await store.add(
        FACTS,
        (start) => {
          starts.push(start);
          return from(start);
        },
        { onWait: () => writer.kill('SIGKILL') },
      );
      expect(starts).toEqual([4096]);
      expect(existsSync(path)).toBe(false);
    } finally {
      writer.kill('SIGKILL');
    }
  });

  test('gives up when it is told to', async () => {
    const store = newStore();
    const stop = new AbortController();
    const adding = store.add(FACTS, from, {
      signal: stop.signal,
      onProgress: (bytes) => bytes > 0 && stop.abort(new Error('enough')),
    });
    await expect(adding).rejects.toThrow('enough');
    expect(store.list()).toEqual([]);
  });
});

describe('BlobStore.retain()', () => {
  test('removes what nothing names, and waits for those who hold', async () => {
    const store = newStore();
    await store.add(FACTS, from);
    const other = await store.addBytes(Buffer.from('other'));
    writeFileSync(partialOf(store, factsOf(Buffer.from('x'))), 'x');
    const order: string[] = [];
    let retained: Promise<BlobFacts[]> | undefined;
    await store.hold(async () => {
      const waits = new Promise<void>((resolve) => {
        retained = store.retain(() => new Set([FACTS.digest]), { onWait: resolve });
      });
      void retained?.then(() => order.push('retained'));
      await waits;
      await store.hold(async () => {});
      order.push('held');
    });
    expect(await retained).toEqual([other]);
    expect(order).toEqual(['held', 'retained']);
    expect(namesIn(store)).toEqual(['.lock', FACTS.digest.slice(7)]);
  });

  test('is not needed for parts of a week ago: hold() removes them', async () => {
    const store = newStore();
    store.list();
    const [old, fresh] = ['old', 'fresh'].map((text) => partialOf(store, factsOf(Buffer.from(text))));
    for (const path of [old, fresh]) writeFileSync(path as string, 'x');
    const then = Date.now() / 1000 - 8 * 24 * 3600;
    utimesSync(old as string, then, then);
    await store.hold(async () => {});
    expect([old, fresh].map((path) => existsSync(path as string))).toEqual([false, true]);
  });

  test('hold() leaves an old part to the writer that has it', async () => {
    const store = newStore();
    store.list();
    const old = partialOf(store);
    writeFileSync(old, 'x');
    const then = Date.now() / 1000 - 8 * 24 * 3600;
    utimesSync(old, then, then);
    const fd = openSync(old, 'r+');
    try {
      expect(programFlock(fd, 'exclusive')).toBe(true);
      await store.hold(async () => {});
      expect(existsSync(old)).toBe(true);
    } finally {
      closeSync(fd);
    }
    await store.hold(async () => {});
    expect(existsSync(old)).toBe(false);
  });
});

test('BlobStore.checkSpace() refuses what is larger than the disk, and does not count what is there', async () => {
  const store = newStore();
  const { digest } = await store.addBytes(Buffer.from('abc'));
  const other = { digest: digestOf(Buffer.from('other')), size: 2 ** 60 };
  await store.checkSpace([{ digest, size: 3 }]);
  await expect(store.checkSpace([other])).rejects.toThrow(/are needed there, and .* are free/);
  const half = async function* () {
    yield Buffer.from('oth');
    throw new Error('cut off');
  };
  await expect(store.add({ ...other, size: 5 }, half)).rejects.toThrow('cut off');
  await expect(store.checkSpace([other])).rejects.toThrow(/are needed/);
  await store.checkSpace([{ ...other, size: 3 + 1 }]);
});
