/** Tables that a guest can make a share keep: they end, and are empty when the guest has forgotten all. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FUSE } from '../../src/devices/fs/protocol.js';
import { eventually } from '../support/eventually.js';
import { bytes, entryOf } from '../support/fuse-client.js';
import { O_RDWR, openDescriptors, ROOT, ShareGuest } from '../support/share-guest.js';

const MAX_DESCRIPTORS = 1024;

let guest: ShareGuest;
let before: number;

beforeEach(async () => {
  guest = await ShareGuest.open();
  before = openDescriptors();
});
afterEach(() => guest.close());

const savedNodes = (): unknown[] => (guest.device.save() as unknown as { nodes: unknown[] }).nodes;
/** Descriptors are closed in the background. */
const asBefore = () => eventually(openDescriptors).toBeLessThanOrEqual(before);

test('a FORGET while a call is under way leaves nothing open', async () => {
  for (let i = 0; i < 100; i++) {
    const made = await guest.call(FUSE.MKNOD, ROOT, bytes(0o100600, 0, 0, 0, `f${i}`));
    const { id } = entryOf(made.data);
    await guest.call(FUSE.UNLINK, ROOT, bytes(`f${i}`));
    const getattr = guest.call(FUSE.GETATTR, id, bytes(0, 0, 0n));
    guest.hiprio.add([guest.header(FUSE.FORGET, BigInt(id), 8), bytes(1n)], []);
    guest.hiprio.kick();
    await getattr;
  }
  await asBefore();
  expect(savedNodes()).toEqual([]);
});

test('requests whose answer has no room leave no node, no handle and no descriptor', async () => {
  mkdirSync(guest.at('d'));
  for (let i = 0; i < 50; i++) writeFileSync(guest.at(`f${i}`), '');
  for (let i = 0; i < 50; i++)
    expect((await guest.call(FUSE.LOOKUP, ROOT, bytes(`f${i}`), 8)).errno).not.toBe(0);
  expect((await guest.call(FUSE.CREATE, ROOT, bytes(O_RDWR, 0o100644, 0, 0, 'new'), 128)).errno).not.toBe(0);
  expect(readdirSync(guest.shared)).not.toContain('new');
  const { id } = await guest.lookup(ROOT, 'f0');
  expect((await guest.call(FUSE.OPEN, id, bytes(0, 0), 8)).errno).not.toBe(0);
  expect((await guest.call(FUSE.OPENDIR, ROOT, bytes(0, 0), 8)).errno).not.toBe(0);
  await guest.forget(id, 1);
  await asBefore();
  expect(guest.device.save()).toMatchObject({ nodes: [], handles: [] });
});

test('files without a name that the guest still knows are so many and no more', {
  timeout: 120_000,
}, async () => {
  const { folder } = guest;
  const user = { uid: 0, gid: 0 };
  let made = 0;
  const one = async (): Promise<void> => {
    const name = `f${made++}`;
    await folder.mknod(folder.root, name, 0o600, user);
    await folder.unlink(folder.root, name, user);
  };
  await expect(
    (async () => {
      for (let i = 0; i < 5000; i++) await one();
    })(),
  ).rejects.toMatchObject({ code: 'ENFILE' });
  expect(openDescriptors() - before).toBeLessThanOrEqual(4096 + MAX_DESCRIPTORS);
  // Nothing else is refused.
  await folder.lookup(folder.root, `f${made - 1}`);
  await folder.statfs();
});

