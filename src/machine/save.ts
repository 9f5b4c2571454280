/** Saves a machine into a folder. */
import { realpath } from 'node:fs/promises';
import { relative } from 'node:path';
import { TsvmError } from '../errors.js';
import { readCpu } from '../host/facts.js';
import { encodeVmState } from '../kvm/vm-state.js';
import {
  MAX_CHAIN,
  MAX_PIECES_DIFFERENTIAL,
  MAX_PIECES_FULL,
  type SnapshotOptions,
  type SnapshotResult,
} from '../snapshot/format.js';
import { closeGaps, limitRuns, pagesWithData } from '../snapshot/memory-file.js';
import { readChain, readManifest } from '../snapshot/reader.js';
import { SnapshotWriter } from '../snapshot/writer.js';
import { VERSION } from '../util/version.js';
import type { MachineConfig } from './config.js';
import type { MachineCore, Parts } from './core.js';
import { loadedSpec, type MachineSpec, specOf } from './spec.js';

export async function snapshotMachine(
  machine: MachineCore,
  directory: string,
  options: SnapshotOptions,
): Promise<SnapshotResult> {
  const { signal } = options;
  signal?.throwIfAborted();
  const started = performance.now();
  machine.refuseUnless(['ready', 'running', 'paused'], 'save');
  const { addon, kvm, vm, host, cmdline, origin } = machine.parts;
  savedSpec(machine.config); // whether it can be saved at all
  const base = options.differential === true ? origin : undefined;
  if (options.differential === true && base === undefined) {
    throw new TsvmError('TSVM_SNAPSHOT', 'a machine that was not restored has nothing to differ from', {
      hint: 'save it in full: without differential',
    });
  }
  const below = base === undefined ? [] : await folders(base);
  const writer = await SnapshotWriter.open(addon, directory, signal);
  try {
    const here = await realpath(writer.directory);
    if (below.includes(here)) {
      throw new TsvmError(
        'TSVM_SNAPSHOT',
        `${directory}: a differential snapshot cannot replace its own base`,
        {
          hint: 'choose another folder',
        },
      );
    }
    const write = async () => {
      const paused = performance.now();
      const state = machine.save(kvm.msrIndexList());
      const disks = [...(await host.disks())];
      // Its disks may be others by now.
      const config = { ...savedSpec(machine.config) };
      // What a base holds may have become zero: then the zeroes count.
      const runs =
        base === undefined
          ? limitRuns(closeGaps(pagesWithData(vm.ram, vm.ram.dataPages())), MAX_PIECES_FULL)
          : limitRuns(vm.ram.writtenPages(), MAX_PIECES_DIFFERENTIAL);
      const memoryBytes = await writer.writeMemory(vm.ram, runs, options.onProgress);
      return { pauseMs: performance.now() - paused, memoryBytes, state, disks, config };
    };
    const { pauseMs, memoryBytes, state, disks, config } = await machine.still('save', write, signal);
    await writer.commit({
      tsvm: VERSION,
      created: new Date().toISOString(),
      host: { profile: machine.parts.profile.name, cpu: readCpu() },
      directory: host.directory,
      config,
      cmdline,
      state: { ...state, vm: encodeVmState(state.vm) },
      disks,
      ...(base === undefined
        ? {}
        : {
            base: {
              directory: relative(here, below[0] ?? base.directory),
              checksum: base.checksum,
            },
          }),
    });
    return {
      directory: writer.directory,
      memoryBytes,
      pauseMs,
      totalMs: performance.now() - started,
    };
  } finally {
    await writer.close();
  }
}

/**
 * Where the snapshot that the machine was restored from and those below it really are.
 *
 * @throws TsvmError `TSVM_SNAPSHOT` if nothing can be based on it any more.
 */
async function folders(base: NonNullable<Parts['origin']>): Promise<string[]> {
  const manifest = { directory: base.directory, ...(await readManifest(base.directory)) };
  if (manifest.checksum !== base.checksum) {
    throw new TsvmError(
      'TSVM_SNAPSHOT',
      `${base.directory}, from which the machine was restored, has been replaced since`,
      { hint: 'save it in full: without differential' },
    );
  }
  const chain = await readChain(manifest);
  if (chain.length === MAX_CHAIN) {
    throw new TsvmError(
      'TSVM_SNAPSHOT',
      `there are ${MAX_CHAIN - 1} differential snapshots in a row already`,
      {
        hint: 'save it in full: without differential',
      },
    );
  }
  return await Promise.all(chain.map(({ directory }) => realpath(directory)));
}

/** @throws TsvmError `TSVM_SNAPSHOT` for a machine that cannot be made again. */
function savedSpec(config: MachineConfig): MachineSpec {
  if (config.firmware === undefined || config.firmware === 'builtin') return loadedSpec(specOf(config));
  throw new TsvmError('TSVM_SNAPSHOT', 'a machine that started from a firmware file cannot be saved', {
    hint: "boot the kernel directly: `kernel: 'FILE'`",
  });
}
