// The program, out of reach: process 1 runs what a file of the host's says, and must not be a way to that file.
//
// It cannot be opened through /proc in the container, since process 1 is not dumpable. Behind that stands this: what runs is a copy in
// memory, sealed, that is nobody else's (CVE-2019-5736 was a runtime overwritten through /proc/PID/exe).
#include "launcher.h"
#include <linux/memfd.h>

#ifndef MFD_EXEC // Linux 6.3
#define MFD_EXEC 16
#endif
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define PR_SET_NAME 15

static long copy_of(int program, size_t size) {
  long copy = SYS2(__NR_memfd_create, "init", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  // Before Linux 6.3 every one may be executed, and nothing need be said.
  if (copy == -EINVAL) copy = SYS2(__NR_memfd_create, "init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (copy < 0) return copy;
  for (size_t left = size; left > 0;) {
    long count = SYS4(__NR_sendfile, copy, program, 0, left);
    if (count <= 0) return count < 0 ? count : -EINVAL;
    left -= (size_t)count;
  }
  long error = SYS3(__NR_fcntl, copy, F_ADD_SEALS, SEALS);
  return error < 0 ? error : copy;
}

void seal_program(void) {
  // By its descriptor the name of the process would be a number.
  SYS2(__NR_prctl, PR_SET_NAME, "container-launc");
  long program = SYS4(__NR_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
  if (program < 0) fail(LIST_NONE, OWN_SEAL, program);
  long seals = SYS2(__NR_fcntl, program, F_GET_SEALS); // EINVAL: a file
  if (seals >= 0 && (seals & SEALS) == SEALS) {
    SYS1(__NR_close, program);
    return;
  }
  struct stat facts;
  long copy = SYS2(__NR_fstat, program, &facts);
  if (copy >= 0) copy = copy_of((int)program, (size_t)facts.st_size);
  if (copy < 0) fail(LIST_NONE, OWN_SEAL, copy);
  const char *arguments[] = {"init", 0}, *environment[] = {0};
  fail(LIST_NONE, OWN_SEAL, SYS5(__NR_execveat, copy, "", arguments, environment, AT_EMPTY_PATH));
}
