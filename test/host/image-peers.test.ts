/**
 * Small images as umoci and podman unpack them, and as directories here. `TSVM_WRITE_PEERS=1` writes what they make of all of them, which
 * test/unit/image/peers.test.ts compares with ours wherever it runs.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { unpackLayers } from '../../src/image/unpack.js';
import { temporaryDirectory } from '../support/guest.js';
import {
  type Files,
  filesOfDirectory,
  filesOfTree,
  LAYOUTS,
  PEERS,
  writeLayout,
} from '../support/image-layouts.js';
import { treeOfArchives } from '../support/memory-tree.js';
import type { Peer } from '../support/peer-differences.js';
import { missingProgram, notHere, notRoot } from '../support/skip-reasons.js';
import { tarOf } from '../support/tar.js';

const folder = temporaryDirectory();
type Golden = Record<string, Partial<Record<Peer, Files | null>>>;
const GOLDEN = new URL('../support/image-peers.json', import.meta.url).pathname;
const writes = process.env['TSVM_WRITE_PEERS'] === '1';
const names = Object.keys(LAYOUTS);
/** Number of images, of which one is given to the peers again: podman takes half a second for each. */
const SOME = 6;
/** Images whose files have facts that a directory may get wrong. */
const FACTS =
  /hard links|suid|owners|read-only|permissions|pipes|attributes|capabilities|times|long|any bytes|lead out|file through/;
/** Versions that were written down: Debian's. */
const VERSIONS = { umoci: '0.4.7', podman: '4.3.1' };

describe('small images', () => {
  test('are in a directory what they are in memory', async ({ skip }) => {
    skip(notRoot() !== undefined, notRoot());
    for (const [i, name] of names.filter((one) => FACTS.test(one)).entries()) {
      const archives = (LAYOUTS[name] ?? []).map((entries) => tarOf(entries));
      const layers = archives.map((bytes, j) => {
        writeFileSync(join(folder, `${i}-${j}.tar`), bytes);
        return { path: join(folder, `${i}-${j}.tar`) };
      });
      const root = join(folder, `root-${i}`);
      await unpackLayers(layers, root);
      expect([name, filesOfDirectory(root)]).toEqual([name, filesOfTree(await treeOfArchives(archives))]);
    }
  });

  test.for(['umoci', 'podman'] as const)(
    'are by %s what is written down',
    { timeout: 300_000 },
    (peer, { skip }) => {
      skip(notRoot() !== undefined, notRoot());
      const lacking = missingProgram(peer);
      skip(lacking !== undefined, lacking);
      const { stdout } = spawnSync(peer, ['--version'], { encoding: 'utf8' });
      skip(!stdout.includes(VERSIONS[peer]), notHere(`not ${peer} ${VERSIONS[peer]}`));
      const golden = JSON.parse(readFileSync(GOLDEN, 'utf8')) as Golden;
      for (const [i, name] of names.entries()) {
        if (!writes && i % SOME !== 0) continue;
        const scratch = join(folder, peer, peer === 'podman' ? 'all' : String(i));
        const layout = writeLayout(join(folder, peer, `layout-${i}`), LAYOUTS[name] ?? []);
        const made = PEERS[peer](layout, scratch) ?? null;
        skip(i === 0 && made === null, notHere(`${peer} unpacks nothing here`));
        if (writes) golden[name] = { ...golden[name], [peer]: made };
        else expect([name, made]).toEqual([name, golden[name]?.[peer]]);
      }
      if (writes) writeFileSync(GOLDEN, `${JSON.stringify(golden, undefined, 2)}\n`);
    },
  );
});
