/** Checks of a machine that is not made yet, in the order in which what is wrong is mended: its configuration, the files that it names, this host. */
import type { DeviceRequest } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import { hostMemory } from '../host/host-facts.js';
import { hostLook } from '../host/host-look.js';
import { openHostKvm } from '../host/kvm/open.js';
import { loadAddon } from '../native/binding.js';
import { lookAtSnapshotTarget } from '../snapshot/writer.js';
import { chooseProfile } from './assemble.js';
import { readBootFiles } from './boot.js';
import { checkConfig, type MachineConfig } from './config.js';

/**
 * Checks all that `createMachine` would refuse before it makes anything, for a configuration whose kernel is not known yet.
 *
 * @param named - devices whose files are looked at, if they are not those of the configuration
 * @throws TsvmError for a configuration, a file or a host that will not do.
 */
export async function checkMachine(
  config: MachineConfig,
  named: readonly DeviceRequest[] | undefined = config.devices,
): Promise<void> {
  checkConfig({ kernel: 'the guest’s', ...config }, { totalMemoryBytes: hostMemory().totalBytes });
  chooseProfile(config.profile ?? 'auto');
  const { kernel } = await readBootFiles(config);
  await kernel?.close();
  await lookAtDevices(named);
  requireKvm();
}

/** Looks at what devices name of the host, before any of them is opened. @throws TsvmError */
export async function lookAtDevices(devices: readonly DeviceRequest[] = []): Promise<void> {
  for (const device of devices) await device.look?.(hostLook);
}

/** Error of a host where no machine can be made; undefined where one can. */
export function kvmProblem(): TsvmError | undefined {
  try {
    requireKvm();
    return undefined;
  } catch (error) {
    if (error instanceof TsvmError) return error;
    throw error;
  }
}

/** Opens KVM, and closes it. @throws TsvmError `TSVM_ADDON` or `TSVM_KVM_UNAVAILABLE` where no machine can be made. */
function requireKvm(): void {
  openHostKvm(loadAddon()).close();
}

/** Looks whether a machine could be saved in a folder. @throws TsvmError `TSVM_SNAPSHOT` */
export async function lookAtSaveFolder(directory: string): Promise<void> {
  await lookAtSnapshotTarget(directory);
}
