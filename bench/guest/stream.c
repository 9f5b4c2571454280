/*
 * Both ends of a connection, for the throughput and the round trips of networks and vsock. The guest's end measures; the host's
 * end is the same program, so that whoever is compared has the same peer.
 *
 *   stream send|receive|echo tcp|vsock ADDRESS PORT COUNT    COUNT bytes, or round trips of one byte
 *   stream serve tcp|vsock|unix ADDRESS PORT                 one connection after another; ADDRESS of a vsock is ignored
 */
#include "measure.h"

/* Of linux/socket.h and others, which cannot be included without a C library. */
enum { AF_UNIX = 1, AF_INET = 2, AF_VSOCK = 40, SOCK_STREAM = 1, SOL_SOCKET = 1, SO_REUSEADDR = 2, IPPROTO_TCP = 6, TCP_NODELAY = 1 };
enum { VMADDR_CID_ANY = -1U };
enum { BLOCK_BYTES = 256 * 1024, CONNECT_TRIES = 100 };

union address {
  struct {
    unsigned short family, port;
    unsigned char address[4];
    char zero[8];
  } inet;
  struct {
    unsigned short family, reserved;
    unsigned port, cid;
    char zero[4];
  } vm;
  struct {
    unsigned short family;
    char path[108];
  } local;
};

/* What the measuring end asks of the other. */
struct request {
  ulong what, count;
};

static char block[BLOCK_BYTES];

/* Returns the size of the address; 0 if it is none. */
static ulong parse(const char *kind, const char *text, const char *port, union address *to) {
  ulong number_of_port = number(&port);
  memset(to, 0, sizeof *to);
  if (equal(kind, "tcp")) {
    to->inet.family = AF_INET;
    to->inet.port = (unsigned short)(number_of_port >> 8 | number_of_port << 8);
    for (int i = 0; i < 4; i++, text += *text == '.') to->inet.address[i] = (unsigned char)number(&text);
    return sizeof to->inet;
  }
  if (equal(kind, "vsock")) {
    to->vm.family = AF_VSOCK;
    to->vm.port = (unsigned)number_of_port;
    to->vm.cid = *text >= '0' && *text <= '9' ? (unsigned)number(&text) : VMADDR_CID_ANY;
    return sizeof to->vm;
  }
  if (!equal(kind, "unix") || length(text) >= sizeof to->local.path) return 0;
  to->local.family = AF_UNIX;
  for (ulong i = 0; text[i]; i++) to->local.path[i] = text[i];
  return sizeof to->local;
}

static int read_all(int fd, ulong count) {
  while (count) {
    ssize got = SYS3(read, fd, block, count < BLOCK_BYTES ? count : BLOCK_BYTES);
    if (got <= 0) return 0;
    count -= (ulong)got;
  }
  return 1;
}

static int write_all(int fd, ulong count) {
  while (count) {
    ssize put = SYS3(write, fd, block, count < BLOCK_BYTES ? count : BLOCK_BYTES);
    if (put <= 0) return 0;
    count -= (ulong)put;
  }
  return 1;
}

static void no_delay(int fd, const union address *address) {
  int yes = 1;
  if (address->inet.family == AF_INET) SYS5(setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

/* The last byte of a transfer is acknowledged, so that none of it is still under way when the clock is read. */
static int measure(ulong what, ulong count, const union address *address, ulong size) {
  int fd = -1;
  for (int i = 0;; i++) { /* the card may not be up yet */
    fd = (int)SYS3(socket, address->inet.family, SOCK_STREAM, 0);
    if (fd < 0) return fail("no such sockets");
    if (SYS3(connect, fd, address, size) == 0) break;
    SYS1(close, fd);
    if (i == CONNECT_TRIES) return fail("cannot connect");
    struct __kernel_timespec pause = {0, 100000000};
    SYS2(nanosleep, &pause, 0);
  }
  no_delay(fd, address);
  memset(block, 'x', sizeof block); /* page faults are nobody's network */
  struct request request = {what, count};
  begin();
  ulong start = now();
  if (SYS3(write, fd, &request, sizeof request) != sizeof request) return fail("cannot ask");
  int good = 1;
  if (what == 's') good = write_all(fd, count) && read_all(fd, 1);
  else if (what == 'r') good = read_all(fd, count);
  else
    for (ulong i = 0; good && i < count; i++) good = write_all(fd, 1) && read_all(fd, 1);
  if (!good) return fail("the connection broke");
  end(now() - start);
  return 0;
}

static void answer(int fd) {
  struct request request;
  if (SYS3(read, fd, &request, sizeof request) != sizeof request) return;
  if (request.what == 's') {
    if (read_all(fd, request.count)) write_all(fd, 1);
  } else if (request.what == 'r') {
    write_all(fd, request.count);
  } else {
    while (read_all(fd, 1) && write_all(fd, 1));
  }
  SYS3(read, fd, block, 1); /* until it has gone */
}

static int serve(const union address *address, ulong size) {
  int yes = 1, fd = (int)SYS3(socket, address->inet.family, SOCK_STREAM, 0);
  if (fd < 0) return fail("no such sockets");
  SYS5(setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (SYS3(bind, fd, address, size) || SYS2(listen, fd, 8)) return fail("cannot listen");
  SYS3(write, 1, "listening\n", 10);
  for (;;) {
    int connection = (int)SYS3(accept, fd, 0, 0);
    if (connection < 0) return fail("cannot accept");
    no_delay(connection, address);
    answer(connection);
    SYS1(close, connection);
  }
}

__attribute__((used)) static void stream_main(long *stack) {
  long argc = stack[0];
  const char **argv = (const char **)(stack + 1);
  union address address;
  ulong size = argc < 5 ? 0 : parse(argv[2], argv[3], argv[4], &address);
  int status = 2;
  if (size && argc == 5 && equal(argv[1], "serve")) status = serve(&address, size);
  else if (size && argc == 6) status = measure((ulong)argv[1][0], number(&argv[5]), &address, size);
  else fail("usage: stream send|receive|echo tcp|vsock ADDRESS PORT COUNT | stream serve tcp|vsock|unix ADDRESS PORT");
  SYS1(exit, status);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call stream_main\n");
