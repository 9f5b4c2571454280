/* Connections to and from ports: TCP of the loopback interface, and Unix sockets. What listens is in listeners.c. */
#include "ports.h"
#include "ring.h"

enum { BACKLOG = 128, PIECE_BYTES = MAX_PAYLOAD_BYTES, ERROR_OPTION = 4 /* SO_ERROR */, REUSE_OPTION = 2, END_OF_WRITING = 1 };

static char piece[PIECE_BYTES];

/* --- addresses ---------------------------------------------------------------------------------------------------- */

enum { FAMILY_UNIX = 1, FAMILY_V4 = 2, FAMILY_V6 = 10, UNIX_PATH_BYTES = 108 };

struct address {
  union {
    struct { __u16 family, port; __u8 address[4]; __u8 zero[8]; } v4;
    struct { __u16 family, port; __u32 flow; __u8 address[16]; __u32 scope; } v6;
    struct { __u16 family; char path[UNIX_PATH_BYTES]; } local;
  };
  int size;
};

static __u16 swapped(long port) {
  return (__u16)(port << 8 | port >> 8);
}

static struct address v4_address(long port) {
  return (struct address){.v4 = {FAMILY_V4, swapped(port), {127, 0, 0, 1}, {0}}, .size = 16};
}

static struct address v6_address(long port) {
  struct address address = {.v6 = {FAMILY_V6, swapped(port), 0, {0}, 0}, .size = 28};
  address.v6.address[15] = 1;
  return address;
}

static long local_address(const char *path, struct address *address) {
  ulong size = length(path);
  if (!size || size >= UNIX_PATH_BYTES) return -ENAMETOOLONG;
  *address = (struct address){.local = {.family = FAMILY_UNIX}, .size = (int)(2 + size + 1)};
  memcpy(address->local.path, path, size + 1);
  return 0;
}

static long open_socket(int family) {
  return SYS3(socket, family, SOCKET_STREAM | SOCKET_NONBLOCK | SOCKET_CLOEXEC, 0);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

struct port_connection {
  struct waiter waiter;
  struct session *session;
  struct ring queue; /* what the socket has not taken */
  long port;         /* dialled by v4, and by v6 is next; or -1 */
  int connecting, was_offered;
  int reads, input_ended, output_ended, output_shut;
};

static void serve_connection_of(struct port_connection *connection);

static void set_events(struct port_connection *connection) {
  unsigned wanted = 0;
  if (connection->connecting || connection->queue.used) wanted |= EPOLLOUT;
  if (!connection->connecting && connection->reads && !connection->input_ended) wanted |= EPOLLIN;
  watch_for(&connection->waiter, wanted);
}

/* Whether the session goes on: the connection's memory goes with it. The host ends what was offered to it. */
static int end_if_done(struct port_connection *connection) {
  if (!connection->input_ended || !connection->output_shut || connection->was_offered) return 1;
  finish_session(connection->session, 0, 0);
  return 0;
}

static int shut_output(struct port_connection *connection) {
  if (connection->output_shut) return 1;
  connection->output_shut = 1;
  SYS2(shutdown, connection->waiter.fd, END_OF_WRITING);
  return end_if_done(connection);
}

/* Nobody takes it any more: what comes is taken for sent. */
static int drop_output(struct port_connection *connection) {
  ulong size = connection->queue.used;
  ring_clear(&connection->queue);
  consumed(connection->session, size);
  connection->output_shut = 1;
  return end_if_done(connection);
}

static int write_queue(struct port_connection *connection) {
  while (connection->queue.used) {
    const char *bytes;
    ulong size = ring_front(&connection->queue, &bytes);
    long sent = SYS3(write, connection->waiter.fd, bytes, size);
    if (sent == -EINTR) continue;
    if (sent == -EAGAIN) return 1;
    if (sent <= 0) return drop_output(connection);
    ring_drop(&connection->queue, (ulong)sent);
    consumed(connection->session, (ulong)sent);
  }
  ring_clear(&connection->queue);
  return connection->output_ended ? shut_output(connection) : 1;
}

/* It ends: what may be sent without a credit is bounded. */
static int read_socket(struct port_connection *connection) {
  struct session *session = connection->session;
  while (!connection->input_ended) {
    ulong room = room_of(session, STREAM_OUT);
    connection->reads = room != 0;
    if (!room) return 1;
    ssize got = SYS3(read, connection->waiter.fd, piece, room < sizeof piece ? room : sizeof piece);
    if (got == -EINTR) continue;
    if (got == -EAGAIN) return 1;
    if (got < 0) {
      finish_session(session, -got, "read");
      return 0;
    }
    if (got) {
      send_data(session, STREAM_OUT, piece, (ulong)got);
      continue;
    }
    connection->input_ended = 1;
    send_end(session, STREAM_OUT);
    if (!end_if_done(connection)) return 0;
  }
  return 1;
}

static void serve_connection_of(struct port_connection *connection) {
  if (write_queue(connection) && read_socket(connection)) set_events(connection);
}

static void is_connected(struct port_connection *connection) {
  const char *const nothing[] = {0};
  connection->connecting = 0;
  reply(connection->session, nothing, 0);
  serve_connection_of(connection);
}

/* Connects by v4, then by v6: 0 if it is under way or done. */
static long try_connect(struct port_connection *connection, const struct address *address) {
  long fd = open_socket(address->v4.family);
  if (fd < 0) return fd;
  if (connection->waiter.fd >= 0) {
    stop_watching(&connection->waiter);
    SYS1(close, connection->waiter.fd);
  }
  connection->waiter.fd = (int)fd;
  long error = SYS3(connect, fd, address, address->size);
  /* EAGAIN: a Unix socket whose queue is full. */
  if (error < 0 && error != -EINPROGRESS) return error;
  connection->connecting = 1;
  watch_for(&connection->waiter, EPOLLOUT);
  return 0;
}

static long try_v6(struct port_connection *connection, long error) {
  if (connection->port < 0) return error;
  struct address address = v6_address(connection->port);
  connection->port = -1;
  long second = try_connect(connection, &address);
  return second == -EAFNOSUPPORT || second == -EADDRNOTAVAIL ? error : second;
}

static void connection_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  struct port_connection *connection = (struct port_connection *)waiter; /* its first member */
  if (!connection->connecting) return serve_connection_of(connection);
  int error = 0, size = sizeof error;
  SYS5(getsockopt, waiter->fd, SOCKET_LEVEL, ERROR_OPTION, &error, &size);
  if (!error) return is_connected(connection);
  long result = try_v6(connection, -error);
  if (result < 0) finish_session(connection->session, -result, "connect");
}

