/**
 * The last steps of process 1, once the command's process is there: it gives up what it does not need to pass signals on, to reap
 * orphans and to say how it went. What it once could do, nobody who gets at it can.
 */
import type { Step } from './plan.js';
import { clearAmbient, dropFromBoundingSet, installFilter, keepCapabilities } from './process.js';
import { AUDIT_ARCH_X86_64, BPF, type Instruction, OFFSET, SECCOMP_RET } from './seccomp.js';

/** System calls of kvm-addon/launcher/init.c after its steps, by arch/x86/entry/syscalls/syscall_64.tbl. */
const CALLS = { read: 0, write: 1, close: 3, wait4: 61, kill: 62, rt_sigtimedwait: 128, exit_group: 231 };

export function composeKeeper(): Step[] {
  return [
    ...dropFromBoundingSet([]),
    clearAmbient(),
    // The command may be another user.
    keepCapabilities(['KILL']),
    ...installFilter(keeperFilter()),
  ];
}

/** Allows what process 1 still does; anything else ends it, and the container with it. */
function keeperFilter(): readonly Instruction[] {
  const calls = Object.values(CALLS);
  return [
    [BPF.LD_W_ABS, 0, 0, OFFSET.arch],
    [BPF.JEQ, 0, calls.length + 1, AUDIT_ARCH_X86_64],
    [BPF.LD_W_ABS, 0, 0, OFFSET.nr],
    ...calls.map((number, i): Instruction => [BPF.JEQ, calls.length - i, 0, number]),
    [BPF.RET, 0, 0, SECCOMP_RET.KILL_PROCESS],
    [BPF.RET, 0, 0, SECCOMP_RET.ALLOW],
  ];
}
