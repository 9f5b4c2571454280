/** Small images beside what umoci 0.4.7 and podman 4.3.1 made of them, which test/host/image-peers.test.ts wrote down. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Files, filesOfTree, LAYOUTS } from '../../support/image-layouts.js';
import { treeOfArchives } from '../../support/memory-tree.js';
import { type Peer, unexplained } from '../../support/peer-differences.js';
import { tarOf } from '../../support/tar.js';

const GOLDEN = new URL('../../support/image-peers.json', import.meta.url);
const golden = JSON.parse(readFileSync(GOLDEN, 'utf8')) as Record<string, Record<Peer, Files | null>>;

test('every image was given to the peers', () => {
  expect(Object.keys(golden).sort()).toEqual(Object.keys(LAYOUTS).sort());
});

test.each(Object.keys(LAYOUTS))(
  'applyLayers() makes of %s what umoci and podman make, but for what is wanted',
  async (name) => {
    const ours = filesOfTree(await treeOfArchives((LAYOUTS[name] ?? []).map((entries) => tarOf(entries))));
    for (const peer of ['umoci', 'podman'] as const)
      expect(unexplained(name, peer, ours, golden[name]?.[peer] ?? null)).toEqual([]);
  },
);
