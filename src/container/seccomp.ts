/**
 * The filter of system calls (seccomp(2)): what Docker's default profile refuses, and what a capability gives back.
 *
 * The profile allows every call it knows but these, so the filter is written from the other side: these are refused with EPERM,
 * and calls newer than the filter with ENOSYS, which is how a program learns to use an older one.
 * docs/decisions/0007-containers.md says why no library composes it.
 */

import type { Capability } from './capabilities.js';
import { CLONE, ERRNO } from './linux.js';
import { Data } from './plan.js';

/** By their numbers, arch/x86/entry/syscalls/syscall_64.tbl; each with the capabilities that allow it. */
const REFUSED: readonly (readonly [number: number, name: string, ...allowedBy: Capability[]])[] = [
  [103, 'syslog', 'SYSLOG', 'SYS_ADMIN'],
  [134, 'uselib'],
  [136, 'ustat'],
  [139, 'sysfs'],
  [153, 'vhangup', 'SYS_TTY_CONFIG'],
  [155, 'pivot_root'],
  [156, '_sysctl'],
  [161, 'chroot', 'SYS_CHROOT'],
  [163, 'acct', 'SYS_PACCT'],
  [164, 'settimeofday', 'SYS_TIME'],
  [165, 'mount', 'SYS_ADMIN'],
  [166, 'umount2', 'SYS_ADMIN'],
  [167, 'swapon'],
  [168, 'swapoff'],
  [169, 'reboot', 'SYS_BOOT'],
  [170, 'sethostname', 'SYS_ADMIN'],
  [171, 'setdomainname', 'SYS_ADMIN'],
  [172, 'iopl', 'SYS_RAWIO'],
  [173, 'ioperm', 'SYS_RAWIO'],
  [174, 'create_module'],
  [175, 'init_module', 'SYS_MODULE'],
  [176, 'delete_module', 'SYS_MODULE'],
  [177, 'get_kernel_syms'],
  [178, 'query_module'],
  [179, 'quotactl', 'SYS_ADMIN'],
  [180, 'nfsservctl'],
  [181, 'getpmsg'],
  [182, 'putpmsg'],
  [183, 'afs_syscall'],
  [184, 'tuxcall'],
  [185, 'security'],
  [212, 'lookup_dcookie', 'SYS_ADMIN'],
  [227, 'clock_settime', 'SYS_TIME'],
  [236, 'vserver'],
  [237, 'mbind', 'SYS_NICE'],
  [238, 'set_mempolicy', 'SYS_NICE'],
  [239, 'get_mempolicy', 'SYS_NICE'],
  [246, 'kexec_load'],
  [248, 'add_key'],
  [249, 'request_key'],
  [250, 'keyctl'],
  [256, 'migrate_pages'],
  [272, 'unshare', 'SYS_ADMIN'],
  [279, 'move_pages'],
  [298, 'perf_event_open', 'PERFMON', 'SYS_ADMIN'],
  [300, 'fanotify_init', 'SYS_ADMIN'],
  [304, 'open_by_handle_at', 'DAC_READ_SEARCH'],
  [308, 'setns', 'SYS_ADMIN'],
  [312, 'kcmp', 'SYS_PTRACE'],
  [313, 'finit_module', 'SYS_MODULE'],
  [320, 'kexec_file_load'],
  [321, 'bpf', 'BPF', 'SYS_ADMIN'],
  [323, 'userfaultfd'],
  [425, 'io_uring_setup'],
  [426, 'io_uring_enter'],
  [427, 'io_uring_register'],
  [428, 'open_tree', 'SYS_ADMIN'],
  [429, 'move_mount', 'SYS_ADMIN'],
  [430, 'fsopen', 'SYS_ADMIN'],
  [431, 'fsconfig', 'SYS_ADMIN'],
  [432, 'fsmount', 'SYS_ADMIN'],
  [433, 'fspick', 'SYS_ADMIN'],
  [438, 'pidfd_getfd', 'SYS_PTRACE'],
  [440, 'process_madvise', 'SYS_PTRACE'],
  [442, 'mount_setattr', 'SYS_ADMIN'],
  [443, 'quotactl_fd', 'SYS_ADMIN'],
  [450, 'set_mempolicy_home_node', 'SYS_NICE'],
];

const NR = { socket: 41, clone: 56, personality: 135, clone3: 435 } as const;
/** removexattrat, Linux 6.13: what came later nobody has weighed. */
const LAST_KNOWN = 466;
/** PER_LINUX and PER_LINUX32, each with UNAME26, and the question which it is. */
const PERSONALITIES = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] as const;
const AF_VSOCK = 40;
const NEW_NAMESPACES =
  CLONE.NEWNS | CLONE.NEWCGROUP | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWUSER | CLONE.NEWPID | CLONE.NEWNET;

