/** The host's KVM, or the one cause for which there is none. */
import { closeSync, openSync } from 'node:fs';
import { isErrnoError, TsvmError } from '../../errors.js';
import { KVM_PATH, openKvm } from '../../kvm/kvm.js';
import type { NativeAddon, NativeKvm } from '../../native/binding.js';
import { HostTree } from '../host-tree.js';
import { type KvmCause, kvmCause } from './causes.js';
import { type KvmFailure, readKvmFacts } from './facts.js';

/** Looks at this host for the cause of a failure to open `/dev/kvm`. */
export const whyNoKvm = (failure: KvmFailure): KvmCause => kvmCause(readKvmFacts(new HostTree(), failure));

/** Opens and closes `/dev/kvm` without the addon: what refused it, or undefined if nothing did. */
export function probeKvm(): KvmFailure | undefined {
  try {
    closeSync(openSync(KVM_PATH, 'r+'));
    return undefined;
  } catch (error) {
    if (isErrnoError(error)) return error;
    throw error;
  }
}

/**
 * Opens `/dev/kvm`.
 *
 * @throws TsvmError `TSVM_KVM_UNAVAILABLE` if it cannot be opened, with the cause and its remedy, or lacks something that is needed.
 */
export function openHostKvm(addon: NativeAddon): NativeKvm {
  try {
    return openKvm(addon);
  } catch (error) {
    if (!isErrnoError(error)) throw error;
    const { detail, remedy } = whyNoKvm(error);
    throw new TsvmError('TSVM_KVM_UNAVAILABLE', `cannot open ${KVM_PATH}: ${detail}`, {
      hint: remedy,
      cause: error,
    });
  }
}
