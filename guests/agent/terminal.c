/* Pseudoterminals. */
#include "process.h"

long open_terminal(int ends[2], const struct winsize *size) {
  long master = SYS3(open, "/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0);
  if (master < 0) return master;
  int unlocked = 0;
  long slave = SYS3(ioctl, master, TIOCSPTLCK, &unlocked);
  if (slave >= 0) slave = SYS3(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) {
    SYS1(close, master);
    return slave;
  }
  ends[0] = (int)master;
  ends[1] = (int)slave;
  if (size->ws_row || size->ws_col) set_terminal_size(ends[0], size);
  return 0;
}

void set_terminal_size(int terminal, const struct winsize *size) {
  SYS3(ioctl, terminal, TIOCSWINSZ, size);
}

char end_character(int terminal) {
  struct termios now;
  return SYS3(ioctl, terminal, TCGETS, &now) >= 0 && now.c_lflag & ICANON ? (char)now.c_cc[VEOF] : 0;
}