static struct port_connection *make_connection(void) {
  struct port_connection *connection = allocate(sizeof *connection);
  if (connection)
    *connection = (struct port_connection){
        .waiter = {connection_ready, -1, 0}, .queue = {.size = 2 * WINDOW_BYTES}, .port = -1, .reads = 1};
  return connection;
}

static long begin_dial(struct session *session, struct request *request, const char **what) {
  const char *path = option(request, "path");
  struct port_connection *connection = make_connection();
  if (!connection) return -ENOMEM;
  session->own = connection;
  connection->session = session;
  struct address address;
  *what = "connect";
  if (path) {
    long error = local_address(path, &address);
    return error < 0 ? error : try_connect(connection, &address);
  }
  long port = number_option(request, "port", MAX_PORT, -EINVAL);
  if (port <= 0) return -EINVAL;
  connection->port = port;
  address = v4_address(port);
  long error = try_connect(connection, &address);
  return error < 0 ? try_v6(connection, error) : 0;
}

static void connection_data(struct session *session, const char *bytes, ulong size) {
  struct port_connection *connection = session->own;
  if (connection->output_shut) return consumed(session, size);
  ulong sent = 0;
  if (!connection->connecting && !connection->queue.used) {
    long result = SYS3(write, connection->waiter.fd, bytes, size);
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
      consumed(session, size);
      drop_output(connection);
      return;
    }
    sent = result > 0 ? (ulong)result : 0;
    consumed(session, sent);
  }
  if (sent < size && ring_put(&connection->queue, bytes + sent, size - sent) < 0)
    return finish_session(session, ENOMEM, "write");
  set_events(connection);
}

static void connection_end(struct session *session) {
  struct port_connection *connection = session->own;
  connection->output_ended = 1;
  if (!connection->connecting && !connection->queue.used) shut_output(connection);
}

