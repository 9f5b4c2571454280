/*
 * What the throughput benchmarks run in the guest: one program, no library, nothing that would be measured beside the
 * device. The lines `<begin>` and `<end NANOSECONDS>` enclose the work; the time is the guest's own.
 *
 *   io write BYTES                                      to stdout
 *   io read|write DEVICE sequential|random BLOCK_BYTES COUNT DEPTH   with O_DIRECT, DEPTH requests at a time
 */
#include <linux/aio_abi.h>

#include "../../guests/init/sys.h"

enum { WRITE_BYTES = 4096, BUFFER_BYTES = 4 << 20, MAX_DEPTH = 64 };

static char buffer[BUFFER_BYTES] __attribute__((aligned(4096)));

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
  memset(buffer, 'x', WRITE_BYTES);
  begin();
  ulong start = now();
  while (bytes) {
    ssize wrote = SYS3(write, 1, buffer, bytes < WRITE_BYTES ? bytes : WRITE_BYTES);
    if (wrote <= 0) return fail("write failed");
    bytes -= (ulong)wrote;
  }
  end(now() - start);
  return 0;
}

static int transfer(const char *path, int writing, int random, ulong block_bytes, ulong count, ulong depth) {
  static struct iocb requests[MAX_DEPTH];
  static struct io_event events[MAX_DEPTH];
  if (!depth || depth > MAX_DEPTH || block_bytes * depth > BUFFER_BYTES) return fail("too much at a time");
  int fd = (int)SYS3(open, path, (writing ? O_RDWR : O_RDONLY) | O_DIRECT, 0);
  if (fd < 0) return fail("cannot open the disk");
  ulong blocks = (ulong)SYS3(lseek, fd, 0, 2 /* SEEK_END */) / block_bytes;
  if (!blocks) return fail("the disk is empty");
  aio_context_t context = 0;
  if (SYS2(io_setup, depth, &context)) return fail("io_setup failed");
  memset(buffer, 'x', block_bytes * depth); /* page faults belong to nobody's disk */
  begin();
  ulong seed = 88172645463325252, start = now(), submitted = 0, done = 0, free = depth;
  while (done < count) {
    for (; free && submitted < count; free--, submitted++) {
      /* The slots of what has just ended are at the front of `events`. */
      ulong slot = submitted < depth ? submitted : events[free - 1].data;
      seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
      requests[slot] = (struct iocb){
          .aio_data = slot,
          .aio_lio_opcode = writing ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
          .aio_fildes = (unsigned)fd,
          .aio_buf = (ulong)buffer + slot * block_bytes,
          .aio_nbytes = block_bytes,
          .aio_offset = (long)((random ? seed : submitted) % blocks * block_bytes),
      };
      struct iocb *request = &requests[slot];
      if (SYS3(io_submit, context, 1, &request) != 1) return fail("io_submit failed");
    }
    long ended = SYS5(io_getevents, context, 1, depth, events, 0);
    if (ended < 1) return fail("io_getevents failed");
    for (long i = 0; i < ended; i++)
      if (events[i].res != (long)block_bytes) return fail("a request failed");
    done += (ulong)ended, free = (ulong)ended;
  }
  end(now() - start);
  return 0;
}

__attribute__((used)) static void io_main(long *stack) {
  long argc = stack[0];
  const char **argv = (const char **)(stack + 1);
  int status = 2;
  if (argc == 3 && equal(argv[1], "write")) status = write_stream(number(&argv[2]));
  else if (argc == 7)
    status = transfer(argv[2], equal(argv[1], "write"), equal(argv[3], "random"), number(&argv[4]), number(&argv[5]),
                      number(&argv[6]));
  else fail("usage: io write BYTES | io read|write DEVICE sequential|random BLOCK_BYTES COUNT DEPTH");
  SYS1(exit, status);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call io_main\n");
