/** Draft of a machine: what somebody asks for, in words of theirs, until it is made. */
import type { Machine } from '../machine/machine.js';
import type { MachineSpec } from '../machine/spec.js';
import { ApiError } from './api-error.js';

export interface Draft {
  /** The machine that it asks for. @throws ApiError or TsvmError for what cannot be. */
  spec(): Promise<MachineSpec>;
  /** Sets what a spec does not say, before the guest runs. */
  adjust?(machine: Machine): void;
}

/** Draft in which nothing is asked for yet. */
export const EMPTY_DRAFT: Draft = {
  async spec() {
    throw new ApiError('Cannot start microvm without kernel configuration.');
  },
};
