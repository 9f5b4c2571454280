/* The system calls that init makes, raw: no C library, so the whole program is three pages. x86-64 only. */
#ifndef TSVM_SYS_H
#define TSVM_SYS_H

#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/signal.h>
#include <asm/termios.h>
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/random.h>
#include <linux/reboot.h>
#include <linux/time_types.h>
#include <linux/types.h>
#include <linux/wait.h>

typedef unsigned long ulong;
typedef long ssize;

static inline __attribute__((always_inline)) long syscall6(long n, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long ret;
  __asm__ volatile("syscall"
                   : "=a"(ret)
                   : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return ret;
}
#define SYS6(n, a, b, c, d, e, f) \
  syscall6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS5(n, a, b, c, d, e) SYS6(n, a, b, c, d, e, 0)
#define SYS4(n, a, b, c, d) SYS6(n, a, b, c, d, 0, 0)
#define SYS3(n, a, b, c) SYS6(n, a, b, c, 0, 0, 0)
#define SYS2(n, a, b) SYS6(n, a, b, 0, 0, 0, 0)
#define SYS1(n, a) SYS6(n, a, 0, 0, 0, 0, 0)
#define SYS0(n) SYS6(n, 0, 0, 0, 0, 0, 0)

/* The compiler may ask for these by name even without a library. */
void *memcpy(void *to, const void *from, ulong size);
void *memset(void *to, int byte, ulong size);

static inline ulong length(const char *text) {
  ulong n = 0;
  while (text[n]) n++;
  return n;
}

static inline int equal(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

/* What follows `prefix` in `text`, or 0. */
static inline const char *after(const char *text, const char *prefix) {
  while (*prefix)
    if (*text++ != *prefix++) return 0;
  return text;
}

static inline int contains(const char *text, char wanted) {
  for (; *text; text++)
    if (*text == wanted) return 1;
  return 0;
}

/* The number that `text` begins with, which is skipped; ~0 for one that no ulong has. */
static inline ulong number(const char **text) {
  ulong n = 0;
  for (; **text >= '0' && **text <= '9'; (*text)++) {
    ulong digit = (ulong)(**text - '0');
    n = n > (~0ul - digit) / 10 ? ~0ul : n * 10 + digit;
  }
  return n;
}

/* The digits of `value`, which is below 1000. */
static inline char *decimal(unsigned value, char text[4]) {
  char *at = text + 3;
  *at = 0;
  do *--at = (char)('0' + value % 10);
  while (value /= 10);
  return at;
}

/* One line on the console: a list of texts that ends with 0. */
static inline void say(const char *const *texts) {
  SYS3(write, 2, "init: ", 6);
  for (; *texts; texts++) SYS3(write, 2, *texts, length(*texts));
  SYS3(write, 2, "\n", 1);
}
#define SAY(...) say((const char *const[]){__VA_ARGS__, 0})

#endif
