/*
 * The guest's half of test/boot/vsock.test.ts: one program, no library.
 *
 *   vsock echo PORT      says <listening>, and serves one connection after the other: what comes goes back
 *   vsock call PORT      connects to the host, sends standard input, and prints what comes back; status 3 if refused
 *   vsock hold PORT      connects, says <connected>, waits until the connection ends, and says <ended>
 */
#include "../../../guests/init/sys.h"

enum { AF_VSOCK = 40, SOCK_STREAM = 1, SHUT_WR = 1, CID_ANY = -1, CID_HOST = 2, BUFFER_BYTES = 65536 };

/* struct sockaddr_vm (include/uapi/linux/vm_sockets.h), which cannot be included without a C library. */
struct address {
  unsigned short family;
  unsigned short reserved;
  unsigned port;
  unsigned cid;
  unsigned char flags;
  unsigned char zero[3];
};

static char buffer[BUFFER_BYTES];

static void print(const char *text) { SYS3(write, 1, text, length(text)); }

static int fail(const char *what) {
  SYS3(write, 2, "vsock: ", 7);
  SYS3(write, 2, what, length(what));
  SYS3(write, 2, "\n", 1);
  return 1;
}

/* Moves everything from one file to another; negative: an error. */
static long copy(int from, int to) {
  long total = 0;
  for (;;) {
    long count = SYS3(read, from, buffer, BUFFER_BYTES);
    if (count <= 0) return count < 0 ? count : total;
    for (long at = 0; at < count;) {
      long wrote = SYS3(write, to, buffer + at, count - at);
      if (wrote <= 0) return -1;
      at += wrote;
    }
    total += count;
  }
}

static int echo(unsigned port) {
  struct address address = {.family = AF_VSOCK, .port = port, .cid = (unsigned)CID_ANY};
  int listener = (int)SYS3(socket, AF_VSOCK, SOCK_STREAM, 0);
  if (listener < 0) return fail("no sockets of this family");
  if (SYS3(bind, listener, &address, sizeof address) < 0) return fail("cannot bind");
  if (SYS2(listen, listener, 16) < 0) return fail("cannot listen");
  print("<listening>\n");
  for (;;) {
    int connection = (int)SYS3(accept, listener, 0, 0);
    if (connection < 0) return fail("cannot accept");
    copy(connection, connection);
    SYS1(close, connection);
  }
}

static int open_connection(unsigned port) {
  struct address address = {.family = AF_VSOCK, .port = port, .cid = CID_HOST};
  int connection = (int)SYS3(socket, AF_VSOCK, SOCK_STREAM, 0);
  if (connection < 0) return connection;
  long error = SYS3(connect, connection, &address, sizeof address);
  return error < 0 ? (int)error : connection;
}

static int call(unsigned port) {
  int connection = open_connection(port);
  if (connection < 0) {
    fail("refused");
    return 3;
  }
  if (copy(0, connection) < 0) return fail("cannot send");
  SYS2(shutdown, connection, SHUT_WR);
  if (copy(connection, 1) < 0) return fail("cannot receive");
  return 0;
}

static int hold(unsigned port) {
  int connection = open_connection(port);
  if (connection < 0) return fail("refused");
  print("<connected>\n");
  copy(connection, 1);
  print("<ended>\n");
  return 0;
}

__attribute__((used)) static void vsock_main(long *stack) {
  long argc = stack[0];
  const char **argv = (const char **)(stack + 1);
  int status = 2;
  if (argc == 3) {
    const char *text = argv[2];
    unsigned port = (unsigned)number(&text);
    if (equal(argv[1], "echo")) status = echo(port);
    else if (equal(argv[1], "call")) status = call(port);
    else if (equal(argv[1], "hold")) status = hold(port);
  }
  if (status == 2) fail("usage: vsock echo|call|hold PORT");
  SYS1(exit, status);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call vsock_main\n");