/** <linux/bpf_common.h>, <linux/seccomp.h>, <linux/audit.h> */
export const BPF = { LD_W_ABS: 0x20, JEQ: 0x15, JGT: 0x25, JSET: 0x45, RET: 0x06 } as const;
export const SECCOMP_RET = { KILL_PROCESS: 0x8000_0000, ERRNO: 0x0005_0000, ALLOW: 0x7fff_0000 } as const;
export const AUDIT_ARCH_X86_64 = 0xc000_003e;
/** struct seccomp_data; the low half of an argument comes first. */
export const OFFSET = { nr: 0, arch: 4, argument0: 16 } as const;
const INSTRUCTION_BYTES = 8;

/** One of struct sock_filter. Jumps count instructions from the next one on. */
export type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

const EPERM = [BPF.RET, 0, 0, SECCOMP_RET.ERRNO | ERRNO.EPERM] as const;
const ENOSYS = [BPF.RET, 0, 0, SECCOMP_RET.ERRNO | ERRNO.ENOSYS] as const;
const ALLOW = [BPF.RET, 0, 0, SECCOMP_RET.ALLOW] as const;

/** The filter for a command that has `capabilities`. */
export function seccompFilter(capabilities: readonly Capability[]): readonly Instruction[] {
  const has = (capability: Capability): boolean => capabilities.includes(capability);
  const program: Instruction[] = [
    [BPF.LD_W_ABS, 0, 0, OFFSET.arch],
    [BPF.JEQ, 1, 0, AUDIT_ARCH_X86_64],
    [BPF.RET, 0, 0, SECCOMP_RET.KILL_PROCESS], // 32-bit calls have other numbers
    [BPF.LD_W_ABS, 0, 0, OFFSET.nr],
    [BPF.JGT, 0, 1, LAST_KNOWN], // x32's calls as well
    ENOSYS,
  ];
  for (const [number, , ...allowedBy] of REFUSED) {
    if (!allowedBy.some(has)) program.push([BPF.JEQ, 0, 1, number], EPERM);
  }
  if (!has('SYS_ADMIN')) {
    // Its flags are in memory, which a filter cannot read; C libraries then use clone.
    program.push([BPF.JEQ, 0, 1, NR.clone3], ENOSYS);
    program.push(...whenCall(NR.clone, [[BPF.JSET, 0, 1, NEW_NAMESPACES], EPERM]));
  }
  // No namespace holds a VM socket back from the host's machines.
  program.push(...whenCall(NR.socket, [[BPF.JEQ, 0, 1, AF_VSOCK], EPERM]));
  const personalities = PERSONALITIES.map(
    (value, i): Instruction => [BPF.JEQ, PERSONALITIES.length - i, 0, value],
  );
  program.push(...whenCall(NR.personality, [...personalities, EPERM]));
  program.push(ALLOW);
  return program;
}

/** Looks at the first argument of one call; what `checks` does not end is allowed. */
function whenCall(number: number, checks: readonly Instruction[]): readonly Instruction[] {
  const body: Instruction[] = [[BPF.LD_W_ABS, 0, 0, OFFSET.argument0], ...checks, ALLOW];
  return [[BPF.JEQ, 0, body.length, number], ...body];
}

/** struct sock_fprog, as seccomp(2) takes it. */
export function filterProgram(program: readonly Instruction[]): Data {
  const bytes = new Uint8Array(program.length * INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, [code, jumpTrue, jumpFalse, k]] of program.entries()) {
    view.setUint16(i * INSTRUCTION_BYTES, code, true);
    view.setUint8(i * INSTRUCTION_BYTES + 2, jumpTrue);
    view.setUint8(i * INSTRUCTION_BYTES + 3, jumpFalse);
    view.setUint32(i * INSTRUCTION_BYTES + 4, k, true);
  }
  const head = new Uint8Array(16);
  new DataView(head.buffer).setUint16(0, program.length, true);
  return new Data(head, [[8, new Data(bytes)]]);
}

/** Names of the calls that are refused to a command with `capabilities`, for people and for other runtimes. */
export function refusedCalls(capabilities: readonly Capability[]): readonly string[] {
  return REFUSED.filter(([, , ...allowedBy]) => !allowedBy.some((name) => capabilities.includes(name))).map(
    ([, name]) => name,
  );
}
