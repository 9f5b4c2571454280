/* What connection.c, session.c and main.c share. */
#ifndef TSVM_AGENT_CONNECTION_H
#define TSVM_AGENT_CONNECTION_H

#include "agent.h"
#include "ring.h"

enum {
  LISTS = 256,           /* of sessions, by the low bits of their numbers */
  INPUT_BYTES = 128 << 10, /* a frame, and the beginning of the next ones */
  /* Streams and requests wait from here on; replies and the ends of streams have the rest, and a client that lets it fill is given up. */
  STREAMS_BYTES = 256 << 10,
  OUTPUT_BYTES = 1 << 20,
};

struct connection {
  struct waiter waiter;
  struct connection *next;
  struct connection **link; /* what points to it */
  char *input;
  ulong input_bytes;
  struct ring output;
  struct session *lists[LISTS];
  struct session *waiting, **waiting_end; /* sessions that want room in `output`, the longest first */
  struct session *collected;              /* the one whose request has not come whole */
  ulong collected_bytes;
  struct session *over;                   /* their memory is released when nothing can look at them any more */
  int sessions;
  __u32 last_of_host, last_of_agent;
  int greeted;
  int broken;
};

/* Begins to serve a client; closes the descriptor if there are too many. */
void serve_connection(int fd);
/* Writes what waits, and ends what is broken. To be called when a round of events is over. */
void settle_connections(void);

/* Appends a frame; the connection is broken if it has no room. */
void put_frame(struct connection *connection, __u32 session, int type, int detail, const void *payload, ulong size);
/* The same for strings that lie apart, ended by 0; paired: each second one goes on where the one before it ends. */
void put_strings(struct connection *connection, __u32 session, int type, int detail, const char *const *strings, int paired);

/* Frames for sessions: 0 if the peer has broken the protocol. */
int take_request(struct connection *connection, __u32 id, const char *payload, ulong size, int last);
int take_for_session(struct connection *connection, const struct frame_head *head, const char *payload);
/* Lets sessions that wait for the buffer go on, the longest waiting first. */
void offer_room(struct connection *connection);
void end_sessions(struct connection *connection);
void release_sessions(struct connection *connection);

#endif
