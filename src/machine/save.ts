/** Saves a machine into a folder. */
import { relative } from 'node:path';
import { TsvmError } from '../errors.js';
import { readCpu } from '../host/host-facts.js';
import { packageVersion } from '../host/package-file.js';
import type { SavedConfig, SnapshotOptions, SnapshotResult } from '../snapshot/format.js';
import { closeGaps, pagesWithData } from '../snapshot/memory-file.js';
import { SnapshotWriter } from '../snapshot/writer.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import type { KvmMachine } from './kvm-machine.js';

export async function snapshotMachine(
  machine: KvmMachine,
  directory: string,
  options: SnapshotOptions,
): Promise<SnapshotResult> {
  const started = performance.now();
  machine.refuseUnless(['ready', 'running', 'paused'], 'save');
  const { addon, kvm, vm, host, config, cmdline, origin } = machine.parts;
  const saved = { ...savedConfig(config), directory: host.directory };
  const base = options.differential === true ? origin : undefined;
  if (options.differential === true && base === undefined) {
    throw new TsvmError('TSVM_SNAPSHOT', 'a machine that was not restored has nothing to differ from', {
      hint: 'save it in full: without differential',
    });
  }
  const writer = await SnapshotWriter.open(addon, directory);
  if (base !== undefined && base.directory === writer.directory) {
    await writer.close(false);
    throw new TsvmError(
      'TSVM_SNAPSHOT',
      `${directory}: a differential snapshot cannot replace its own base`,
      {
        hint: 'choose another folder',
      },
    );
  }
  let committed = false;
  try {
    const { pauseMs, memoryBytes, state, disks } = await machine.still('save', async () => {
      const paused = performance.now();
      const state = machine.save(kvm.msrIndexList());
      const disks = [...(await host.disks())];
      // What a base holds may have become zero: then the zeroes count.
      const runs =
        base === undefined ? closeGaps(pagesWithData(vm.ram, vm.ram.dataPages())) : vm.ram.writtenPages();
      const memoryBytes = await writer.writeMemory(vm.ram, runs, options.onProgress);
      return { pauseMs: performance.now() - paused, memoryBytes, state, disks };
    });
    await writer.commit({
      tsvm: packageVersion(),
      created: new Date().toISOString(),
      host: { profile: machine.profile, cpu: readCpu() },
      config: saved,
      cmdline,
      state,
      disks,
      ...(base === undefined
        ? {}
        : {
            base: {
              directory: relative(writer.directory, base.directory),
              checksum: base.checksum,
            },
          }),
    });
    committed = true;
    return {
      directory: writer.directory,
      memoryBytes,
      pauseMs,
      totalMs: performance.now() - started,
    };
  } finally {
    await writer.close(committed);
  }
}

function savedConfig(config: MachineConfig): Omit<SavedConfig, 'directory'> {
  if (config.firmware !== undefined && config.firmware !== 'builtin') {
    throw new TsvmError('TSVM_SNAPSHOT', 'a machine that started from a firmware file cannot be saved', {
      hint: 'boot the kernel directly: --kernel FILE',
    });
  }
  const devices = (config.devices ?? []).map((request) => {
    if (request.config === undefined) {
      throw new TsvmError(
        'TSVM_SNAPSHOT',
        `a machine with a device of kind ${request.kind} cannot be saved`,
        {
          hint: 'give its request a config from which it can be made again',
        },
      );
    }
    return { kind: request.kind, config: { ...request.config } };
  });
  return {
    memoryBytes: config.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    cpus: config.cpus ?? 1,
    console: config.console ?? 'serial',
    firmware: config.firmware !== undefined,
    channel: config.channel ?? false,
    devices,
  };
}
