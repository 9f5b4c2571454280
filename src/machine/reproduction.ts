/** How machines make machines: the one place where fork and snapshot are given to {@link KvmMachine}. */
import { forkMachine, prepareForks } from './fork.js';
import type { Reproduction } from './kvm-machine.js';
import { snapshotMachine } from './save.js';

export const reproduction: Reproduction = {
  fork: forkMachine,
  prepareForks,
  snapshot: snapshotMachine,
};
