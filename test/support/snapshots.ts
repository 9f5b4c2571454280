/** Snapshots for tests: made without a machine, and changed as somebody hostile would. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PageRun, Ram } from '../../src/kvm/ram.js';
import type { NativeAddon } from '../../src/native/binding.js';
import { MANIFEST_NAME, SNAPSHOT_FORMAT, type Snapshot } from '../../src/snapshot/format.js';
import { SnapshotWriter } from '../../src/snapshot/writer.js';
import { PAGE_BYTES } from '../../src/util/units.js';

/** A snapshot that may be changed in any way. */
// biome-ignore lint/suspicious/noExplicitAny: what is in it is what the test puts there
export type LooseSnapshot = any;

/** Changes what `machine.json` says and makes its checksum fit again. */
export function editManifest(
  directory: string,
  change: (snapshot: LooseSnapshot) => LooseSnapshot | undefined,
) {
  const path = join(directory, MANIFEST_NAME);
  const manifest = JSON.parse(readFileSync(path, 'utf8'));
  const snapshot = change(manifest.snapshot) ?? manifest.snapshot;
  writeManifest(directory, JSON.stringify(snapshot));
}

/** Puts `body` where the snapshot goes in `machine.json`, with its checksum. */
export function writeManifest(directory: string, body: string): void {
  const checksum = createHash('sha256').update(body).digest('hex');
  writeFileSync(
    join(directory, MANIFEST_NAME),
    `{"format":${SNAPSHOT_FORMAT},"checksum":"${checksum}","snapshot":${body}}\n`,
  );
}

export function readSnapshot(directory: string): LooseSnapshot {
  return JSON.parse(readFileSync(join(directory, MANIFEST_NAME), 'utf8')).snapshot;
}

/** The path of the file with its memory. */
export function memoryFile(directory: string): string {
  return join(directory, readSnapshot(directory).memory.file);
}

/** RAM that is nothing but bytes. */
export function fakeRam(bytes: Uint8Array): Ram {
  return {
    sizeBytes: bytes.length,
    *bytesOf({ first, count }: PageRun) {
      yield bytes.subarray(first * PAGE_BYTES, (first + count) * PAGE_BYTES);
    },
  } as Ram;
}

/** An addon whose locks are always free. */
export const fakeAddon = { flock: () => true } as unknown as NativeAddon;

/** A snapshot without its memory, as small as the format allows. */
export function fakeSnapshot(memoryBytes: number, more: Partial<Snapshot> = {}): Omit<Snapshot, 'memory'> {
  return {
    tsvm: '0.0.0',
    created: '2026-01-01T00:00:00.000Z',
    host: { profile: 'none', cpu: { vendor: 'v', family: '1', model: '1', name: 'n', flags: 'a b' } },
    directory: '/',
    config: { version: 1, memoryBytes, cpus: 1, console: 'none', guest: 'none', devices: [] },
    cmdline: '',
    state: {
      vm: { vcpus: [], irqchips: ['', '', ''], pit: '', clock: '' },
      platform: {
        board: { rtc: { version: 1 } },
        slots: [],
        generation: false,
      },
      typed: '',
    },
    disks: [],
    ...more,
  };
}

/** Saves `runs` of `bytes`. Returns the checksum. */
export async function saveFake(
  directory: string,
  bytes: Uint8Array,
  runs: readonly PageRun[],
  more: Partial<Snapshot> = {},
): Promise<string> {
  const writer = await SnapshotWriter.open(fakeAddon, directory);
  try {
    await writer.writeMemory(fakeRam(bytes), runs);
    return await writer.commit(fakeSnapshot(bytes.length, more));
  } finally {
    await writer.close();
  }
}
