// Process 1 of the container: sets it up, starts the command, passes signals on and reaps whoever is orphaned.
#include "launcher.h"

// Above the descriptors that a list's steps put something in the place of.
#define HIGH_FD 10

struct failure {
  uint32_t list, step, error;
};

// Becomes what a list's steps make of it; they end in an execve.
static _Noreturn void become(const struct plan *plan, uint32_t which, const struct list *list, long error, int failure_fd) {
  struct failure failure = {which, 0, 0};
  failure_fd = (int)SYS3(__NR_fcntl, failure_fd, F_DUPFD_CLOEXEC, HIGH_FD);
  if (error >= 0) error = run_steps(plan, list, &failure.step);
  failure.error = (uint32_t)-error;
  SYS3(__NR_write, failure_fd, &failure, sizeof failure);
  leave(127);
}

static void unblock_signals(void) {
  signal_set none = 0;
  SYS4(__NR_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none);
}

static _Noreturn void be_command(const struct plan *plan, int slave, int failure_fd) {
  unblock_signals();
  // With a group of its own, what the command starts can be told from process 1; with a terminal, a session as well.
  long error = slave >= 0 ? take_terminal(slave) : SYS0(__NR_setsid);
  become(plan, LIST_COMMAND, &plan->command, error, failure_fd);
}

// The agent beside a command, whose streams are none of its business.
static _Noreturn void be_agent(const struct plan *plan, int slave, int failure_fd) {
  unblock_signals();
  long error = SYS0(__NR_setsid);
  for (int fd = 0; fd < 3; fd++) SYS1(__NR_close, fd);
  if (slave >= 0) SYS1(__NR_close, slave);
  become(plan, LIST_AGENT, &plan->agent, error, failure_fd);
}

// Waits for whoever ended; whether the command was among them, then with its status.
static int reap(int command, uint32_t *status) {
  int seen = 0;
  for (;;) {
    uint32_t ended;
    long pid = SYS4(__NR_wait4, -1, &ended, WNOHANG, 0);
    if (pid <= 0) return seen;
    if (pid == command) {
      *status = ended;
      seen = 1;
    }
  }
}

void be_init(const struct plan *plan, int socket) {
  const int PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4;
  SYS2(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
  char go;
  if (SYS3(__NR_read, CONTROL_FD, &go, 1) != 1) leave(1);
  SYS1(__NR_close, CONTROL_FD);

  uint32_t failed = 0;
  long error = run_steps(plan, &plan->init, &failed);
  if (error < 0) fail(LIST_INIT, failed, error);
  // Its executable is a file of the host's: nobody in the container may open it through /proc/1/exe. (A change of the user
  // resets this, so it comes after the steps; the death signal as well.)
  SYS2(__NR_prctl, PR_SET_DUMPABLE, 0);
  SYS2(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);

  int slave = -1;
  if (plan->terminal) {
    slave = send_terminal(socket, 0, plan);
    if (slave < 0) fail(LIST_INIT, plan->init.count, slave);
  }
  SYS1(__NR_close, socket);

  int failure_pipe[2];
  error = SYS2(__NR_pipe2, failure_pipe, O_CLOEXEC);
  if (error < 0) fail(LIST_INIT, plan->init.count, error);
  struct clone_arguments arguments = {.exit_signal = SIGCHLD};
  long command = SYS2(__NR_clone3, &arguments, sizeof arguments);
  if (command < 0) fail(LIST_INIT, plan->init.count, command);
  if (command == 0) be_command(plan, slave, failure_pipe[1]);
  if (plan->agent.count > 0) {
    long agent = SYS2(__NR_clone3, &arguments, sizeof arguments);
    if (agent < 0) fail(LIST_INIT, plan->init.count, agent);
    if (agent == 0) be_agent(plan, slave, failure_pipe[1]);
  }
  SYS1(__NR_close, failure_pipe[1]);
  error = run_steps(plan, &plan->keeper, &failed);
  if (error < 0) fail(LIST_KEEPER, failed, error);
  // The ends of the command's streams are the command's only.
  for (int fd = 0; fd < 3; fd++) SYS1(__NR_close, fd);
  if (slave >= 0) SYS1(__NR_close, slave);
  struct failure failure;
  if (SYS3(__NR_read, failure_pipe[0], &failure, sizeof failure) == sizeof failure) {
    fail(failure.list, failure.step, -(long)failure.error);
  }
  SYS1(__NR_close, failure_pipe[0]);
  report(REPORT_RUNNING, 0, 0, 0);

  signal_set all = ALL_SIGNALS;
  uint32_t status = 0;
  while (!reap((int)command, &status)) {
    long signal = SYS4(__NR_rt_sigtimedwait, &all, 0, 0, sizeof all);
    if (signal > 0 && signal != SIGCHLD) SYS2(__NR_kill, command, signal);
  }
  report(REPORT_EXITED, 0, 0, status);
  leave(shell_status(status)); // the kernel ends whoever is left
}
