/* Connections: bytes to frames and back. What a frame does to its session is in session.c. */
#include "connection.h"

static struct connection *connections;
static int count;

/* --- out ---------------------------------------------------------------------------------------------------------- */

static int put_head(struct connection *connection, __u32 session, int type, int detail, ulong size) {
  if (connection->broken) return 0;
  struct frame_head head = {(__u32)size, session, (__u8)type, (__u8)detail, 0};
  if (OUTPUT_BYTES - connection->output.used < sizeof head + size ||
      ring_put(&connection->output, (const char *)&head, sizeof head) < 0) {
    connection->broken = 1;
    return 0;
  }
  return 1;
}

void put_frame(struct connection *connection, __u32 session, int type, int detail, const void *payload, ulong size) {
  if (put_head(connection, session, type, detail, size) && size) ring_put(&connection->output, payload, size);
}

void put_strings(struct connection *connection, __u32 session, int type, int detail, const char *const *strings, int paired) {
  ulong size = 0;
  for (int i = 0; strings[i]; i++) size += length(strings[i]) + !(paired && i % 2 == 0);
  if (size > MAX_PAYLOAD_BYTES) {
    connection->broken = 1;
    return;
  }
  if (!put_head(connection, session, type, detail, size)) return;
  for (int i = 0; strings[i]; i++)
    ring_put(&connection->output, strings[i], length(strings[i]) + !(paired && i % 2 == 0));
}

static void write_output(struct connection *connection) {
  while (connection->output.used && !connection->broken) {
    const char *bytes;
    ulong size = ring_front(&connection->output, &bytes);
    ssize sent = SYS3(write, connection->waiter.fd, bytes, size);
    if (sent == -EAGAIN) return;
    if (sent > 0) ring_drop(&connection->output, (ulong)sent);
    else if (sent != -EINTR) connection->broken = 1;
  }
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

static int take_frame(struct connection *connection, const struct frame_head *head, const char *payload) {
  if (!connection->greeted) {
    __u32 version;
    if (head->type != FRAME_HELLO || head->session || head->detail || head->length != sizeof version) return 0;
    memcpy(&version, payload, sizeof version);
    connection->greeted = 1;
    return version == AGENT_VERSION;
  }
  if (head->type == FRAME_REQUEST)
    return head->detail <= 1 && take_request(connection, head->session, payload, head->length, head->detail);
  return !connection->collected && take_for_session(connection, head, payload);
}

static int may_take(const struct connection *connection) {
  return !connection->broken && connection->output.used <= STREAMS_BYTES;
}

/* Takes the frames that have come whole, as long as their answers have room. */
static void take_frames(struct connection *connection) {
  ulong at = 0;
  while (may_take(connection)) {
    struct frame_head head;
    ulong left = connection->input_bytes - at;
    if (left < sizeof head) break;
    memcpy(&head, connection->input + at, sizeof head);
    if (head.length > MAX_PAYLOAD_BYTES || head.zero) connection->broken = 1;
    if (connection->broken || left < sizeof head + head.length) break;
    if (!take_frame(connection, &head, connection->input + at + sizeof head)) connection->broken = 1;
    at += sizeof head + head.length;
  }
  connection->input_bytes -= at;
  if (at) move_down(connection->input, connection->input + at, connection->input_bytes);
}

static void connection_ready(struct waiter *waiter, unsigned events) {
  struct connection *connection = (struct connection *)waiter; /* its first member */
  if (!(events & ~(unsigned)EPOLLOUT) || !may_take(connection)) return;
  ssize got = SYS3(read, waiter->fd, connection->input + connection->input_bytes, INPUT_BYTES - connection->input_bytes);
  if (got == -EAGAIN || got == -EINTR) return;
  if (got <= 0) {
    connection->broken = 1;
    return;
  }
  connection->input_bytes += (ulong)got;
  take_frames(connection);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

void serve_connection(int fd) {
  struct connection *connection = count < MAX_CONNECTIONS ? allocate(sizeof *connection) : 0;
  char *input = connection ? allocate(INPUT_BYTES) : 0;
  if (!input) {
    release(connection, sizeof *connection);
    SYS1(close, fd);
    return;
  }
  count++;
  connection->waiter = (struct waiter){connection_ready, fd, 0};
  connection->input = input;
  connection->output.size = OUTPUT_BYTES;
  connection->waiting_end = &connection->waiting;
  connection->last_of_agent = AGENT_SESSION;
  connection->next = connections;
  connection->link = &connections;
  if (connections) connections->link = &connection->next;
  connections = connection;
  const __u32 version = AGENT_VERSION;
  put_frame(connection, 0, FRAME_HELLO, 0, &version, sizeof version);
}

static void end_connection(struct connection *connection) {
  stop_watching(&connection->waiter);
  end_sessions(connection);
  SYS1(close, connection->waiter.fd);
  *connection->link = connection->next;
  if (connection->next) connection->next->link = connection->link;
  ring_clear(&connection->output);
  release(connection->input, INPUT_BYTES);
  release(connection, sizeof *connection);
  count--;
}

/* Lets operations go on where there is room; they may put frames into any connection. */
static void go_on(void) {
  for (struct connection *connection = connections, *next; connection; connection = next) {
    next = connection->next;
    write_output(connection);
    if (connection->output.used <= STREAMS_BYTES / 2) offer_room(connection);
    if (connection->input_bytes >= sizeof(struct frame_head)) take_frames(connection);
    release_sessions(connection);
    if (connection->broken) end_connection(connection);
  }
}

/* Writes, and waits for the rest; whether none has broken by it. */
static int write_all(void) {
  int whole = 1;
  for (struct connection *connection = connections; connection; connection = connection->next) {
    write_output(connection);
    whole &= !connection->broken;
    watch_for(&connection->waiter, (connection->output.used ? EPOLLOUT : 0) | (may_take(connection) ? EPOLLIN : 0));
  }
  return whole;
}

void settle_connections(void) {
  do go_on();
  while (!write_all());
}
