/* Sessions: their requests, windows and replies. */
#include "connection.h"
#include "request.h"

enum { CREDIT_BYTES = WINDOW_BYTES / 4, LEAST_BUFFER_BYTES = 4096, MAX_WHAT = 128 };

static const struct operation refused; /* takes nothing */

static struct session **list_of(struct connection *connection, __u32 id) {
  return &connection->lists[id % LISTS];
}

static struct session *find(struct connection *connection, __u32 id) {
  struct session *session = *list_of(connection, id);
  while (session && session->id != id) session = session->next;
  return session;
}

static char *text_of(struct session *session) {
  return (char *)(session + 1);
}

static void add(struct connection *connection, struct session *session, __u32 id) {
  session->connection = connection;
  session->id = id;
  for (int i = 0; i < STREAMS; i++) session->window[i] = WINDOW_BYTES;
  session->next = *list_of(connection, id);
  *list_of(connection, id) = session;
  connection->sessions++;
}

/* It is over: nothing is called for it, and it is found no more. Its memory lasts until the round of events is over. */
static void end(struct session *session) {
  struct connection *connection = session->connection;
  session->over = 1;
  struct session **at = list_of(connection, session->id);
  while (*at != session) at = &(*at)->next;
  *at = session->next;
  session->next = connection->over;
  connection->over = session;
  connection->sessions--;
  if (session->wants_buffer) {
    for (at = &connection->waiting; *at != session; at = &(*at)->next_waiting) {}
    *at = session->next_waiting;
    if (!*at) connection->waiting_end = at;
    session->wants_buffer = 0;
  }
  if (session->operation->closed) session->operation->closed(session);
}

void release_sessions(struct connection *connection) {
  for (struct session *session; (session = connection->over);) {
    connection->over = session->next;
    release(session, session->memory);
  }
}

