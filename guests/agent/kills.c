/*
 * Kills for want of memory. A machine's kernel logs them, with the number of the process; in a container the log is the host's, and its own
 * cgroup counts (version 2 only).
 */
#include "process.h"

enum { TEXT_BYTES = 8192, RECENT = 64, FROM_END = 2 /* SEEK_END */ };

/* How many there were, and the last of them: the n-th is at n % RECENT. */
static ulong total;
static long recent[RECENT];

/* After the last `words` in a text; 0 without them. */
static const char *after_last(const char *text, const char *words) {
  const char *found = 0;
  for (; *text; text++) {
    const char *value = after(text, words);
    if (value) found = value;
  }
  return found;
}

static void add_kill(long pid) {
  for (int i = 0; i < RECENT; i++)
    if (recent[i] == pid) return;
  recent[++total % RECENT] = pid;
}

/*
 * Records of /dev/kmsg: "LEVEL,...;TEXT". The kernel logs which one it will kill, but not more than ten in five seconds, and which one it
 * has killed, which may be dead by then. What programs log has a facility, so that its level is 8 or more.
 */
static void read_log(void) {
  static char text[TEXT_BYTES];
  static int fd = -1;
  if (fd < 0) {
    fd = (int)SYS3(open, "/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0) return;
    SYS3(lseek, fd, 0, FROM_END);
  }
  for (;;) {
    ssize size = SYS3(read, fd, text, sizeof text - 1);
    if (size == -EPIPE || size == -EINTR) continue; /* the oldest were overwritten */
    if (size <= 0) return;
    text[size] = 0;
    const char *at = text;
    if (number(&at) >= 8) continue;
    const char *pid = contains(text, ';') ? after_last(text, "Killed process ") : 0;
    if (!pid && after_last(text, ";oom-kill:")) pid = after_last(text, ",pid=");
    if (pid) add_kill((long)number(&pid));
  }
}

static void read_count(void) {
  static char text[TEXT_BYTES];
  static int fd = -1;
  if (fd < 0) fd = (int)SYS3(open, "/sys/fs/cgroup/memory.events", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  ssize size = SYS4(pread64, fd, text, sizeof text - 1, 0);
  text[size < 0 ? 0 : size] = 0;
  const char *count = after_last(text, "\noom_kill ");
  if (count) total = number(&count);
}

ulong memory_kills(void) {
  if (in_machine) read_log();
  else read_count();
  return total;
}

/* Whether it is among the last ones, since it began. */
static int was_killed(const struct process *process) {
  for (ulong i = total; i > process->kills && total - i < RECENT; i--)
    if (recent[i % RECENT] == process->pid) return 1;
  return 0;
}

/* A shell tells by its status of a command of its own. Where nothing says which one it was, each kill is told of one command only. */
int ended_for_memory(const struct process *process) {
  static ulong told;
  int killed = (process->status & 0x7f) == SIGKILL, of_child = process->status >> 8 == 128 + SIGKILL;
  if ((!killed && !of_child) || process->killed_by_host) return 0;
  ulong now = memory_kills();
  if (in_machine && killed) return was_killed(process);
  if (told < process->kills) told = process->kills;
  if (now <= told) return 0;
  told++;
  return 1;
}
