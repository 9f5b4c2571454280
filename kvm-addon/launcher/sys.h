// System calls without a C library: the launcher stays in memory beside every container, and is executed for each.
#pragma once

#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <stddef.h>
#include <stdint.h>

static inline long sys6(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

#define SYS0(n) sys6(n, 0, 0, 0, 0, 0, 0)
#define SYS1(n, a) sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b) sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c) sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(n, a, b, c, d) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(n, a, b, c, d, e) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

// <signal.h>, <poll.h>, <fcntl.h>, <sys/ioctl.h>, <sys/socket.h>, as Linux has them on x86-64.
typedef uint64_t signal_set;
#define SIGNAL_BIT(n) (1ull << ((n) - 1))
#define SIGHUP 1
#define SIGKILL 9
#define SIGCHLD 17
#define SIGWINCH 28
#define SIG_SETMASK 2
#define ALL_SIGNALS (~0ull)

#define EPERM 1
#define ENOENT 2
#define EINTR 4
#define EAGAIN 11
#define EEXIST 17
#define EXDEV 18
#define ENOTDIR 20
#define EISDIR 21
#define EINVAL 22
#define EPIPE 32
#define ENAMETOOLONG 36
#define ELOOP 40

#define S_IFMT 0170000
#define S_IFIFO 0010000
#define S_IFCHR 0020000
#define S_IFDIR 0040000
#define S_IFBLK 0060000
#define S_IFREG 0100000

struct poll_fd {
  int fd;
  short events, revents;
};
#define POLLIN 1
#define POLLOUT 4
#define POLLERR 8
#define POLLHUP 16
#define POLLRDHUP 0x2000

#define TCGETS 0x5401
#define FIONREAD 0x541b
#define TIOCSCTTY 0x540e
#define TIOCGWINSZ 0x5413
#define TIOCSWINSZ 0x5414
#define TIOCSPTLCK 0x40045431
#define TIOCGPTPEER 0x5441

struct window_size {
  uint16_t rows, columns, x, y;
};

#define AF_UNIX 1
#define SOCK_STREAM 1
#define SOCK_CLOEXEC 02000000
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_CMSG_CLOEXEC 0x40000000

struct io_vector {
  void *base;
  size_t length;
};

struct message {
  void *name;
  int name_length;
  struct io_vector *vectors;
  size_t vector_count;
  void *control;
  size_t control_length;
  int flags;
};

// A control message with one file descriptor in it.
struct fd_message {
  size_t length;
  int level, type;
  int fd;
  int padding;
};
#define FD_MESSAGE_LENGTH (offsetof(struct fd_message, fd) + sizeof(int))

// <linux/sched.h>
struct clone_arguments {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};
#define P_ALL 0
#define WNOHANG 1
