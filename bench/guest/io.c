/*
 * What the throughput benchmarks run in the guest: one program, no library, nothing that would be measured beside the
 * device. The lines `<begin>` and `<end NANOSECONDS>` enclose the work; the time is the guest's own.
 *
 *   io write BYTES                                      to stdout
 *   io read|write DEVICE sequential|random BLOCK_BYTES COUNT DEPTH   with O_DIRECT, DEPTH requests at a time
 *   io create DIRECTORY COUNT BYTES                                  files of so many bytes
 *   io cat FILE BLOCK_BYTES                                          through the page cache
 */
#include <linux/aio_abi.h>

#include "measure.h"

enum { WRITE_BYTES = 4096, BUFFER_BYTES = 4 << 20, MAX_DEPTH = 64 };

static char buffer[BUFFER_BYTES] __attribute__((aligned(4096)));

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

/* Small files, as an archive that is unpacked makes them: made, written and closed, one after the other. */
static int create_files(const char *directory, ulong count, ulong bytes) {
  char path[256];
  ulong base = length(directory);
  if (base > 200 || bytes > BUFFER_BYTES) return fail("too long");
  for (ulong i = 0; i < base; i++) path[i] = directory[i];
  path[base] = '/';
  path[base + 7] = 0;
  memset(buffer, 'x', bytes);
  begin();
  ulong start = now();
  for (ulong n = 0; n < count; n++) {
    for (ulong i = 0, rest = n; i < 6; i++, rest /= 10) path[base + 6 - i] = (char)('0' + rest % 10);
    int fd = (int)SYS3(open, path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0 || SYS3(write, fd, buffer, bytes) != (ssize)bytes) return fail("cannot make a file");
    SYS1(close, fd);
  }
  end(now() - start);
  return 0;
}

/* A whole file, as cat reads it. */
static int read_file(const char *path, ulong block_bytes) {
  int fd = (int)SYS3(open, path, O_RDONLY, 0);
  if (fd < 0 || block_bytes > BUFFER_BYTES) return fail("cannot open the file");
  memset(buffer, 0, block_bytes);
  begin();
  ulong start = now();
  ssize got;
  while ((got = SYS3(read, fd, buffer, block_bytes)) > 0);
  if (got < 0) return fail("cannot read");
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
  else if (argc == 5 && equal(argv[1], "create")) status = create_files(argv[2], number(&argv[3]), number(&argv[4]));
  else if (argc == 4 && equal(argv[1], "cat")) status = read_file(argv[2], number(&argv[3]));
  else fail("usage: io write BYTES | read|write DEVICE sequential|random BLOCK_BYTES COUNT DEPTH | create DIR COUNT BYTES | cat FILE BLOCK_BYTES");
  SYS1(exit, status);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call io_main\n");
