/** The system handle: `/dev/kvm`, opened and found to be good enough. */
import { isErrnoError, TsvmError } from '../errors.js';
import type { NativeAddon, NativeKvm } from '../native/binding.js';
import { KVM_API_VERSION, KVM_CAP, type KvmCapability } from './constants.js';

/** Capabilities without which no machine can be made. */
export const REQUIRED_CAPABILITIES: readonly KvmCapability[] = [
  'KVM_CAP_IRQCHIP',
  'KVM_CAP_USER_MEMORY',
  'KVM_CAP_SET_TSS_ADDR',
  'KVM_CAP_EXT_CPUID',
  'KVM_CAP_IRQFD',
  'KVM_CAP_IOEVENTFD',
  'KVM_CAP_PIT2',
  'KVM_CAP_SET_IDENTITY_MAP_ADDR',
  'KVM_CAP_IMMEDIATE_EXIT',
];

export const KVM_PATH = '/dev/kvm';

/**
 * Opens a KVM.
 *
 * @throws an errno error if the file cannot be opened, or is none of KVM's.
 * @throws TsvmError `TSVM_KVM_UNAVAILABLE` if it lacks something that is needed.
 */
export function openKvm(addon: NativeAddon, path: string = KVM_PATH): NativeKvm {
  const kvm = addon.openKvm(path);
  try {
    const version = kvm.apiVersion();
    if (version !== KVM_API_VERSION) {
      throw tooOld(`${path} speaks KVM API version ${version}, not ${KVM_API_VERSION}`);
    }
    const missing = REQUIRED_CAPABILITIES.filter((name) => kvm.checkExtension(KVM_CAP[name]) <= 0);
    if (missing.length > 0) throw tooOld(`${path} lacks ${missing.join(', ')}`);
    return kvm;
  } catch (error) {
    kvm.close();
    throw error;
  }
}

function tooOld(message: string): TsvmError {
  return new TsvmError('TSVM_KVM_UNAVAILABLE', message, {
    hint: 'a newer host kernel is needed (Linux 4.12 or later)',
  });
}

/** Runs a KVM call; a native failure becomes TSVM_KVM with the call's name and errno. */
export function kvmCall<T>(what: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    if (!isErrnoError(cause)) throw cause;
    throw new TsvmError('TSVM_KVM', `cannot ${what}: ${cause.syscall} failed with ${cause.code}`, { cause });
  }
}