test('names of hard links can go by thousands, with a descriptor for none', {
  timeout: 120_000,
}, async () => {
  const { folder } = guest;
  for (const name of ['store', 'nm']) mkdirSync(guest.at(name));
  for (let i = 0; i < 2500; i++) {
    writeFileSync(guest.at(`store/f${i}`), String(i));
    linkSync(guest.at(`store/f${i}`), guest.at(`nm/f${i}`));
  }
  const { node: store } = await folder.lookup(folder.root, 'store');
  const { node: nm } = await folder.lookup(folder.root, 'nm');
  const nodes = [];
  for (let i = 0; i < 2500; i++) {
    nodes.push((await folder.lookup(store, `f${i}`)).node);
    expect((await folder.lookup(nm, `f${i}`)).node).toBe(nodes[i]);
  }
  for (let i = 0; i < 2500; i++) await folder.unlink(nm, `f${i}`);
  await eventually(() => openDescriptors() - before).toBeLessThan(MAX_DESCRIPTORS + 100);
  // Each is found by the name that is left.
  for (const i of [0, 1, 2499]) {
    const file = await folder.open(nodes[i]!, 0);
    const content = Buffer.alloc(8);
    expect(content.toString('utf8', 0, await folder.read(file, [content], 0))).toBe(String(i));
    await folder.release(file);
  }
});

test('folders that were moved into each other do not make saving endless', async () => {
  mkdirSync(guest.at('A/B/C'), { recursive: true });
  const a = (await guest.lookup(ROOT, 'A')).id;
  const b = (await guest.lookup(a, 'B')).id;
  const c = (await guest.lookup(b, 'C')).id;
  await guest.forget(b, 1);
  expect((await guest.call(FUSE.RENAME, a, bytes(1n, 'B', 'B'))).errno).toBe(0);
  expect((await guest.call(FUSE.RENAME, ROOT, bytes(BigInt(c), 'A', 'A'))).errno).toBe(0);
  const paths = savedNodes().map((node) => (node as [number, number, { path: string[] }])[2].path);
  expect(paths.map((path) => path.join('/')).sort()).toEqual(['B/C', 'B/C/A']);
});

test('folders that somebody moved into each other on the host do not, either', async () => {
  mkdirSync(guest.at('A/B/C'), { recursive: true });
  const a = (await guest.lookup(ROOT, 'A')).id;
  const b = (await guest.lookup(a, 'B')).id;
  const c = (await guest.lookup(b, 'C')).id;
  renameSync(guest.at('A/B'), guest.at('B'));
  renameSync(guest.at('A'), guest.at('B/C/A'));
  expect(await guest.lookup(c, 'A')).toMatchObject({ errno: 0, id: a });
  // B was remembered in A, which is below it now: it is nowhere until it is looked up again.
  expect(savedNodes()).toEqual([]);
  expect(await guest.lookup(ROOT, 'B')).toMatchObject({ id: b });
  expect(savedNodes()).toHaveLength(3);
});

test.each([
  ['its path too long', 200, 30],
  ['too many folders above it', 1, 65],
])('a node with %s is not saved', async (_, nameBytes, depth) => {
  const { folder } = guest;
  let at = folder.root;
  for (let above = 0; above < depth; above++)
    at = (await folder.mkdir(at, 'n'.repeat(nameBytes), 0o755, { uid: 0, gid: 0 })).node;
  expect(folder.describe(at)).toBeUndefined();
});

