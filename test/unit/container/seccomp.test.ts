/** The filter, run as the kernel would (Documentation/networking/filter.rst), call by call. */
import { describe, expect, test } from 'vitest';
import { callRules } from '../../../src/container/call-rules.js';
import { CAPABILITIES, type Capability, DEFAULT_CAPABILITIES } from '../../../src/container/capabilities.js';
import { ociSeccomp } from '../../../src/container/oci-bundle.js';
import { seccompFilter } from '../../../src/container/seccomp.js';
import { SYSTEM_CALLS } from '../../../src/container/system-calls.js';
import { DOCKER_OF_DEBIAN, MOBY, PODMAN_OF_DEBIAN, type Profile } from './profiles.js';

const X86_64 = 0xc000_003e;
const ALLOW = 'allow';

interface Call {
  readonly nr: number;
  readonly arch?: number;
  readonly argument?: number;
}

const answer = (capabilities: readonly Capability[], call: Call): string | number =>
  answerOf(seccompFilter(capabilities), call);

/** Answer of the filter to a call: `allow`, `kill`, or the errno. */
function answerOf(
  program: ReturnType<typeof seccompFilter>,
  { nr, arch = X86_64, argument = 0 }: Call,
): string | number {
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
    ['a socket of the kernel’s ciphers', { nr: 41, argument: 38 }, EPERM],
    ['a socket of AF_UNSPEC', { nr: 41, argument: 0 }, EPERM],
    ['a socket of a family of tomorrow', { nr: 41, argument: 46 }, EPERM],
    ['a pair of Unix sockets', { nr: 53, argument: 1 }, ALLOW],
    ['a pair of VM sockets', { nr: 53, argument: 40 }, EPERM],
    ['lsm_get_self_attr', { nr: 459 }, EPERM],
    ['lsm_set_self_attr', { nr: 460 }, EPERM],
    ['lsm_list_modules', { nr: 461 }, EPERM],
    ['uprobe', { nr: 336 }, EPERM],
    ['a number that no call has', { nr: 400 }, ENOSYS],
    ['the first call after the table', { nr: 467 }, ENOSYS],
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

/** Answer of a profile in the runtimes' format to a call, by its name: every rule is one that allows, or is about clone3. */
function ociAnswer(
  { defaultErrnoRet, syscalls }: OciProfile,
  name: string,
  argument: number,
): string | number | undefined {
  const meets = ({ index, op, value, valueTwo = 0 }: OciArgument): boolean =>
    index === 0 && (op === 'SCMP_CMP_EQ' ? argument === value : (argument & value) >>> 0 === valueTwo);
  const rule = syscalls.find(({ names, args = [] }) => names.includes(name) && args.every(meets));
  if (rule === undefined) return defaultErrnoRet;
  return rule.action === 'SCMP_ACT_ALLOW' ? ALLOW : rule.errnoRet;
}

interface OciArgument {
  readonly index: number;
  readonly op: string;
  readonly value: number;
  readonly valueTwo?: number;
}

interface OciProfile {
  readonly defaultErrnoRet: number;
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly OciArgument[];
  }[];
}

describe('ociSeccomp()', () => {
  const ARGUMENTS = [0, 1, 2, 8, 10, 15, 16, 17, 38, 40, 0x11, 0x2_0000, 0x4_0000, 0x1000_0011, 0xffff_ffff];

  test.each([
    ['none', []],
    ['Docker’s', DEFAULT_CAPABILITIES],
    ['SYS_ADMIN', ['SYS_ADMIN']],
    ['all', CAPABILITIES],
  ] as const)('with %s, says of every call what the kernel’s filter says', (_, capabilities) => {
    const program = seccompFilter(capabilities);
    const profile = ociSeccomp(capabilities) as OciProfile;
    const differences = SYSTEM_CALLS.flatMap(({ number, name }) =>
      ARGUMENTS.filter(
        (argument) => ociAnswer(profile, name, argument) !== answerOf(program, { nr: number, argument }),
      ).map((argument) => `${name}(${argument})`),
    );
    expect(differences).toEqual([]);
  });

  test('names only what is allowed, and what has an errno of its own', () => {
    const { syscalls } = ociSeccomp(DEFAULT_CAPABILITIES) as OciProfile;
    expect(ociSeccomp(DEFAULT_CAPABILITIES)).toMatchObject({ defaultAction: 'SCMP_ACT_ERRNO' });
    const refused = syscalls.filter(({ action }) => action !== 'SCMP_ACT_ALLOW');
    expect(refused).toEqual([{ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS }]);
  });
});

