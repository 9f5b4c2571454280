/** Numbers of Linux on x86-64 that the plans of containers are made of. */

/** arch/x86/entry/syscalls/syscall_64.tbl */
export const SYS = {
  write: 1,
  close: 3,
  ioctl: 16,
  dup2: 33,
  socket: 41,
  bind: 49,
  listen: 50,
  execve: 59,
  fcntl: 72,
  chdir: 80,
  fchdir: 81,
  fchown: 93,
  mkdir: 83,
  rmdir: 84,
  unlink: 87,
  symlink: 88,
  chmod: 90,
  setgroups: 116,
  setresuid: 117,
  setresgid: 119,
  capset: 126,
  mknod: 133,
  pivot_root: 155,
  prctl: 157,
  mount: 165,
  umount2: 166,
  sethostname: 170,
  openat: 257,
  unlinkat: 263,
  symlinkat: 266,
  unshare: 272,
  setns: 308,
  seccomp: 317,
  memfd_create: 319,
  execveat: 322,
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  mount_setattr: 442,
} as const;

/** <asm-generic/errno-base.h> and errno.h */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ENOEXEC: 8,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOSPC: 28,
  EROFS: 30,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  E2BIG: 7,
} as const;

/** <linux/sched.h> */
export const CLONE = {
  NEWNS: 0x0002_0000,
  NEWCGROUP: 0x0200_0000,
  NEWUTS: 0x0400_0000,
  NEWIPC: 0x0800_0000,
  NEWUSER: 0x1000_0000,
  NEWPID: 0x2000_0000,
  NEWNET: 0x4000_0000,
} as const;

/** <linux/mount.h> */
export const MS = {
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
} as const;

/** <linux/mount.h>: what a mount is restricted to. */
export const MOUNT_ATTR = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8 } as const;
export const OPEN_TREE_CLONE = 1;
export const MOVE_MOUNT = { F_EMPTY_PATH: 4, T_EMPTY_PATH: 0x40 } as const;
export const FSOPEN_CLOEXEC = 1;
export const FSMOUNT_CLOEXEC = 1;
export const FSCONFIG = { SET_STRING: 1, CMD_CREATE: 6 } as const;

export const MNT_DETACH = 2;
/** <linux/fcntl.h> */
export const AT_FDCWD = -100;
export const AT_EMPTY_PATH = 0x1000;
export const AT_RECURSIVE = 0x8000;
export const O = {
  WRONLY: 1,
  CREAT: 0o100,
  EXCL: 0o200,
  DIRECTORY: 0o200000,
  NOFOLLOW: 0o400000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
} as const;

/** <linux/memfd.h>, and what of <linux/fcntl.h> seals a file in memory. */
export const MFD = { CLOEXEC: 1, ALLOW_SEALING: 2, EXEC: 16 } as const;
export const F = { ADD_SEALS: 1033 } as const;
/** F_SEAL_SEAL, _SHRINK, _GROW and _WRITE. */
export const SEALS = 15;

/** <linux/un.h>, <linux/net.h> */
export const AF_UNIX = 1;
export const SOCK = { STREAM: 1, CLOEXEC: 0o2000000 } as const;

/** <linux/prctl.h> */
export const PR = {
  SET_PDEATHSIG: 1,
  SET_KEEPCAPS: 8,
  CAPBSET_DROP: 24,
  SET_NO_NEW_PRIVS: 38,
  CAP_AMBIENT: 47,
  CAP_AMBIENT_RAISE: 2,
  CAP_AMBIENT_CLEAR_ALL: 4,
} as const;

/** <asm/signal.h> */
export const SIGKILL = 9;
export const SIGSYS = 31;
/** What a shell adds to a signal's number for a status. */
export const SIGNAL_BASE = 128;
export const SIGWINCH = 28;

/** <linux/sockios.h>, <linux/if.h> */
export const NET = { AF_INET: 2, SOCK_DGRAM: 2, SIOCSIFFLAGS: 0x8914, IFF_UP: 1 } as const;