test('whatever a guest does, nothing is left when it has forgotten all', { timeout: 120_000 }, async () => {
  const { folder } = guest;
  const user = { uid: 0, gid: 0 };
  let seed = 42;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  const names = ['a', 'b', 'c'];
  const name = (): string => names[random(names.length)] as string;
  /** Entries that the guest has: node, and how many. */
  const had = new Map<object, number>();
  const known = (): typeof folder.root => {
    const all = [folder.root, ...had.keys()] as (typeof folder.root)[];
    return all[random(all.length)] as typeof folder.root;
  };
  const got = ({ node }: { node: object }): void => {
    if (node !== folder.root) had.set(node, (had.get(node) ?? 0) + 1);
  };
  const files: { file: Awaited<ReturnType<typeof folder.open>> }[] = [];
  const actions: (() => Promise<unknown>)[] = [
    async () => got(await folder.lookup(known(), name(), user)),
    async () => got(await folder.mkdir(known(), name(), 0o755, user)),
    async () => got(await folder.mknod(known(), name(), 0o644, user)),
    async () => got(await folder.symlink(known(), name(), 'a', user)),
    async () => got(await folder.link(known(), known(), name(), user)),
    async () => {
      const made = await folder.create(known(), name(), O_RDWR, 0o644, user);
      got(made);
      files.push(made);
    },
    async () => {
      const made = await folder.tmpfile(known(), O_RDWR, 0o644, user);
      got(made);
      files.push(made);
    },
    () => folder.unlink(known(), name(), user),
    () => folder.rmdir(known(), name(), user),
    () =>
      folder.rename(
        known(),
        name(),
        known(),
        name(),
        (['replace', 'keep', 'exchange'] as const)[random(3)]!,
        user,
      ),
    async () => {
      const node = known();
      const directory = await folder.opendir(node, user);
      try {
        for (const { entry } of await folder.list(directory, node, 0n, 500, true, user))
          if (entry) got(entry);
      } finally {
        await folder.releasedir(directory);
      }
    },
    async () => folder.describe(known()),
    // Somebody on the host moves folders, and removes them.
    async () => renameSync(guest.at(name()), guest.at(`${name()}/${name()}`)),
    async () => renameSync(guest.at(`${name()}/${name()}`), guest.at(name())),
    async () => rmSync(guest.at(`${name()}/${name()}`), { recursive: true }),
    async () => {
      const [node, count] = [...had][random(had.size || 1)] ?? [];
      if (node === undefined || count === undefined) return;
      const some = 1 + random(count);
      if (some === count) had.delete(node);
      else had.set(node, count - some);
      folder.forget(node as typeof folder.root, some);
    },
  ];
  for (let round = 0; round < 1000; round++) {
    const some = Array.from({ length: 4 }, () => actions[random(actions.length)]!().catch(() => {}));
    await Promise.all(some);
  }
  for (const { file } of files) await folder.release(file);
  for (const [node, count] of had) folder.forget(node as typeof folder.root, count);
  await asBefore();
  expect(folder.knownNodes).toBe(0);
});

test('listing a folder of many keeps nothing of it, and gives so much at a time', async () => {
  const names = Array.from({ length: 3000 }, (_, i) => `${i}`.padStart(200, 'x'));
  for (const name of names) writeFileSync(guest.at(name), '');
  const { folder } = guest;
  const directory = await folder.opendir(folder.root);
  const first = await folder.list(directory, folder.root, 0n, 1 << 20, false);
  expect(first.length).toBeLessThan(400);
  await folder.releasedir(directory);
});

test('a share leaves descriptors to others, and lets go of its own before it refuses anything', async () => {
  // Of this process, for as long as this test takes.
  const limit = (soft: string): string =>
    execFileSync('prlimit', ['--pid', String(process.pid), ...(soft === '' ? [] : [`--nofile=${soft}:`])], {
      encoding: 'utf8',
    });
  const [was = ''] = /(?<=^NOFILE.*?)\d+/m.exec(limit('')) ?? [];
  const all = 2 * openDescriptors() + 200;
  const { folder } = guest;
  for (let i = 0; i < 300; i++) writeFileSync(guest.at(`f${i}`), '');
  try {
    limit(String(all));
    for (let i = 0; i < 300; i++) await folder.lookup(folder.root, `f${i}`);
    const files: Awaited<ReturnType<typeof folder.open>>[] = [];
    const { node } = await folder.lookup(folder.root, 'f0');
    const open = async (): Promise<void> => {
      for (let i = 0; i < all; i++) files.push(await folder.open(node, 0));
    };
    await expect(open()).rejects.toMatchObject({ code: 'ENFILE' });
    expect(files.length).toBeGreaterThan(50);
    closeSync(openSync('/proc/self/status', 'r'));
    expect(openDescriptors()).toBeLessThan(all);
    for (const file of files) await folder.release(file);
  } finally {
    limit(was);
  }
});