describe('SYSTEM_CALLS', () => {
  test('has every number of a run once, with the name that the kernel gives it', () => {
    const numbers = SYSTEM_CALLS.map(({ number }) => number);
    const run = (first: number, last: number) =>
      Array.from({ length: last - first + 1 }, (_, i) => first + i);
    expect(numbers).toEqual([...run(0, 336), ...run(424, 466)]);
    const names = new Map(SYSTEM_CALLS.map(({ number, name }) => [number, name]));
    const landmarks = [100, 200, 322, 335, 435, 451, 466].map((number) => names.get(number));
    expect(landmarks).toEqual(
      ['times', 'tkill', 'execveat', 'uretprobe', 'clone3', 'cachestat'].concat('removexattrat'),
    );
    expect(new Set(names.values()).size).toBe(names.size);
  });
});

describe('compared with the profiles of engines', () => {
  /** Names of calls that are allowed, whatever their arguments have to be. */
  const allowedHere = (capabilities: readonly Capability[]): string[] =>
    callRules(capabilities).flatMap(({ name, check, errno }) =>
      errno === undefined || check !== undefined ? [name] : [],
    );
  const allowedBy = ({ allowed, byCapability, byArguments }: Profile, has: readonly string[]): Set<string> =>
    new Set([...allowed, ...byArguments, ...has.flatMap((name) => byCapability[name] ?? [])]);
  const compare = (profile: Profile, capabilities: readonly Capability[] = DEFAULT_CAPABILITIES) => {
    const [here, there] = [new Set(allowedHere(capabilities)), allowedBy(profile, capabilities)];
    return {
      onlyHere: [...here].filter((name) => !there.has(name)).sort(),
      onlyThere: [...there].filter((name) => !here.has(name)).sort(),
    };
  };

  test('the same calls are allowed as by Docker, by default and with each capability', () => {
    for (const capabilities of [[], DEFAULT_CAPABILITIES, ...CAPABILITIES.map((one) => [one])]) {
      const { onlyHere, onlyThere } = compare(MOBY, capabilities);
      expect([capabilities, onlyHere, onlyThere]).toEqual([capabilities, [], []]);
    }
  });

  test('Debian’s Docker knows less of new kernels, and allows io_uring, as Docker did until 2023', () => {
    expect(compare(DOCKER_OF_DEBIAN)).toEqual({
      onlyHere: [
        ...['cachestat', 'fchmodat2', 'futex_requeue', 'futex_wait', 'futex_wake', 'getxattrat', 'listmount'],
        ...['listxattrat', 'map_shadow_stack', 'mseal', 'name_to_handle_at'],
        ...['pkey_alloc', 'pkey_free', 'pkey_mprotect', 'process_vm_readv', 'process_vm_writev'],
        ...['removexattrat', 'setxattrat', 'statmount', 'uretprobe'],
      ],
      onlyThere: ['io_uring_enter', 'io_uring_register', 'io_uring_setup'],
    });
  });

  test('Debian’s podman allows namespaces and mounts, which its user namespace holds, and keyrings', () => {
    expect(compare(PODMAN_OF_DEBIAN)).toEqual({
      onlyHere: [
        ...['cachestat', 'fchmodat2', 'futex_requeue', 'futex_wait', 'futex_waitv', 'futex_wake'],
        ...['getxattrat', 'io_pgetevents', 'listmount', 'listxattrat', 'map_shadow_stack', 'mseal'],
        ...['removexattrat', 'setxattrat', 'statmount', 'uretprobe', 'vmsplice'],
      ],
      onlyThere: [
        ...['clone3', 'fsconfig', 'fsmount', 'fsopen', 'fspick', 'get_mempolicy', 'keyctl', 'mbind'],
        ...['mount', 'mount_setattr', 'move_mount', 'open_tree', 'pidfd_getfd', 'pivot_root', 'reboot'],
        ...['set_mempolicy', 'setns', 'syslog', 'umount2', 'unshare'],
      ],
    });
  });
});