static void connection_room(struct session *session, int stream) {
  (void)stream;
  struct port_connection *connection = session->own;
  if (connection->connecting) return;
  if (read_socket(connection)) set_events(connection);
}

static void close_port_connection(struct session *session) {
  struct port_connection *connection = session->own;
  if (!connection) return;
  stop_watching(&connection->waiter);
  if (connection->waiter.fd >= 0) SYS1(close, connection->waiter.fd);
  ring_clear(&connection->queue);
  release(connection, sizeof *connection);
}

/* --- offers ------------------------------------------------------------------------------------------------------- */

static const struct operation accepted_operation = {
    .data = connection_data, .end = connection_end, .room = connection_room, .closed = close_port_connection};

struct offer {
  struct waiter waiter;
  struct session *session;
  const char *path; /* of a Unix socket that was made */
};

static void take_connection(struct offer *offer, int fd) {
  char digits[24], text[32] = "offer=";
  const char *from = decimal_long(offer->session->id, digits);
  memcpy(text + 6, from, length(from) + 1);
  const char *const strings[] = {"accepted", text, "", 0};
  struct port_connection *connection = make_connection();
  struct session *session =
      connection ? open_session(offer->session->connection, &accepted_operation, connection, strings) : 0;
  if (!session) {
    release(connection, sizeof *connection);
    SYS1(close, fd);
    return;
  }
  connection->session = session;
  connection->was_offered = 1;
  connection->waiter.fd = fd;
  set_events(connection);
}

static void offer_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  long fd = SYS4(accept4, waiter->fd, 0, 0, SOCKET_NONBLOCK | SOCKET_CLOEXEC);
  if (fd >= 0) take_connection((struct offer *)waiter /* its first member */, (int)fd);
  else if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM) finish_session(((struct offer *)waiter)->session, -fd, "accept");
}

static long listen_at(const struct address *address) {
  long fd = open_socket(address->v4.family);
  if (fd < 0) return fd;
  const int yes = 1;
  SYS5(setsockopt, fd, SOCKET_LEVEL, REUSE_OPTION, &yes, sizeof yes);
  long error = SYS3(bind, fd, address, address->size);
  if (error >= 0) error = SYS2(listen, fd, BACKLOG);
  if (error >= 0) return fd;
  SYS1(close, fd);
  return error;
}

static long begin_offer(struct session *session, struct request *request, const char **what) {
  struct offer *offer = allocate(sizeof *offer);
  if (!offer) return -ENOMEM;
  session->own = offer;
  *offer = (struct offer){.waiter = {offer_ready, -1, 0}, .session = session};
  const char *path = option(request, "path");
  long port = number_option(request, "port", MAX_PORT, path ? 0 : -EINVAL);
  struct address address;
  *what = "listen";
  if (port < 0) return -EINVAL;
  address = v4_address(port);
  long error = path ? local_address(path, &address) : 0;
  if (error < 0) return error;
  long fd = listen_at(&address);
  if (fd < 0) return fd;
  offer->waiter.fd = (int)fd;
  offer->path = path;
  int size = sizeof address.v6;
  if (!path) {
    SYS3(getsockname, fd, &address, &size);
    port = swapped(address.v4.port);
  }
  char digits[24];
  const char *const parts[] = {"port=", decimal_long((ulong)port, digits), 0};
  reply(session, parts, 0);
  watch_for(&offer->waiter, EPOLLIN);
  return 0;
}

static void close_offer(struct session *session) {
  struct offer *offer = session->own;
  if (!offer) return;
  stop_watching(&offer->waiter);
  if (offer->waiter.fd >= 0) SYS1(close, offer->waiter.fd);
  if (offer->path) SYS1(unlink, offer->path);
  release(offer, sizeof *offer);
}

const struct operation port_operations[] = {
    {.name = "dial",
     .options = "port path",
     .begin = begin_dial,
     .data = connection_data,
     .end = connection_end,
     .room = connection_room,
     .closed = close_port_connection},
    {.name = "offer", .options = "port path", .begin = begin_offer, .closed = close_offer},
    {.name = "ports", .begin = begin_ports, .room = ports_room, .closed = close_ports},
    {.name = "wait-port", .options = "port", .begin = begin_wait_port, .closed = close_wait_port},
    {.name = 0},
};
