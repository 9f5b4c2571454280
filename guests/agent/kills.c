/* Kills for want of memory, as far as the kernel counts them where the agent is. */
#include "process.h"

enum { TEXT_BYTES = 16384 };

/* The number in the line that begins with `name`. */
static ulong count_in(const char *text, const char *name) {
  for (const char *at = text; *at; at++) {
    const char *value = at == text || at[-1] == '\n' ? after(at, name) : 0;
    if (value) return number(&value);
  }
  return 0;
}

/* A machine's kernel counts in /proc/vmstat; in a container that is the host's, and its own cgroup counts (version 2 only). */
ulong memory_kills(void) {
  static int fd = -1;
  static char text[TEXT_BYTES];
  if (fd < 0) fd = (int)SYS3(open, in_machine ? "/proc/vmstat" : "/sys/fs/cgroup/memory.events", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  ssize size = SYS4(pread64, fd, text, sizeof text - 1, 0);
  text[size < 0 ? 0 : size] = 0;
  return count_in(text, "oom_kill ");
}

/* A kill is counted before its process is dead, and for one command only. A shell tells by its status of a command of its own. */
int ended_for_memory(const struct process *process) {
  static ulong told;
  int killed = (process->status & 0x7f) == SIGKILL || process->status >> 8 == 128 + SIGKILL;
  if (!killed || process->killed_by_host) return 0;
  if (told < process->kills) told = process->kills;
  if (memory_kills() <= told) return 0;
  told++;
  return 1;
}