void end_sessions(struct connection *connection) {
  for (int i = 0; i < LISTS; i++)
    while (connection->lists[i]) end(connection->lists[i]);
  release_sessions(connection);
  if (connection->collected) release(connection->collected, connection->collected->memory);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* Up to its `=`, and not more than fits. */
static void refuse(struct session *session, long error, const char *what) {
  char name[MAX_WHAT];
  ulong n = 0;
  for (; n < sizeof name - 1 && what[n] && what[n] != '='; n++) name[n] = what[n];
  name[n] = 0;
  finish_session(session, error, name);
}

static void begin(struct session *session) {
  struct request *request = &session->request;
  const struct operation *operation = find_operation(request->name);
  if (!operation) return refuse(session, EINVAL, request->name);
  const char *what = unknown_part(request, operation);
  if (what) return refuse(session, EINVAL, what);
  session->operation = operation;
  what = request->name;
  long error = operation->begin(session, request, &what);
  if (error < 0 && !session->over) finish_session(session, -error, what);
}

int take_request(struct connection *connection, __u32 id, const char *payload, ulong size, int last) {
  struct session *session = connection->collected;
  if (!session) {
    if (!id || id >= AGENT_SESSION || id <= connection->last_of_host) return 0;
    connection->last_of_host = id;
    ulong memory = sizeof *session + (last ? size : MAX_REQUEST_BYTES);
    session = allocate(memory);
    if (!session) return 0;
    session->id = id;
    session->memory = memory;
    session->operation = &refused;
    connection->collected = session;
    connection->collected_bytes = 0;
  }
  if (id != session->id || size > MAX_REQUEST_BYTES - connection->collected_bytes) return 0;
  memcpy(text_of(session) + connection->collected_bytes, payload, size);
  connection->collected_bytes += size;
  if (!last) return 1;
  connection->collected = 0;
  add(connection, session, id);
  if (!parse_request(&session->request, text_of(session), connection->collected_bytes)) return 0;
  if (connection->sessions > MAX_SESSIONS) refuse(session, EAGAIN, "sessions");
  else begin(session);
  return 1;
}

struct session *open_session(struct connection *connection, const struct operation *operation, void *own,
                             const char *const *strings) {
  if (connection->broken || connection->sessions >= MAX_SESSIONS || connection->output.used > STREAMS_BYTES ||
      connection->last_of_agent == ~0u)
    return 0;
  struct session *session = allocate(sizeof *session);
  if (!session) return 0;
  session->memory = sizeof *session;
  session->operation = operation;
  session->own = own;
  add(connection, session, ++connection->last_of_agent);
  put_strings(connection, session->id, FRAME_REQUEST, 1, strings, 0);
  return session;
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

static int take_data(struct session *session, const char *bytes, ulong size) {
  if (!session->operation->data || session->received_end || !size || size > session->window[STREAM_IN]) return 0;
  session->window[STREAM_IN] -= size;
  session->operation->data(session, bytes, size);
  return 1;
}

static int take_hole(struct session *session, const char *payload, ulong size) {
  __u64 hole;
  if (!session->operation->hole || session->received_end || size != sizeof hole) return 0;
  memcpy(&hole, payload, sizeof hole);
  if (!hole) return 0;
  session->operation->hole(session, hole);
  return 1;
}

static int take_credit(struct session *session, int stream, const char *payload, ulong size) {
  __u32 credit;
  if (stream == STREAM_IN || stream >= STREAMS || size != sizeof credit) return 0;
  memcpy(&credit, payload, sizeof credit);
  if (!credit || session->window[stream] + credit > 1ul << 32) return 0;
  session->window[stream] += credit;
  if (session->wants_credit & 1 << stream) {
    session->wants_credit &= (__u8) ~(1 << stream);
    if (session->operation->room) session->operation->room(session, stream);
  }
  return 1;
}

static int take_control(struct session *session, const char *payload, ulong size) {
  if (!session->operation->control || !size || payload[size - 1]) return 0;
  for (const char *at = payload; at < payload + size && !session->over; at += length(at) + 1)
    session->operation->control(session, at);
  return 1;
}

int take_for_session(struct connection *connection, const struct frame_head *head, const char *payload) {
  int of_agent = head->session >= AGENT_SESSION;
  __u32 last = of_agent ? connection->last_of_agent : connection->last_of_host;
  if (!head->session || head->session == AGENT_SESSION || head->session > last) return 0;
  if (head->type < FRAME_REPLY || head->type > FRAME_HOLE) return 0;
  struct session *session = find(connection, head->session);
  if (!session) return 1;
  if (head->type != FRAME_CREDIT && head->detail > (head->type == FRAME_REPLY)) return 0;
  switch (head->type) {
    case FRAME_DATA: return take_data(session, payload, head->length);
    case FRAME_HOLE: return take_hole(session, payload, head->length);
    case FRAME_CREDIT: return take_credit(session, head->detail, payload, head->length);
    case FRAME_END:
      if (head->length || session->received_end) return 0;
      session->received_end = 1;
      if (session->operation->end) session->operation->end(session);
      return 1;
    case FRAME_REPLY:
      if (!of_agent) return 0;
      if (head->detail) end(session);
      return 1;
    case FRAME_CONTROL: return !of_agent && take_control(session, payload, head->length);
    default: /* CLOSE */
      if (of_agent || head->length) return 0;
      end(session);
      return 1;
  }
}

/* --- what operations send ----------------------------------------------------------------------------------------- */

ulong room_of(struct session *session, int stream) {
  struct connection *connection = session->connection;
  if (session->over || connection->broken) return 0;
  ulong used = connection->output.used;
  ulong buffer = used < STREAMS_BYTES - LEAST_BUFFER_BYTES ? STREAMS_BYTES - used : 0;
  ulong window = session->window[stream];
  if (window <= buffer && window < MAX_PAYLOAD_BYTES) {
    session->wants_credit |= (__u8)(1 << stream);
  } else if (buffer < MAX_PAYLOAD_BYTES) {
    if (!session->wants_buffer) {
      session->next_waiting = 0;
      *connection->waiting_end = session;
      connection->waiting_end = &session->next_waiting;
    }
    session->wants_buffer |= (__u8)(1 << stream);
  }
  return window < buffer ? window : buffer;
}

void offer_room(struct connection *connection) {
  /* It ends: what waits again has filled the buffer. */
  while (connection->waiting && connection->output.used < STREAMS_BYTES / 2) {
    struct session *session = connection->waiting;
    connection->waiting = session->next_waiting;
    if (!connection->waiting) connection->waiting_end = &connection->waiting;
    unsigned streams = session->wants_buffer;
    session->wants_buffer = 0;
    for (int i = 0; i < STREAMS && !session->over; i++)
      if (streams & 1u << i && session->operation->room) session->operation->room(session, i);
  }
}

ulong send_data(struct session *session, int stream, const char *bytes, ulong size) {
  ulong sent = 0;
  while (sent < size) {
    ulong piece = room_of(session, stream);
    if (piece > size - sent) piece = size - sent;
    if (piece > MAX_PAYLOAD_BYTES) piece = MAX_PAYLOAD_BYTES;
    if (!piece) break;
    put_frame(session->connection, session->id, FRAME_DATA, stream, bytes + sent, piece);
    session->window[stream] -= piece;
    sent += piece;
  }
  return sent;
}

int send_hole(struct session *session, int stream, ulong size) {
  __u64 hole = size;
  if (!room_of(session, stream)) return 0;
  put_frame(session->connection, session->id, FRAME_HOLE, stream, &hole, sizeof hole);
  return 1;
}

void send_end(struct session *session, int stream) {
  if (session->over || session->sent_end & 1 << stream) return;
  session->sent_end |= (__u8)(1 << stream);
  put_frame(session->connection, session->id, FRAME_END, stream, 0, 0);
}

void consumed(struct session *session, ulong size) {
  if (session->over) return;
  session->uncredited += size;
  if (session->uncredited < CREDIT_BYTES || session->received_end) return;
  __u32 credit = (__u32)session->uncredited;
  session->window[STREAM_IN] += credit;
  session->uncredited = 0;
  put_frame(session->connection, session->id, FRAME_CREDIT, STREAM_IN, &credit, sizeof credit);
}

void reply(struct session *session, const char *const *parts, int last) {
  if (session->over) return;
  put_strings(session->connection, session->id, FRAME_REPLY, last, parts, 1);
  if (last) end(session);
}

void finish_session(struct session *session, long error, const char *what) {
  if (session->over) return;
  if (session->id >= AGENT_SESSION) {
    put_frame(session->connection, session->id, FRAME_CLOSE, 0, 0, 0);
    end(session);
    return;
  }
  char digits[24];
  const char *const failed[] = {"errno=", decimal_long((ulong)error, digits), "what=", what, 0};
  reply(session, error ? failed : failed + 4, 1);
}
