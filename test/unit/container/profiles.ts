/**
 * Default profiles of container engines: names of the system calls of x86-64 that they allow, to compare tsvm's own filter with.
 *
 * On an update, take the names from the source that is named, and change what is named.
 */

export interface Profile {
  readonly source: string;
  /** Calls that everybody may make. */
  readonly allowed: readonly string[];
  /** Calls that one capability allows besides. */
  readonly byCapability: Readonly<Record<string, readonly string[]>>;
  /** Calls that everybody may make, but not with every argument. */
  readonly byArguments: readonly string[];
}

const words = (text: string): string[] => text.trim().split(/\s+/);

export const MOBY: Profile = {
  source:
    'moby/profiles, seccomp/default.json, commit 02e898b137ae, read 2026-11; cd3bed8 of 2026-06 has the same calls',
  allowed: words(`
      accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_adjtime
      clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
      epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
      eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod
      fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
      fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list
      get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid
      getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt
      gettid gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
      io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill
      landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listmount
      listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create
      memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr
      mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
      munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe
      pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease
      process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat
      readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
      rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
      rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
      sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
      sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list
      set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid
      setresuid setreuid setrlimit setsid setsockopt setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown
      sigaltstack signalfd signalfd4 socketpair splice stat statfs statmount statx symlink symlinkat sync sync_file_range
      syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
      timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat uretprobe utime utimensat utimes
      vfork vmsplice wait4 waitid write writev
    `),
  byCapability: {
    BPF: words('bpf'),
    DAC_READ_SEARCH: words('open_by_handle_at'),
    PERFMON: words('perf_event_open'),
    SYSLOG: words('syslog'),
    SYS_ADMIN: words(
      'bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare',
    ),
    SYS_BOOT: words('reboot'),
    SYS_CHROOT: words('chroot'),
    SYS_MODULE: words('delete_module finit_module init_module'),
    SYS_NICE: words('get_mempolicy mbind set_mempolicy set_mempolicy_home_node'),
    SYS_PACCT: words('acct'),
    SYS_PTRACE: words('kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace'),
    SYS_RAWIO: words('ioperm iopl'),
    SYS_TIME: words('clock_settime settimeofday'),
    SYS_TTY_CONFIG: words('vhangup'),
  },
  byArguments: words('clone personality socket'),
};

export const DOCKER_OF_DEBIAN: Profile = {
  source: 'Debian 12: docker.io 20.10.24+dfsg1-1+deb12u1 of 2024-10, profiles/seccomp/default.json',
  allowed: words(`
      accept accept4 access adjtimex alarm arch_prctl bind brk capget capset chdir chmod chown clock_adjtime clock_getres
      clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
      epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve
      execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchown
      fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex
      futex_waitv futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid
      getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit
      getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init
      inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit io_uring_enter
      io_uring_register io_uring_setup ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
      landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat
      madvise membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap
      modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget
      msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat openat2 pause pidfd_open
      pidfd_send_signal pipe pipe2 poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 ptrace
      pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages
      removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
      rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
      sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
      sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
      semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid
      setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid
      setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socket socketpair splice stat statfs
      statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
      timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate
      umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev
    `),
  byCapability: {
    DAC_READ_SEARCH: words('open_by_handle_at'),
    SYSLOG: words('syslog'),
    SYS_ADMIN: words(
      'bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount name_to_handle_at open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare',
    ),
    SYS_BOOT: words('reboot'),
    SYS_CHROOT: words('chroot'),
    SYS_MODULE: words('delete_module finit_module init_module'),
    SYS_NICE: words('get_mempolicy mbind set_mempolicy'),
    SYS_PACCT: words('acct'),
    SYS_PTRACE: words('kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace'),
    SYS_RAWIO: words('ioperm iopl'),
    SYS_TIME: words('clock_settime settimeofday'),
    SYS_TTY_CONFIG: words('vhangup'),
  },
  byArguments: words('clone personality'),
};

export const PODMAN_OF_DEBIAN: Profile = {
  source: 'Debian 12: golang-github-containers-common 0.50.1+ds1-4 of 2023-02, seccomp.json',
  allowed: words(`
      accept accept4 access adjtimex alarm arch_prctl bind brk capget capset chdir chmod chown clock_adjtime clock_getres
      clock_gettime clock_nanosleep clone clone3 close close_range connect copy_file_range creat dup dup2 dup3
      epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
      eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod
      fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsconfig fsetxattr fsmount
      fsopen fspick fstat fstatfs fsync ftruncate futex futimesat get_mempolicy get_robust_list get_thread_area getcpu
      getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid
      getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
      getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
      io_setup io_submit ioctl ioprio_get ioprio_set keyctl kill landlock_add_rule landlock_create_ruleset
      landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat
      madvise mbind membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap
      modify_ldt mount mount_setattr move_mount mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend
      mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
      open open_tree openat openat2 pause pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root pkey_alloc
      pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
      process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv reboot recvfrom
      recvmmsg recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
      rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
      sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
      sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select
      semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_mempolicy set_robust_list set_thread_area
      set_tid_address setfsgid setfsuid setgid setgroups setitimer setns setpgid setpriority setregid setresgid setresuid
      setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd
      signalfd4 socketpair splice stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo syslog tee
      tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
      timerfd_settime times tkill truncate umask umount2 uname unlink unlinkat unshare utime utimensat utimes vfork wait4
      waitid write writev
    `),
  byCapability: {
    DAC_READ_SEARCH: words('open_by_handle_at'),
    SYS_ADMIN: words(
      'bpf fanotify_init lookup_dcookie perf_event_open quotactl setdomainname sethostname setns',
    ),
    SYS_CHROOT: words('chroot'),
    SYS_MODULE: words('delete_module finit_module init_module query_module'),
    SYS_PACCT: words('acct'),
    SYS_PTRACE: words('kcmp process_madvise'),
    SYS_RAWIO: words('ioperm iopl'),
    SYS_TIME: words('clock_settime settimeofday'),
    SYS_TTY_CONFIG: words('vhangup'),
  },
  byArguments: words('personality socket'),
};
