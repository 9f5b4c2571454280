// The process that starts a container: reads a plan, makes process 1 in new namespaces, and stays until it has ended.
//
// It is executed by whoever wants a container, so that what becomes the container is not a copy of a large process with
// threads. What it does in the container is decided by the plan alone; it knows no mount, limit or filter.
#include "launcher.h"

#define BUFFER_BYTES 65536

void report(uint32_t kind, uint32_t list, uint32_t step, uint32_t value) {
  struct report message = {kind, list, step, value};
  SYS3(__NR_write, REPORT_FD, &message, sizeof message);
}

void leave(int status) {
  for (;;) SYS1(__NR_exit_group, status);
}

void fail(uint32_t list, uint32_t step, long error) {
  struct report message = {REPORT_FAILED, list, step, (uint32_t)-error};
  SYS3(__NR_write, REPORT_FD, &message, sizeof message);
  leave(125);
}

// Compilers call these for assignments of structures.
void *memcpy(void *to, const void *from, size_t length) {
  for (size_t i = 0; i < length; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}
void *memset(void *to, int byte, size_t length) {
  for (size_t i = 0; i < length; i++) ((char *)to)[i] = (char)byte;
  return to;
}

static void write_whole(int fd, const char *from, long length) {
  while (length > 0) {
    long count = SYS3(__NR_write, fd, from, length);
    if (count == -EAGAIN) {
      struct poll_fd writable = {fd, POLLOUT, 0};
      SYS3(__NR_poll, &writable, 1, -1);
    } else if (count < 0 && count != -EINTR) {
      return; // nobody reads any more
    } else if (count > 0) {
      from += count;
      length -= count;
    }
  }
}

// One transfer between the terminals; 0 when there will be no more.
static int copy(int from, int to) {
  static char buffer[BUFFER_BYTES];
  long count = SYS3(__NR_read, from, buffer, sizeof buffer);
  if (count == -EAGAIN || count == -EINTR) return 1;
  if (count <= 0) return 0; // EIO: the last slave is closed
  write_whole(to, buffer, count);
  return 1;
}

static int pass_signals(int signals, int child, int terminal, const struct plan *plan) {
  uint32_t information[32]; // struct signalfd_siginfo
  int ended = 0;
  while (SYS3(__NR_read, signals, information, sizeof information) == sizeof information) {
    int signal = (int)information[0];
    if (signal == SIGCHLD) ended = 1;
    else if (signal == SIGWINCH && terminal >= 0) set_window(terminal, 0, plan);
    else SYS2(__NR_kill, child, signal);
  }
  return ended;
}

// Waits for process 1. Returns its status as wait4 has it; *abandoned: whoever asked for the container is gone.
static uint32_t supervise(int child, int signals, int terminal, const struct plan *plan, int *abandoned) {
  struct poll_fd fds[4] = {
      {signals, POLLIN, 0}, {CONTROL_FD, POLLRDHUP, 0}, {terminal, POLLIN, 0}, {terminal < 0 ? -1 : 0, POLLIN, 0}};
  uint32_t status = 0;
  for (;;) {
    if (SYS3(__NR_poll, fds, 4, -1) < 0) continue;
    if (fds[1].revents & (POLLHUP | POLLRDHUP | POLLERR)) {
      *abandoned = 1;
      fds[1].fd = -1;
      SYS2(__NR_kill, child, SIGKILL);
    }
    if (fds[2].revents && !copy(terminal, 1)) fds[2].fd = -1;
    if (fds[3].revents && !copy(0, terminal)) fds[3].fd = -1;
    if (fds[0].revents && pass_signals(signals, child, terminal, plan)) {
      if (SYS4(__NR_wait4, child, &status, WNOHANG, 0) == child) break;
    }
  }
  // What was written before the end and not yet read.
  for (struct poll_fd rest = {terminal, POLLIN, 0};
       terminal >= 0 && SYS3(__NR_poll, &rest, 1, 0) == 1 && copy(terminal, 1);) {
  }
  return status;
}

_Noreturn void launch(void) {
  signal_set all = ALL_SIGNALS;
  SYS4(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
  // Whatever else was inherited is nothing for a container.
  SYS3(__NR_close_range, REPORT_FD + 1, ~0u, 0);
  struct plan *plan = read_plan();
  const int O_NONBLOCK = 04000, F_SETFD = 2, FD_CLOEXEC = 1;
  SYS3(__NR_fcntl, CONTROL_FD, F_SETFD, FD_CLOEXEC);
  SYS3(__NR_fcntl, REPORT_FD, F_SETFD, FD_CLOEXEC);
  int signals = (int)SYS4(__NR_signalfd4, -1, &all, sizeof all, O_CLOEXEC | O_NONBLOCK);
  if (signals < 0) fail(LIST_NONE, 1, signals);
  int sockets[2] = {-1, -1};
  long error = SYS4(__NR_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
  if (error < 0) fail(LIST_NONE, 2, error);

  uint32_t failed = 0;
  error = run_steps(plan, &plan->host, &failed);
  if (error < 0) fail(LIST_HOST, failed, error);
  struct clone_arguments arguments = {.flags = plan->clone_flags, .exit_signal = SIGCHLD};
  long child = SYS2(__NR_clone3, &arguments, sizeof arguments);
  if (child < 0) fail(LIST_NONE, 3, child);
  if (child == 0) {
    SYS1(__NR_close, sockets[0]);
    SYS1(__NR_close, signals);
    be_init(plan, sockets[1]);
  }
  SYS1(__NR_close, sockets[1]);
  report(REPORT_CREATED, 0, 0, (uint32_t)child);

  int terminal = plan->terminal ? receive_terminal(sockets[0]) : -1;
  // The command's streams are the command's: whoever reads them sees their end when it closes them.
  for (int fd = 0; fd < 3 && !plan->terminal; fd++) SYS1(__NR_close, fd);
  int abandoned = 0;
  uint32_t status = supervise((int)child, signals, terminal, plan, &abandoned);
  if (abandoned) run_steps(plan, &plan->cleanup, &failed);
  leave(shell_status(status));
}

// The stack is aligned to 16 bytes where a process begins; a function expects it 8 below that.
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall launch\n");
