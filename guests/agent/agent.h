/*
 * What the parts of the agent share: main.c waits and serves connections, connection.c has frames and sessions, request.c strings;
 * process.c and terminal.c run commands; files.c, tree.c and watch.c are for files; ports.c for ports. Each operation is a row of operations.c.
 */
#ifndef TSVM_AGENT_H
#define TSVM_AGENT_H

#include "../init/sys.h"
#include "protocol.h"

struct connection;
struct session;

/* One thing that is waited for by epoll. It is within the structure whose it is. */
struct waiter {
  void (*ready)(struct waiter *waiter, unsigned events);
  int fd;
};
/* EPOLLIN and EPOLLOUT as `events`; level-triggered. 0 waits for nothing. */
void watch_for(struct waiter *waiter, unsigned events);
void stop_watching(struct waiter *waiter); /* before its fd is closed */

/* Strings of a request: `option()` is the value of the last `name=`, or 0; options are looked at one by one by next_option(). */
struct request {
  char *name;
  char *options;  /* the first; each ends in NUL, an empty one ends them */
  char *operands; /* the first */
  char *end;      /* after the last NUL */
};
const char *option(const struct request *request, const char *name);
const char *next_option(const struct request *request, const char *before, const char *name); /* before: 0, or the one found last */
/* The number that the option is; -EINVAL if it is none from 0 to `most`; `fallback` without it. */
long number_option(const struct request *request, const char *name, long most, long fallback);
const char *operand(const struct request *request, int index); /* or 0 */

/* What a session does from its request on; members may be 0. The functions are called by connection.c. */
struct operation {
  const char *name;
  const char *options; /* blank-separated names that it takes: others are refused */
  int operands;        /* that it takes; -1: 1 or more */
  /* Begins. Less than 0: errno, which is the last reply with `what`. It may call finish() itself. The request is valid until the session ends. */
  long (*begin)(struct session *session, struct request *request, const char **what);
  /* `size` bytes of STREAM_IN have come; they are valid during the call only. The operation calls consumed() when it is done with them. */
  void (*data)(struct session *session, const char *bytes, ulong size);
  void (*hole)(struct session *session, ulong size);
  void (*end)(struct session *session);                 /* of STREAM_IN */
  void (*room)(struct session *session, int stream);    /* there is room again, after send_data() took less than it was given */
  void (*control)(struct session *session, const char *text); /* one string */
  void (*closed)(struct session *session);              /* always called last: free `own` here. No call for the session is allowed after it */
};

struct session {
  struct connection *connection;
  __u32 id;
  const struct operation *operation;
  void *own; /* the operation's */
};

/* How many of `size` bytes went: what the window of the stream and the connection's buffer have room for. */
ulong send_data(struct session *session, int stream, const char *bytes, ulong size);
ulong room_of(const struct session *session, int stream);
int send_hole(struct session *session, int stream, ulong size); /* 0: no room now; room() will be called */
void send_end(struct session *session, int stream);
void consumed(struct session *session, ulong size); /* of STREAM_IN */
/* Collects strings and sends them: reply_text("id=", ..); the last reply ends the session, whose closed() is called before it returns. */
void reply(struct session *session, const char *const *parts, int last); /* parts: name=, value, name=, value, ..., 0 */
void finish_session(struct session *session, long error, const char *what); /* the last reply: errno= and what=, or nothing */
/* Opens a session of the agent's; 0 if there is no room. */
struct session *open_session(struct connection *connection, const struct operation *operation, void *own, const char *const *strings);

/* Memory by pages, from mmap: 0 if there is none. */
void *allocate(ulong size);
void release(void *memory, ulong size);
char *decimal_long(ulong value, char text[24]); /* where the digits begin */

/* Each part's operations, ended by a row without a name. */
extern const struct operation process_operations[], file_operations[], tree_operations[], watch_operations[], port_operations[];

#endif
