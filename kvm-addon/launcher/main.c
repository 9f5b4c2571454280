// The process that starts a container: reads a plan, makes process 1 in new namespaces, and stays until it has ended.
//
// It is executed by whoever wants a container, so that what becomes the container is not a copy of a large process with
// threads. What it does in the container is decided by the plan alone; it knows no mount, limit or filter.
#include "launcher.h"

// As much as a pipe that is ready takes without waiting: PIPE_BUF.
#define CHUNK_BYTES 4096

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

// What goes one way between the terminals. Nothing here waits for a reader: signals and the end have to be heard meanwhile.
struct direction {
  int from, to; // -1: there will be no more
  size_t held, sent;
  char bytes[CHUNK_BYTES];
};

static struct poll_fd next_of(const struct direction *way) {
  int full = way->held > way->sent;
  return (struct poll_fd){full ? way->to : way->from, full ? POLLOUT : POLLIN, 0};
}

// A read or a write that poll said would not wait; 0 when there will be no more.
static int move(struct direction *way) {
  int full = way->held > way->sent;
  long count = full ? SYS3(__NR_write, way->to, way->bytes + way->sent, way->held - way->sent)
                    : SYS3(__NR_read, way->from, way->bytes, sizeof way->bytes);
  if (count == -EAGAIN || count == -EINTR) return 1;
  if (count <= 0) return 0; // the end; EIO: the last slave is closed; EPIPE: nobody reads any more
  if (full) {
    way->sent += (size_t)count;
  } else {
    way->held = (size_t)count;
    way->sent = 0;
  }
  return 1;
}

static void end_of(struct direction *way) {
  way->from = way->to = -1;
  way->held = way->sent = 0;
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
  static struct direction in, out;
  in.from = terminal < 0 ? -1 : 0, in.to = terminal;
  out.from = terminal, out.to = terminal < 0 ? -1 : 1;
  uint32_t status = 0;
  int ended = 0;
  while (!ended || out.from >= 0) {
    struct poll_fd fds[4] = {
        {signals, POLLIN, 0}, {*abandoned ? -1 : CONTROL_FD, POLLRDHUP, 0}, next_of(&in), next_of(&out)};
    // After the end, what was written before it is there at once.
    long ready = SYS3(__NR_poll, fds, 4, ended && fds[3].events == POLLIN ? 0 : -1);
    if (ready < 0) continue;
    if (ready == 0) break;
    if (fds[1].revents & (POLLHUP | POLLRDHUP | POLLERR)) {
      *abandoned = 1;
      SYS2(__NR_kill, child, SIGKILL);
      end_of(&out);
    }
    if (fds[2].revents && !move(&in)) end_of(&in);
    if (fds[3].revents && out.from >= 0 && !move(&out)) {
      // Without a reader the command loses its terminal, as when a window is closed.
      if (fds[3].events == POLLOUT) SYS1(__NR_close, terminal), end_of(&in);
      end_of(&out);
    }
    if (fds[0].revents && pass_signals(signals, child, terminal, plan)) {
      if (SYS4(__NR_wait4, child, &status, WNOHANG, 0) == child) ended = 1;
    }
  }
  return status;
}

_Noreturn void launch(void) {
  signal_set all = ALL_SIGNALS;
  SYS4(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
  // Whatever else was inherited is nothing for a container.
  SYS3(__NR_close_range, REPORT_FD + 1, ~0u, 0);
  struct plan *plan = read_plan();
  const int F_SETFD = 2, FD_CLOEXEC = 1;
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
