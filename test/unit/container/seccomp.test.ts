/** The filter, run as the kernel would (Documentation/networking/filter.rst), call by call. */
import { describe, expect, test } from 'vitest';
import { CAPABILITIES, type Capability, DEFAULT_CAPABILITIES } from '../../../src/container/capabilities.js';
import { seccompFilter } from '../../../src/container/seccomp.js';

const X86_64 = 0xc000_003e;
const ALLOW = 'allow';

interface Call {
  readonly nr: number;
  readonly arch?: number;
  readonly argument?: number;
}

/** What the filter says to a call: `allow`, `kill`, or the errno. */
function answer(
  capabilities: readonly Capability[],
  { nr, arch = X86_64, argument = 0 }: Call,
): string | number {
  const program = seccompFilter(capabilities);
  const data: Readonly<Record<number, number>> = { 0: nr, 4: arch, 16: argument };
  let word = 0;
  for (let at = 0; at < program.length; at++) {
    const [code, whenTrue, whenFalse, k] = program[at]!;
    if (code === 0x20) word = data[k] ?? Number.NaN;
    else if (code === 0x15) at += word === k ? whenTrue : whenFalse;
    else if (code === 0x25) at += word > k ? whenTrue : whenFalse;
    else if (code === 0x45) at += (word & k) !== 0 ? whenTrue : whenFalse;
    else if (k === 0x7fff_0000) return ALLOW;
    else return k === 0x8000_0000 ? 'kill' : k & 0xffff;
  }
  throw new Error('the filter ends nowhere');
}

const EPERM = 1;
const ENOSYS = 38;

describe('seccompFilter()', () => {
  test.each([
    ['read', { nr: 0 }, ALLOW],
    ['execve', { nr: 59 }, ALLOW],
    ['clone of a thread', { nr: 56, argument: 0x3d0f00 }, ALLOW],
    ['clone into a user namespace', { nr: 56, argument: 0x1000_0011 }, EPERM],
    ['clone3, whose flags it cannot see', { nr: 435 }, ENOSYS],
    ['mount', { nr: 165 }, EPERM],
    ['unshare', { nr: 272 }, EPERM],
    ['keyctl', { nr: 250 }, EPERM],
    ['bpf', { nr: 321 }, EPERM],
    ['io_uring_setup', { nr: 425 }, EPERM],
    ['ptrace', { nr: 101 }, ALLOW],
    ['chroot, for which it has the capability', { nr: 161 }, ALLOW],
    ['a TCP socket', { nr: 41, argument: 2 }, ALLOW],
    ['a VM socket', { nr: 41, argument: 40 }, EPERM],
    ['personality(PER_LINUX)', { nr: 135, argument: 0 }, ALLOW],
    ['personality(ADDR_NO_RANDOMIZE)', { nr: 135, argument: 0x40000 }, EPERM],
    ['a call of tomorrow', { nr: 600 }, ENOSYS],
    ['a call of x32', { nr: 0x4000_0000 }, ENOSYS],
    ['a 32-bit call', { nr: 0, arch: 0x4000_0003 }, 'kill'],
  ])('by default, %s', (_, call, expected) => {
    expect(answer(DEFAULT_CAPABILITIES, call)).toBe(expected);
  });

  test('a capability gives its calls back', () => {
    const mount = { nr: 165 };
    expect(answer(['SYS_ADMIN'], mount)).toBe(ALLOW);
    expect(answer(['SYS_ADMIN'], { nr: 435 })).toBe(ALLOW);
    expect(answer([], { nr: 161 })).toBe(EPERM);
    expect(answer(['BPF'], { nr: 321 })).toBe(ALLOW);
    // Some are nobody's.
    expect(answer(CAPABILITIES, { nr: 246 })).toBe(EPERM);
  });
});
