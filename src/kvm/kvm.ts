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
 * Opens `/dev/kvm`.
 *
 * @throws TsvmError `TSVM_KVM_UNAVAILABLE` if there is none, it may not be opened, or it lacks something that is needed.
 */
export function openKvm(addon: NativeAddon, path: string = KVM_PATH): NativeKvm {
  let kvm: NativeKvm;
  try {
    kvm = addon.openKvm(path);
  } catch (cause) {
    throw openError(path, cause);
  }
  let version: number;
  try {
    version = kvm.apiVersion();
  } catch (cause) {
    kvm.close();
    throw new TsvmError('TSVM_KVM_UNAVAILABLE', `${path} is not a KVM device`, {
      hint: 'load the kvm_intel or kvm_amd module, which makes it anew',
      cause,
    });
  }
  if (version !== KVM_API_VERSION) {
    kvm.close();
    throw new TsvmError(
      'TSVM_KVM_UNAVAILABLE',
      `${path} speaks KVM API version ${version}, not ${KVM_API_VERSION}`,
      { hint: 'a newer host kernel is needed (Linux 4.12 or later)' },
    );
  }
  const missing = REQUIRED_CAPABILITIES.filter((name) => kvm.checkExtension(KVM_CAP[name]) <= 0);
  if (missing.length > 0) {
    kvm.close();
    throw new TsvmError('TSVM_KVM_UNAVAILABLE', `${path} lacks ${missing.join(', ')}`, {
      hint: 'a newer host kernel is needed (Linux 4.12 or later)',
    });
  }
  return kvm;
}

function openError(path: string, cause: unknown): TsvmError {
  const code = isErrnoError(cause) ? cause.code : undefined;
  switch (code) {
    case 'ENOENT':
      return new TsvmError('TSVM_KVM_UNAVAILABLE', `cannot open ${path}: there is no such device`, {
        hint: 'load the kvm_intel or kvm_amd module, and enable virtualization in the firmware or nested virtualization in the hypervisor',
        cause,
      });
    case 'EACCES':
    case 'EPERM':
      return new TsvmError('TSVM_KVM_UNAVAILABLE', `cannot open ${path}: permission denied`, {
        hint: 'add yourself to the group that owns it: sudo usermod -aG kvm $USER, then log in again',
        cause,
      });
    case 'ENXIO':
    case 'ENODEV':
      return new TsvmError('TSVM_KVM_UNAVAILABLE', `cannot open ${path}: no KVM behind it`, {
        hint: 'load the kvm_intel or kvm_amd module',
        cause,
      });
    default:
      return new TsvmError(
        'TSVM_KVM_UNAVAILABLE',
        `cannot open ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
        { hint: 'tsvm doctor looks at what this host can do', cause },
      );
  }
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
