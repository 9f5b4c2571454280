/** The folder of templates: order, removal, locks, and other processes that do the same. */
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { TsvmError } from '../../../src/errors.js';
import { TemplateStore } from '../../../src/template/store.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';

const root = temporaryDirectory();
let folders = 0;
let store: TemplateStore;
/** Inodes would do as well: one holder at a time is all that a test needs. */
let held = false;

beforeEach(() => {
  held = false;
  store = new TemplateStore(join(root, `templates${++folders}`), () => !held);
});

const keyOf = (n: number): string => n.toString(16).padStart(16, '0');

/** A template that was last used so many seconds after the others. */
function put(n: number): string {
  const key = keyOf(n);
  mkdirSync(store.pathOf(key), { recursive: true });
  writeFileSync(join(store.pathOf(key), 'machine.json'), '{}');
  writeFileSync(join(store.directory, `${key}.lock`), '');
  utimesSync(store.pathOf(key), 1000 + n, 1000 + n);
  return key;
}

describe('TemplateStore', () => {
  test('has, lists, removes and makes nothing where others may write', async () => {
    const key = put(1);
    chmodSync(store.directory, 0o777);
    const refused = { code: 'TSVM_TEMPLATE', hint: `chmod go-w ${store.directory}` };
    expect(() => store.has(key)).toThrow(expect.objectContaining(refused));
    await expect(store.list()).rejects.toMatchObject(refused);
    await expect(store.prune()).rejects.toMatchObject(refused);
    await expect(store.remove(key)).rejects.toMatchObject(refused);
    await expect(store.locked(key, {}, async () => {})).rejects.toMatchObject(refused);
  });

  test('list() of a folder that is not there is empty', async () => {
    expect(await store.list()).toEqual([]);
    expect(await store.prune()).toEqual([]);
  });

  test('list() has the last used first, and nothing that is no template', async () => {
    const keys = [put(1), put(3), put(2)];
    writeFileSync(join(store.directory, 'README'), '');
    writeFileSync(join(store.directory, keyOf(9)), '');
    mkdirSync(join(store.directory, 'short'));
    expect((await store.list()).map(({ key }) => key)).toEqual([keys[1], keys[2], keys[0]]);
    expect((await store.list())[0]).toMatchObject({
      lastUsedMs: 1_003_000,
      directory: store.pathOf(keys[1]!),
    });
  });

  test('used() makes one the last used', async () => {
    const [first] = [put(1), put(2)];
    store.used(first);
    await eventually(async () => (await store.list())[0]?.key).toBe(first);
    store.used(keyOf(77)); // not there: nothing happens
  });

  test('remove() leaves nothing of a template, and says when there is none', async () => {
    const key = put(1);
    await store.remove(key);
    expect(readdirSync(store.directory)).toEqual([]);
    for (const bad of [key, 'x', '../..', '', `${key}/..`]) {
      const error = await store.remove(bad).catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(TsvmError);
      expect(error).toMatchObject({
        code: 'TSVM_TEMPLATE',
        message: `there is no template ${bad}`,
        hint: expect.any(String),
      });
    }
  });

  test('remove() leaves the lock to a process that has it', async () => {
    const key = put(1);
    held = true;
    await store.remove(key);
    expect(readdirSync(store.directory)).toEqual([`${key}.lock`]);
  });

  test('prune() keeps those that were used last, and the one that is wanted', async () => {
    const keys = Array.from({ length: 10 }, (_, n) => put(n));
    expect(await store.prune({ keep: keys[0]! })).toEqual([keys[1]]);
    expect(await store.prune({ most: 3 })).toEqual([6, 5, 4, 3, 2, 0].flatMap((n) => keys[n] ?? []));
    expect((await store.list()).map(({ key }) => key)).toEqual([keys[9], keys[8], keys[7]]);
    expect(await store.prune({ most: 0 })).toHaveLength(3);
    expect(readdirSync(store.directory)).toEqual([]);
  });

  test('prune() clears up after a removal that was killed', async () => {
    const key = put(1);
    const doomed = join(store.directory, `.removed-${keyOf(5)}-1`);
    mkdirSync(doomed);
    writeFileSync(join(doomed, 'memory-00'), '');
    await store.prune();
    expect(existsSync(doomed)).toBe(false);
    expect(existsSync(store.pathOf(key))).toBe(true);
  });

  test('prune() and list() of several processes at once do not mind each other', async () => {
    for (let round = 0; round < 20; round++) {
      for (let n = 0; n < 6; n++) put(n);
      const results = await Promise.all([
        store.prune({ most: 1 }),
        store.prune({ most: 1 }),
        store.list(),
        store.prune({ most: 0 }),
        store.list(),
      ]);
      const removed = [...results[0]!, ...results[1]!, ...results[3]!];
      expect(new Set(removed).size).toBe(removed.length);
      expect(await store.list()).toEqual([]);
    }
  });

  test('locked() waits for who has the lock, says so once, and goes on', async () => {
    held = true;
    let waits = 0;
    const result = store.locked(keyOf(1), { onWait: () => waits++ }, async () => 'done');
    await sleep(150);
    held = false;
    expect(await result).toBe('done');
    expect(waits).toBe(1);
  });

  test('locked() stops waiting when it is told to', async () => {
    held = true;
    const abort = new AbortController();
    const result = store.locked(keyOf(1), { signal: abort.signal }, async () => 'done');
    abort.abort(new Error('enough'));
    await expect(result).rejects.toThrow('enough');
  });

  test('locked() takes a new lock when its own was removed meanwhile', async () => {
    held = true;
    const path = join(store.directory, `${keyOf(1)}.lock`);
    const result = store.locked(keyOf(1), {}, async () => existsSync(path));
    await eventually(() => existsSync(path)).toBe(true);
    rmSync(path);
    held = false;
    expect(await result).toBe(true);
  });

  test('locked() in a folder that cannot be made says which, and what to do', async () => {
    writeFileSync(join(root, 'file'), '');
    const below = new TemplateStore(join(root, 'file/below'), () => true);
    await expect(below.locked(keyOf(1), {}, async () => {})).rejects.toMatchObject({
      code: 'TSVM_TEMPLATE',
      message: expect.stringContaining(`cannot keep templates in ${join(root, 'file/below')}`),
      hint: expect.stringContaining('`createMachine()`'),
    });
    expect(await below.list()).toEqual([]);
  });
});
