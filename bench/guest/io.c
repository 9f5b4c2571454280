/*
 * What the throughput benchmarks run in the guest: one program, no library, nothing that would be measured beside the
 * device. The lines `<begin>` and `<end NANOSECONDS>` enclose the work; the time is the guest's own.
 *
 *   io write BYTES                                      to stdout
 *   io read DEVICE sequential|random BLOCK_BYTES COUNT  with O_DIRECT, one request at a time
 */
#include "../../guests/init/sys.h"

enum { WRITE_BYTES = 4096, MAX_BLOCK_BYTES = 1 << 20 };

static char block[MAX_BLOCK_BYTES] __attribute__((aligned(4096)));

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

static int write_stream(ulong bytes) {
  memset(block, 'x', WRITE_BYTES);
  begin();
  ulong start = now();
  while (bytes) {
    ssize wrote = SYS3(write, 1, block, bytes < WRITE_BYTES ? bytes : WRITE_BYTES);
    if (wrote <= 0) return fail("write failed");
    bytes -= (ulong)wrote;
  }
  end(now() - start);
  return 0;
}

static int read_disk(const char *path, int random, ulong block_bytes, ulong count) {
  if (block_bytes > MAX_BLOCK_BYTES) return fail("block too large");
  int fd = (int)SYS3(open, path, O_RDONLY | O_DIRECT, 0);
  if (fd < 0) return fail("cannot open the disk");
  ulong blocks = (ulong)SYS3(lseek, fd, 0, 2 /* SEEK_END */) / block_bytes;
  if (!blocks) return fail("the disk is empty");
  memset(block, 0, block_bytes); /* page faults belong to nobody's disk */
  begin();
  ulong seed = 88172645463325252, start = now();
  for (ulong i = 0; i < count; i++) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    ulong at = (random ? seed : i) % blocks;
    if (SYS4(pread64, fd, block, block_bytes, at * block_bytes) != (long)block_bytes) return fail("read failed");
  }
  end(now() - start);
  return 0;
}

__attribute__((used)) static void io_main(long *stack) {
  long argc = stack[0];
  const char **argv = (const char **)(stack + 1);
  int status = 2;
  if (argc == 3 && equal(argv[1], "write")) status = write_stream(number(&argv[2]));
  else if (argc == 6 && equal(argv[1], "read"))
    status = read_disk(argv[2], equal(argv[3], "random"), number(&argv[4]), number(&argv[5]));
  else fail("usage: io write BYTES | io read DEVICE sequential|random BLOCK_BYTES COUNT");
  SYS1(exit, status);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call io_main\n");
