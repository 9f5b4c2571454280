// The command's pseudoterminal: made by process 1 in the container's own devpts, handed to the launcher.
#include "launcher.h"

static long transfer(int number, int socket, struct fd_message *control, int flags) {
  char byte = 0;
  struct io_vector vector = {&byte, 1};
  struct message message = {0, 0, &vector, 1, control, sizeof *control, 0};
  return SYS3(number, socket, &message, flags);
}

int send_terminal(int socket, int window_of, const struct plan *plan) {
  int master = (int)SYS4(__NR_openat, slot_value(plan->pts), "ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0);
  if (master < 0) return master;
  int unlocked = 0;
  long error = SYS3(__NR_ioctl, master, TIOCSPTLCK, &unlocked);
  if (error < 0) return (int)error;
  int slave = (int)SYS3(__NR_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) return slave;
  set_window(master, window_of, plan);
  struct fd_message control = {FD_MESSAGE_LENGTH, SOL_SOCKET, SCM_RIGHTS, master, 0};
  error = transfer(__NR_sendmsg, socket, &control, 0);
  if (error < 0) return (int)error;
  SYS1(__NR_close, master);
  return slave;
}

int receive_terminal(int socket) {
  struct fd_message control = {0, 0, 0, -1, 0};
  long count = transfer(__NR_recvmsg, socket, &control, MSG_CMSG_CLOEXEC);
  return count == 1 && control.type == SCM_RIGHTS ? control.fd : -1;
}

void set_window(int terminal, int window_of, const struct plan *plan) {
  struct window_size size = {plan->rows, plan->columns, 0, 0};
  struct window_size seen;
  if (SYS3(__NR_ioctl, window_of, TIOCGWINSZ, &seen) >= 0 && seen.rows != 0) size = seen;
  SYS3(__NR_ioctl, terminal, TIOCSWINSZ, &size);
}

long take_terminal(int slave) {
  SYS0(__NR_setsid);
  for (int fd = 0; fd < 3; fd++) {
    long error = SYS2(__NR_dup2, slave, fd);
    if (error < 0) return error;
  }
  return SYS3(__NR_ioctl, 0, TIOCSCTTY, 0);
}
