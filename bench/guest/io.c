/*
 * What the throughput benchmarks run in the guest: one program, no library, nothing that would be measured beside the
 * device. The lines `<begin>` and `<end NANOSECONDS>` enclose the work; the time is the guest's own.
 *
 *   io write BYTES                                      to stdout
 *   io read|write DEVICE sequential|random BLOCK_BYTES COUNT DEPTH   with O_DIRECT, DEPTH requests at a time
 *   io send|receive ADDRESS PORT BYTES                  over TCP to an IPv4 address, or over vsock to a CID
 *   io ping ADDRESS PORT COUNT                          a byte there and back, COUNT times
 *   io create DIRECTORY COUNT                           files of 4 KiB
 *   io load FILE                                        all of it, by way of the page cache
 */
#include <linux/aio_abi.h>

#include "../../guests/init/sys.h"

enum { WRITE_BYTES = 4096, BUFFER_BYTES = 4 << 20, MAX_DEPTH = 64 };

static char buffer[BUFFER_BYTES] __attribute__((aligned(4096)));

void *memcpy(void *to, const void *from, ulong size) {
  void *result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return result;
}

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

/* Of linux/socket.h, linux/tcp.h and linux/vm_sockets.h, which cannot be included without a C library. */
enum { AF_INET = 2, AF_VSOCK = 40, SOCK_STREAM = 1, SHUT_WR = 1, IPPROTO_TCP = 6, TCP_NODELAY = 1 };
enum { CHUNK_BYTES = 64 << 10 };

static int dial(const char *address, ulong port) {
  int fd;
  long error;
  if (contains(address, '.')) {
    struct {
      unsigned short family;
      unsigned char port[2], address[4];
      char zero[8];
    } inet = {.family = AF_INET, .port = {(unsigned char)(port >> 8), (unsigned char)port}};
    for (int i = 0; i < 4; i++, address += *address == '.') inet.address[i] = (unsigned char)number(&address);
    fd = (int)SYS3(socket, AF_INET, SOCK_STREAM, 0);
    int one = 1;
    SYS5(setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    error = SYS3(connect, fd, &inet, sizeof inet);
  } else {
    struct {
      unsigned short family, reserved;
      unsigned port, cid, flags;
    } vm = {.family = AF_VSOCK, .port = (unsigned)port, .cid = (unsigned)number(&address)};
    fd = (int)SYS3(socket, AF_VSOCK, SOCK_STREAM, 0);
    error = SYS3(connect, fd, &vm, sizeof vm);
  }
  return error ? -1 : fd;
}

/* The other end says one byte when it has everything. */
static int stream(const char *way, const char *address, ulong port, ulong count) {
  memset(buffer, 'x', CHUNK_BYTES);
  int fd = dial(address, port);
  if (fd < 0) return fail("cannot connect");
  begin();
  ulong start = now();
  if (equal(way, "ping")) {
    for (ulong i = 0; i < count; i++)
      if (SYS3(write, fd, buffer, 1) != 1 || SYS3(read, fd, buffer, 1) != 1) return fail("no answer");
  } else if (equal(way, "send")) {
    for (ssize wrote; count; count -= (ulong)wrote)
      if ((wrote = SYS3(write, fd, buffer, count < CHUNK_BYTES ? count : CHUNK_BYTES)) <= 0) return fail("cannot send");
    SYS2(shutdown, fd, SHUT_WR);
    if (SYS3(read, fd, buffer, 1) != 1) return fail("not all was received");
  } else {
    for (ssize got; count; count -= (ulong)got)
      if ((got = SYS3(read, fd, buffer, CHUNK_BYTES)) <= 0) return fail("not all came");
  }
  end(now() - start);
  return 0;
}

static int create(const char *directory, ulong count) {
  static char path[256];
  ulong stem = length(directory);
  if (stem > 200) return fail("the name is too long");
  memcpy(path, directory, stem);
  path[stem] = '/';
  memset(buffer, 'x', WRITE_BYTES);
  begin();
  ulong start = now();
  for (ulong i = 0; i < count; i++) {
    for (ulong digit = 0, rest = i; digit < 6; digit++, rest /= 10) path[stem + 6 - digit] = (char)('0' + rest % 10);
    int fd = (int)SYS3(open, path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || SYS3(write, fd, buffer, WRITE_BYTES) != WRITE_BYTES || SYS1(close, fd)) return fail("cannot create");
  }
  end(now() - start);
  return 0;
}

static int load(const char *path) {
  int fd = (int)SYS3(open, path, O_RDONLY, 0);
  if (fd < 0) return fail("cannot open the file");
  memset(buffer, 0, 1 << 20);
  begin();
  ulong start = now();
  ssize got;
  while ((got = SYS3(read, fd, buffer, 1 << 20)) > 0);
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
  else if (argc == 5) {
    const char *port = argv[3], *count = argv[4];
    status = stream(argv[1], argv[2], number(&port), number(&count));
  } else if (argc == 4 && equal(argv[1], "create")) status = create(argv[2], number(&argv[3]));
  else if (argc == 3 && equal(argv[1], "load")) status = load(argv[2]);
  else fail("usage: see io.c");
  SYS1(exit, status);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call io_main\n");
