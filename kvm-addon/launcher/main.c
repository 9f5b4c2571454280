// The process that starts a container: reads a plan, makes process 1 in new namespaces, and stays until it has ended.
//
// It is executed by whoever wants a container, so that what becomes the container is not a copy of a large process with
// threads. What it does in the container is decided by the plan alone; it knows no mount, limit or filter.
#include "launcher.h"

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

// Output that is still read after the end: what a pipe or a terminal holds. A process that outlives process 1 may write for ever.
#define MAX_LEFT_BYTES (1 << 20)

static int pass_signals(int signals, int child, int terminal, const struct plan *plan) {
  uint32_t information[32]; // struct signalfd_siginfo
  uint32_t own = (uint32_t)SYS0(__NR_getpid);
  int ended = 0;
  while (SYS3(__NR_read, signals, information, sizeof information) == sizeof information) {
    int signal = (int)information[0];
    if (signal == SIGCHLD) ended = 1;
    else if (signal == SIGWINCH && terminal >= 0) set_window(terminal, 0, plan);
    else if (information[3] != own) SYS2(__NR_kill, child, signal); // SIGPIPE and SIGXFSZ may be of a write of its own
  }
  return ended;
}

// Moves what comes out of the container. Returns how much was read.
static long move_out(struct direction *way, struct direction *in, int terminal) {
  int writing = way->held > way->sent;
  long count = move(way);
  if (count > 0) return writing ? 0 : (long)way->held;
  if (terminal < 0) {
    // Of a FIFO that nobody reads any more the command hears itself, by its own pipe.
    if (writing && count != -EPIPE) report(REPORT_LOST, 0, 0, (uint32_t)-count);
    SYS1(__NR_close, way->from);
  } else if (writing) {
    // Without a reader the command loses its terminal, as when a window is closed.
    SYS1(__NR_close, terminal);
    end_of(in);
  }
  end_of(way);
  return 0;
}

// Waits for process 1. Returns its status as wait4 has it; *abandoned: whoever asked for the container is gone.
static uint32_t supervise(int child, int signals, int terminal, struct direction *ways, const struct plan *plan,
                          int *abandoned) {
  uint32_t status = 0;
  long left = MAX_LEFT_BYTES;
  int ended = 0;
  struct direction *in = &ways[WAY_IN];
  while (!ended || (left > 0 && (ways[WAY_OUT].from >= 0 || ways[WAY_ERROR].from >= 0))) {
    struct poll_fd fds[2 + WAYS] = {{signals, POLLIN, 0}, {*abandoned ? -1 : CONTROL_FD, POLLRDHUP, 0}};
    int writes = 0;
    for (int i = 0; i < WAYS; i++) {
      fds[2 + i] = next_of(&ways[i]);
      writes |= i != WAY_IN && fds[2 + i].events == POLLOUT;
    }
    // After the end, what was written before it is there at once.
    long ready = SYS3(__NR_poll, fds, 2 + WAYS, ended && !writes ? 0 : -1);
    if (ready < 0) continue;
    if (ready == 0) break;
    if (fds[1].revents & (POLLHUP | POLLRDHUP | POLLERR)) {
      *abandoned = 1;
      SYS2(__NR_kill, child, SIGKILL);
      end_of(&ways[WAY_OUT]), end_of(&ways[WAY_ERROR]);
    }
    for (int i = WAY_OUT; i < WAYS; i++) {
      if (!fds[2 + i].revents || ways[i].from < 0) continue;
      long count = move_out(&ways[i], in, terminal);
      if (ended) left -= count;
    }
    if (fds[2].revents && in->from >= 0 && move(in) <= 0) {
      if (terminal < 0) SYS1(__NR_close, in->to);
      end_of(in);
    }
    if (fds[0].revents && pass_signals(signals, child, terminal, plan)) {
      if (SYS4(__NR_wait4, child, &status, WNOHANG, 0) == child) {
        ended = 1;
        give_back(in);
        end_of(in);
      }
    }
  }
  return status;
}

_Noreturn void launch(void) {
  signal_set all = ALL_SIGNALS;
  SYS4(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
  // What is made in a container has the mode that it is made with, whatever is usual for whoever started it.
  SYS1(__NR_umask, 022);
  // Whatever else was inherited is nothing for a container.
  SYS3(__NR_close_range, REPORT_FD + 1, ~0u, 0);
  seal_program();
  struct plan *plan = read_plan();
  SYS3(__NR_fcntl, CONTROL_FD, F_SETFD, FD_CLOEXEC);
  SYS3(__NR_fcntl, REPORT_FD, F_SETFD, FD_CLOEXEC);
  int signals = (int)SYS4(__NR_signalfd4, -1, &all, sizeof all, O_CLOEXEC | O_NONBLOCK);
  if (signals < 0) fail(LIST_NONE, OWN_SIGNALS, signals);
  int sockets[2] = {-1, -1};
  long error = SYS4(__NR_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets);
  if (error < 0) fail(LIST_NONE, OWN_SOCKETS, error);

  static struct direction ways[WAYS];
  for (int i = 0; i < WAYS; i++) ways[i].pipe = -1, end_of(&ways[i]);
  // With a terminal, that is all that the command gets.
  error = plan->terminal ? 0 : relay_files(ways);
  if (error < 0) fail(LIST_NONE, OWN_STREAMS, error);

  uint32_t failed = 0;
  error = run_steps(plan, &plan->host, &failed);
  if (error < 0) fail(LIST_HOST, failed, error);
  struct clone_arguments arguments = {.flags = plan->clone_flags, .exit_signal = SIGCHLD};
  long child = SYS2(__NR_clone3, &arguments, sizeof arguments);
  if (child < 0) fail(LIST_NONE, OWN_CLONE, child);
  if (child == 0) {
    SYS1(__NR_close, sockets[0]);
    SYS1(__NR_close, signals);
    forget_files(ways);
    be_init(plan, sockets[1]);
  }
  SYS1(__NR_close, sockets[1]);
  error = run_steps(plan, &plan->launcher, &failed);
  if (error < 0) fail(LIST_LAUNCHER, failed, error); // process 1 ends with the control socket
  report(REPORT_CREATED, 0, 0, (uint32_t)child);

  int terminal = plan->terminal ? receive_terminal(sockets[0]) : -1;
  // The command's streams are the command's: whoever reads them sees their end when it closes them.
  for (int fd = 0; fd < 3 && !plan->terminal; fd++) SYS1(__NR_close, fd);
  if (terminal >= 0) {
    ways[WAY_IN].from = 0, ways[WAY_IN].to = terminal;
    ways[WAY_OUT].from = terminal, ways[WAY_OUT].to = without_waiting(1);
  }
  int abandoned = 0;
  uint32_t status = supervise((int)child, signals, terminal, ways, plan, &abandoned);
  if (abandoned) run_steps(plan, &plan->cleanup, &failed);
  leave(shell_status(status));
}

// The stack is aligned to 16 bytes where a process begins; a function expects it 8 below that.
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall launch\n");
