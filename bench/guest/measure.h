/* What the programs that run in the guest share: the guest's own clock, and the lines by which the host reads it. */
#ifndef TSVM_MEASURE_H
#define TSVM_MEASURE_H

#include "../../guests/init/sys.h"

void *memset(void *to, int byte, ulong size) {
  void *result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
  return result;
}

static ulong now(void) {
  struct __kernel_timespec time;
  SYS2(clock_gettime, 1 /* CLOCK_MONOTONIC */, &time);
  return (ulong)time.tv_sec * 1000000000 + (ulong)time.tv_nsec;
}

static void begin(void) { SYS3(write, 2, "<begin>\n", 8); }

static void end(ulong nanoseconds) {
  char text[32] = "<end ", digits[20];
  int n = 0, at = 5;
  do digits[n++] = (char)('0' + nanoseconds % 10);
  while (nanoseconds /= 10);
  while (n) text[at++] = digits[--n];
  text[at++] = '>';
  text[at++] = '\n';
  SYS3(write, 2, text, at);
}

static int fail(const char *what) {
  SYS3(write, 2, "io: ", 4);
  SYS3(write, 2, what, length(what));
  SYS3(write, 2, "\n", 1);
  return 1;
}

#endif
