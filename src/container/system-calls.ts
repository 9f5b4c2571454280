/**
 * System calls of x86-64, each with who may make it in a container: the judgement of Docker's default profile, call by call
 * (test/unit/container/profiles.ts). What is not in the table is not known to a container.
 */
import { CAPABILITIES, type Capability } from './capabilities.js';

export interface SystemCall {
  readonly number: number;
  readonly name: string;
  /** Capabilities of which one is enough; nobody may make the call if there is none in the list. */
  readonly allowedTo: 'everybody' | readonly Capability[];
}

/** Lines of calls whose numbers follow on each other's, from the first (arch/x86/entry/syscalls/syscall_64.tbl).
 *  `name`: for everybody; `name=A|B`: with capability A or B; `-name`: for nobody. */
const TABLE = `
    0 read write open close stat fstat lstat poll lseek mmap
   10 mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv
   20 writev access pipe select sched_yield mremap msync mincore madvise shmget
   30 shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer getpid
   40 sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind
   50 listen getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve
   60 exit wait4 kill uname semget semop semctl shmdt msgget msgsnd
   70 msgrcv msgctl fcntl flock fsync fdatasync truncate ftruncate getdents getcwd
   80 chdir fchdir rename mkdir rmdir creat link unlink symlink readlink
   90 chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo
  100 times ptrace getuid syslog=SYSLOG|SYS_ADMIN getgid setuid setgid geteuid getegid setpgid
  110 getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid setresgid
  120 getresgid getpgid setfsuid setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo
  130 rt_sigsuspend sigaltstack utime mknod -uselib personality -ustat statfs fstatfs -sysfs
  140 getpriority setpriority sched_setparam sched_getparam sched_setscheduler
  145 sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval mlock
  150 munlock mlockall munlockall vhangup=SYS_TTY_CONFIG modify_ldt
  155 -pivot_root -_sysctl prctl arch_prctl adjtimex
  160 setrlimit chroot=SYS_CHROOT sync acct=SYS_PACCT settimeofday=SYS_TIME
  165 mount=SYS_ADMIN umount2=SYS_ADMIN -swapon -swapoff reboot=SYS_BOOT
  170 sethostname=SYS_ADMIN setdomainname=SYS_ADMIN iopl=SYS_RAWIO ioperm=SYS_RAWIO -create_module
  175 init_module=SYS_MODULE delete_module=SYS_MODULE -get_kernel_syms -query_module quotactl=SYS_ADMIN
  180 -nfsservctl -getpmsg -putpmsg -afs_syscall -tuxcall -security gettid readahead setxattr lsetxattr
  190 fsetxattr getxattr lgetxattr fgetxattr listxattr
  195 llistxattr flistxattr removexattr lremovexattr fremovexattr
  200 tkill time futex sched_setaffinity sched_getaffinity
  205 set_thread_area io_setup io_destroy io_getevents io_submit
  210 io_cancel get_thread_area lookup_dcookie=SYS_ADMIN epoll_create epoll_ctl_old
  215 epoll_wait_old remap_file_pages getdents64 set_tid_address restart_syscall
  220 semtimedop fadvise64 timer_create timer_settime timer_gettime
  225 timer_getoverrun timer_delete clock_settime=SYS_TIME clock_gettime clock_getres
  230 clock_nanosleep exit_group epoll_wait epoll_ctl tgkill
  235 utimes -vserver mbind=SYS_NICE set_mempolicy=SYS_NICE get_mempolicy=SYS_NICE
  240 mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
  245 mq_getsetattr -kexec_load waitid -add_key -request_key
  250 -keyctl ioprio_set ioprio_get inotify_init inotify_add_watch
  255 inotify_rm_watch -migrate_pages openat mkdirat mknodat
  260 fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat
  270 pselect6 ppoll unshare=SYS_ADMIN set_robust_list get_robust_list
  275 splice tee sync_file_range vmsplice -move_pages
  280 utimensat epoll_pwait signalfd timerfd_create eventfd
  285 fallocate timerfd_settime timerfd_gettime accept4 signalfd4
  290 eventfd2 epoll_create1 dup3 pipe2 inotify_init1
  295 preadv pwritev rt_tgsigqueueinfo perf_event_open=PERFMON|SYS_ADMIN recvmmsg
  300 fanotify_init=SYS_ADMIN fanotify_mark prlimit64 name_to_handle_at open_by_handle_at=DAC_READ_SEARCH
  305 clock_adjtime syncfs sendmmsg setns=SYS_ADMIN getcpu
  310 process_vm_readv process_vm_writev kcmp=SYS_PTRACE finit_module=SYS_MODULE sched_setattr
  315 sched_getattr renameat2 seccomp getrandom memfd_create
  320 -kexec_file_load bpf=BPF|SYS_ADMIN execveat -userfaultfd membarrier
  325 mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect
  330 pkey_alloc pkey_free statx io_pgetevents rseq uretprobe -uprobe
  424 pidfd_send_signal -io_uring_setup -io_uring_enter -io_uring_register open_tree=SYS_ADMIN
  429 move_mount=SYS_ADMIN
  430 fsopen=SYS_ADMIN fsconfig=SYS_ADMIN fsmount=SYS_ADMIN fspick=SYS_ADMIN pidfd_open
  435 clone3=SYS_ADMIN close_range openat2 pidfd_getfd=SYS_PTRACE faccessat2
  440 process_madvise=SYS_PTRACE epoll_pwait2 mount_setattr=SYS_ADMIN quotactl_fd=SYS_ADMIN landlock_create_ruleset
  445 landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv
  450 set_mempolicy_home_node=SYS_NICE cachestat fchmodat2 map_shadow_stack futex_wake
  455 futex_wait futex_requeue statmount listmount lsm_get_self_attr=SYS_ADMIN
  460 lsm_set_self_attr=SYS_ADMIN lsm_list_modules=SYS_ADMIN mseal setxattrat getxattrat
  465 listxattrat removexattrat
`;

export const SYSTEM_CALLS: readonly SystemCall[] = TABLE.trim().split('\n').flatMap(callsOf);

function callsOf(line: string): SystemCall[] {
  const [first, ...words] = line.trim().split(/\s+/);
  return words.map((word, i) => ({ number: Number(first) + i, ...judgementOf(word) }));
}

function judgementOf(word: string): Omit<SystemCall, 'number'> {
  if (word.startsWith('-')) return { name: word.slice(1), allowedTo: [] };
  const [name = '', names] = word.split('=');
  return { name, allowedTo: names === undefined ? 'everybody' : names.split('|').map(capabilityOf) };
}

function capabilityOf(text: string): Capability {
  const capability = CAPABILITIES.find((name) => name === text);
  if (capability === undefined) throw new Error(`bug: ${text} is no capability`);
  return capability;
}
