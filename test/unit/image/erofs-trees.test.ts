/** File systems of trees that nobody would make, judged by a reader of tests and by fsck. */
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { DirectoryNode, FileNode, TreeNode } from '../../../src/image/tree/tree.js';
import { type ErofsEntry, fsckErofs, shownContent } from '../../support/erofs.js';
import { directory, ErofsMaker, fifo, link } from '../../support/erofs-maker.js';
import { budget, patience } from '../../support/fuzz.js';
import { temporaryDirectory } from '../../support/guest.js';
import { missingProgram } from '../../support/skip-reasons.js';

const folder = temporaryDirectory();
let count = 0;

/** Name, kind, size and the rest of a node, of which trees are made. */
const nodeArbitrary = fc.record({
  name: fc.oneof(
    fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 255 }),
    fc.string({
      unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)),
      minLength: 1,
      maxLength: 12,
    }),
  ),
  kind: fc.constantFrom('file', 'file', 'file', 'directory', 'link', 'fifo', 'again', 'dropped'),
  size: fc.oneof(fc.nat(5000), fc.constantFrom(0, 2048, 2049, 4095, 4096, 4097, 12_288, 100_000)),
  hole: fc.boolean(),
  parent: fc.nat(),
  mode: fc.nat(0o7777),
  uid: fc.integer({ min: 0, max: 4_294_967_294 }),
  mtimeSeconds: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
  xattrBytes: fc.oneof({ weight: 5, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: fc.nat(9000) }),
});

type Row = typeof nodeArbitrary extends fc.Arbitrary<infer T> ? T : never;
type Named = Exclude<TreeNode, DirectoryNode>;

/** Tree of rows, and what its files have in them. */
async function makeTree(maker: ErofsMaker, rows: readonly Row[]) {
  const root = directory();
  const folders = [root];
  const nodes: Named[] = [];
  const contents = new Map<TreeNode, string>();
  for (const row of rows) {
    const name = row.name.replace(/[/\0]/g, '_').replace(/^\.{1,2}$/, '_');
    const { children } = folders[row.parent % folders.length]!;
    if (children.has(name)) continue;
    const again = nodes[row.parent % Math.max(1, nodes.length)];
    if (row.kind === 'directory') {
      const made = directory([], factsOf(row));
      children.set(name, made);
      folders.push(made);
    } else if (row.kind === 'again' && again !== undefined) {
      again.names++;
      children.set(name, again);
    } else {
      const node = await makeNode(maker, row, contents);
      if (row.kind === 'dropped') {
        maker.sink.drop(node as FileNode);
        continue;
      }
      nodes.push(node);
      children.set(name, node);
    }
  }
  return { root, contents };
}

async function makeNode(maker: ErofsMaker, row: Row, contents: Map<TreeNode, string>): Promise<Named> {
  const { kind, size } = row;
  const facts = factsOf(row);
  if (kind === 'link') return link('t'.repeat(Math.max(1, size % 4096)), facts);
  if (kind === 'fifo') return fifo(facts);
  const start = row.hole ? Math.floor(size / 2) : 0;
  const content = Buffer.alloc(size, 'data ').fill(0, 0, start);
  const extents = [{ offset: start, bytes: content.subarray(start) }];
  const file = await maker.file({ sizeBytes: size, extents }, facts);
  contents.set(file, shownContent(content));
  return file;
}

function factsOf({ mode, uid, mtimeSeconds, xattrBytes }: Row) {
  const xattrs = new Map(xattrBytes < 0 ? [] : [['user.x', Buffer.alloc(xattrBytes, 'v')] as const]);
  return { mode, uid, gid: 7, mtimeSeconds, mtimeNs: 1, xattrs };
}

function* pathsOf(node: DirectoryNode, path = ''): Generator<[string, TreeNode]> {
  yield [path, node];
  for (const [name, child] of node.children) {
    const full = path === '' ? name : `${path}/${name}`;
    if (child.kind === 'directory') yield* pathsOf(child, full);
    else yield [full, child];
  }
}

function expectEntry(entry: ErofsEntry | undefined, node: TreeNode, content: string | undefined): void {
  const { kind, mode, uid, gid, mtimeSeconds, mtimeNs } = node;
  expect(entry).toMatchObject({ kind, mode, uid, gid, mtimeSeconds, mtimeNs });
  if (node.kind !== 'directory') expect(entry?.links).toBe(node.names);
  if (node.kind === 'link') expect(entry?.content).toBe(node.target);
  if (node.kind === 'file') expect(entry?.content).toBe(content);
  const lengths = (xattrs: ReadonlyMap<string, Uint8Array> = new Map()) =>
    [...xattrs].map(([name, { length }]) => [name, length]);
  expect(lengths(entry?.xattrs)).toEqual(lengths(node.xattrs));
}

test('ErofsSink shows any tree as it is, and fsck finds nothing wrong with it', {
  timeout: patience(60_000),
}, async ({ skip }) => {
  const noJudge = missingProgram('fsck.erofs', 'erofs-utils');
  await fc.assert(
    fc.asyncProperty(fc.array(nodeArbitrary, { maxLength: 60 }), async (rows) => {
      const maker = await ErofsMaker.begin(join(folder, `${count++}.erofs`));
      const { root, contents } = await makeTree(maker, rows);
      const { entries } = await maker.end(root);
      const paths = [...pathsOf(root)];
      for (const [path, node] of paths) expectEntry(entries.get(path), node, contents.get(node));
      expect(entries.size).toBe(paths.length);
      if (noJudge === undefined) expect(fsckErofs(maker.path)).toBe('');
    }),
    budget(60, 20),
  );
  if (noJudge !== undefined) skip(noJudge);
});
