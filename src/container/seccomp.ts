/** Rules of system calls as the kernel's filter: a program of BPF (Documentation/userspace-api/seccomp_filter.rst). */
import { type ArgumentCheck, type CallRule, callRules } from './call-rules.js';
import type { Capability } from './capabilities.js';
import { ERRNO } from './linux.js';
import { Data } from './plan.js';

/** <linux/bpf_common.h>, <linux/seccomp.h>, <linux/audit.h> */
export const BPF = { LD_W_ABS: 0x20, JEQ: 0x15, JGT: 0x25, JSET: 0x45, RET: 0x06 } as const;
export const SECCOMP_RET = { KILL_PROCESS: 0x8000_0000, ERRNO: 0x0005_0000, ALLOW: 0x7fff_0000 } as const;
export const AUDIT_ARCH_X86_64 = 0xc000_003e;
/** struct seccomp_data; the low half of an argument comes first. */
export const OFFSET = { nr: 0, arch: 4, argument0: 16 } as const;
const INSTRUCTION_BYTES = 8;

/** One of struct sock_filter. Jumps count instructions from the next one on. */
export type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

const ALLOW: Instruction = [BPF.RET, 0, 0, SECCOMP_RET.ALLOW];
const refusal = (errno: number): Instruction => [BPF.RET, 0, 0, SECCOMP_RET.ERRNO | errno];

/** The filter for a command that has `capabilities`. */
export function seccompFilter(capabilities: readonly Capability[]): readonly Instruction[] {
  const rules = callRules(capabilities);
  return [
    [BPF.LD_W_ABS, 0, 0, OFFSET.arch],
    [BPF.JEQ, 1, 0, AUDIT_ARCH_X86_64],
    // 32-bit calls have other numbers, and hide a socket's family in memory.
    [BPF.RET, 0, 0, SECCOMP_RET.KILL_PROCESS],
    [BPF.LD_W_ABS, 0, 0, OFFSET.nr],
    ...rules.flatMap(({ number, check, errno = ERRNO.EPERM }) =>
      check === undefined ? [] : whenCall(number, [...checked(check), ALLOW, refusal(errno)]),
    ),
    ...runsOf(rules).flatMap(({ last, answer }): Instruction[] => [[BPF.JGT, 1, 0, last], answer]),
    refusal(ERRNO.ENOSYS), // x32's calls as well
  ];
}

/** `body` for one call, with its first argument loaded; every way through it has to end. */
function whenCall(number: number, body: readonly Instruction[]): readonly Instruction[] {
  return [[BPF.JEQ, 0, body.length + 1, number], [BPF.LD_W_ABS, 0, 0, OFFSET.argument0], ...body];
}

/** Goes on with the next instruction if the check is met, and with the one after it if not. */
function checked(check: ArgumentCheck): readonly Instruction[] {
  switch (check.kind) {
    case 'one of':
      return check.values.map((value, i, { length }) =>
        i === length - 1 ? [BPF.JEQ, 0, 1, value] : [BPF.JEQ, length - 1 - i, 0, value],
      );
    case 'none of':
      return [[BPF.JSET, 1, 0, check.bits]];
  }
}

/** Runs of numbers with one answer, up to the last number of the rules; what is between rules is not known. */
function runsOf(rules: readonly CallRule[]): readonly { last: number; answer: Instruction }[] {
  const runs: { last: number; errno: number | undefined }[] = [];
  const add = (last: number, errno: number | undefined): void => {
    const run = runs.at(-1);
    if (run !== undefined && run.errno === errno) run.last = last;
    else runs.push({ last, errno });
  };
  for (const { number, errno } of rules) {
    const before = runs.at(-1)?.last ?? -1;
    if (number > before + 1) add(number - 1, ERRNO.ENOSYS);
    add(number, errno);
  }
  return runs.map(({ last, errno }) => ({ last, answer: errno === undefined ? ALLOW : refusal(errno) }));
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
