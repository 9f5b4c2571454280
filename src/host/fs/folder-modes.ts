/** Modes, flags and users of the calls that make, open and change files of a shared folder. */
import { constants } from 'node:fs';
import type { AttributeChanges, FileOwner } from '../../devices/backends/file-system.js';
import { S_IFDIR, S_IFREG } from '../../util/file-mode.js';

const { O_APPEND } = constants;
const PERMISSIONS = 0o777;
const STICKY = 0o1000;

/** Mode without setuid and setgid: what the guest makes must give nobody on the host more than they have. */
export const permissionsOf = (type: number, mode: number): number =>
  mode & (type === S_IFDIR ? PERMISSIONS | STICKY : PERMISSIONS);

/**
 * The user for whom a file gets another group. Its owner may give it to any group that they are in, which the guest's kernel has looked
 * at and FUSE does not tell: the host's is told that it is this one. The owner stays, and the host's kernel asks who that is.
 */
export const asMemberOf = ({ gid }: AttributeChanges, user: FileOwner): FileOwner =>
  gid === undefined ? user : { ...user, gid };

/** Flags without O_APPEND: a page that was mapped is written back where it belongs. Each write says whether it appends. */
export const positioned = (flags: number): number => flags & ~O_APPEND;

/** Flags and permissions of a file that is made and opened. */
export const howToMake = (flags: number, mode: number): [flags: number, permissions: number] => [
  positioned(flags),
  permissionsOf(S_IFREG, mode),
];
