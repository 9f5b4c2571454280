/**
 * The filter of system calls (seccomp(2)) as rules that a filter of the kernel's and a profile of another runtime are made from:
 * what is in the table of calls and is a container's to make is allowed, and nothing else.
 *
 * A refused call fails with EPERM. One that the table does not know fails with ENOSYS, which is how a program learns to use an older
 * one. docs/decisions/0007-containers.md says why no library composes the filter.
 */

import type { Capability } from './capabilities.js';
import { CLONE, ERRNO } from './linux.js';
import { SYSTEM_CALLS } from './system-calls.js';

/** Condition on a call's first argument, of which the kernel reads 32 bits in each of the calls that have one here. */
export type ArgumentCheck =
  | { readonly kind: 'one of'; readonly values: readonly number[] }
  | { readonly kind: 'none of'; readonly bits: number };

export interface CallRule {
  readonly number: number;
  readonly name: string;
  /** Condition that an allowed call has to meet. */
  readonly check?: ArgumentCheck;
  /** The errno of a refusal: of every call, or of those that do not meet the check. Absent: every call is allowed. */
  readonly errno?: number;
}

/**
 * Families of sockets (<linux/socket.h>): UNIX, INET, INET6, NETLINK, PACKET. Every other one is a module that the host's kernel would
 * load for a container, or, as AF_VSOCK and AF_ALG, is held back by no namespace.
 */
const SOCKET_FAMILIES = [1, 2, 10, 16, 17] as const;
/** Personalities that a program may have: PER_LINUX and PER_LINUX32, each with UNAME26; and the question which it is. */
const PERSONALITIES = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] as const;
const NEW_NAMESPACES =
  CLONE.NEWNS | CLONE.NEWCGROUP | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWUSER | CLONE.NEWPID | CLONE.NEWNET;

const CHECKS: ReadonlyMap<string, ArgumentCheck> = new Map<string, ArgumentCheck>([
  ['socket', { kind: 'one of', values: SOCKET_FAMILIES }],
  // It opens a socket of the family before it finds that the family has no pairs.
  ['socketpair', { kind: 'one of', values: SOCKET_FAMILIES }],
  ['personality', { kind: 'one of', values: PERSONALITIES }],
  ['clone', { kind: 'none of', bits: NEW_NAMESPACES }],
]);
/** Capabilities of whoever may make namespaces: no check of clone holds for them. */
const NAMESPACE_MAKERS: readonly Capability[] = ['SYS_ADMIN'];
/** Calls that are refused as if they were not there: clone3's flags are in memory, which a filter cannot read, and C libraries use clone then. */
const AS_IF_NEW = ['clone3'];

/** Rules for a command that has `capabilities`, by the numbers of the calls. */
export function callRules(capabilities: readonly Capability[]): readonly CallRule[] {
  const makesNamespaces = NAMESPACE_MAKERS.some((name) => capabilities.includes(name));
  return SYSTEM_CALLS.map(({ number, name, allowedTo }): CallRule => {
    const allowed = allowedTo === 'everybody' || allowedTo.some((one) => capabilities.includes(one));
    if (!allowed) return { number, name, errno: AS_IF_NEW.includes(name) ? ERRNO.ENOSYS : ERRNO.EPERM };
    const check = name === 'clone' && makesNamespaces ? undefined : CHECKS.get(name);
    return check === undefined ? { number, name } : { number, name, check, errno: ERRNO.EPERM };
  });
}
