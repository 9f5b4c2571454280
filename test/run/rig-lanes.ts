/** Test files in several rigs side by side, each with one CPU: as many as this machine has cores, and none of the emulator's races. */
import { join } from 'node:path';
import { LaneProcess } from './lane-process.js';
import { FileQueue } from './queue.js';
import type { FileResult } from './record.js';

const REPOSITORY = join(import.meta.dirname, '../..');
const MEMORY_MIB = 6144;
const FILE_TIMEOUT_SECONDS = 600;
/** A rig that cannot start is no reason to try for ever. */
const MAX_DEATHS = 5;

export interface RigRun {
  /** Called with each result as it comes. */
  readonly onResult: (result: FileResult, lane: string) => void;
  readonly onLine: (line: string, lane: string) => void;
  /** Called with the time that a rig took until it took files. */
  readonly onStart: (seconds: number, lane: string) => void;
}

/** Runs `files`, named below test/, in `lanes` rigs. A file in which a rig dies has failed, and what is left gets a new rig. */
export async function runInRigs(files: readonly string[], lanes: number, run: RigRun): Promise<void> {
  const queue = new FileQueue(files, lanes);
  const names = Array.from({ length: Math.min(lanes, files.length) }, (_, index) => `rig ${index + 1}`);
  await Promise.all(names.map((name) => drain(queue, name, run)));
}

async function drain(queue: FileQueue, name: string, run: RigRun): Promise<void> {
  for (let deaths = 0; !queue.isEmpty; deaths++) {
    const since = performance.now();
    let starting = true;
    const lane = new LaneProcess({
      command: [
        join(REPOSITORY, 'test/rig/rig'),
        ...[
          '--memory',
          String(MEMORY_MIB),
          process.execPath,
          join(REPOSITORY, 'test/built/run/lane.mjs'),
          'built',
        ],
      ],
      env: { TSVM_REQUIRE_KVM: '1' },
      fileTimeoutSeconds: FILE_TIMEOUT_SECONDS,
      onReady: (ready) => {
        if (starting) run.onStart((performance.now() - since) / 1000, name);
        starting = false;
        const files = queue.take();
        if (files.length > 0) ready.give(files);
        else ready.finish();
      },
      onResult: (result) => run.onResult(result, name),
      onLine: (line) => run.onLine(line, name),
    });
    const status = await lane.ended;
    if (status === 0 && lane.unfinished.length === 0) return;
    const why = lane.timedOut ? `no end after ${FILE_TIMEOUT_SECONDS} s` : `the rig died (status ${status})`;
    const file = lane.begun ?? lane.unfinished[0] ?? '(the rig)';
    run.onResult({ file, seconds: 0, tests: [], errors: [why] }, name);
    queue.putBack(lane.unfinished.filter((left) => left !== file));
    if (deaths + 1 === MAX_DEATHS) throw new Error(`${name} died ${MAX_DEATHS} times`);
  }
}
