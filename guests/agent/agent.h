/*
 * Parts of the agent, and what they share: main.c waits for descriptors, connection.c reads and writes frames, session.c has sessions and their
 * windows, request.c strings; process.c, streams.c, command.c and terminal.c run commands; files.c, tree.c and watch.c are for files; ports.c
 * for ports. Each part's operations are a table that operations.c names.
 */
#ifndef TSVM_AGENT_H
#define TSVM_AGENT_H

#include "protocol.h"
#include "system.h"

struct connection;
struct session;

/* One thing that is waited for by epoll. It is within the structure whose it is, and is 0 but for the first two members. */
struct waiter {
  void (*ready)(struct waiter *waiter, unsigned events);
  int fd;
  unsigned watched; /* main.c's: the events that epoll has for it */
};
/* EPOLLIN and EPOLLOUT as `events`; level-triggered. 0 waits for nothing. */
void watch_for(struct waiter *waiter, unsigned events);
void stop_watching(struct waiter *waiter); /* before its fd is closed and its memory released; nothing is called for it after that */

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
  const char *options; /* blank-separated names that it takes: others are refused; 0: none */
  int operands;        /* that it takes; -1: 1 or more */
  /* Begins. Less than 0: errno, which is the last reply with `what`. It may call finish() itself. The request is valid until the session ends. */
  long (*begin)(struct session *session, struct request *request, const char **what);
  /* `size` bytes of STREAM_IN have come; they are valid during the call only. The operation calls consumed() when it is done with them. */
  void (*data)(struct session *session, const char *bytes, ulong size);
  void (*hole)(struct session *session, ulong size);
  void (*end)(struct session *session);                 /* of STREAM_IN */
  /* There may be room again: called once after send_data() took less than it was given, or room_of() was below MAX_PAYLOAD_BYTES. */
  void (*room)(struct session *session, int stream);
  void (*control)(struct session *session, const char *text); /* one string */
  /* Always called last, also if begin() failed: free `own` here. No call for the session is allowed in it or after it. */
  void (*closed)(struct session *session);
};

struct session {
  struct connection *connection;
  __u32 id;
  const struct operation *operation;
  void *own; /* the operation's */

  /* Of session.c alone. */
  ulong memory; /* bytes of this structure and the strings of its request behind it */
  struct request request;
  struct session *next;         /* in a list of its connection's table, or of those that are over */
  struct session *next_waiting; /* in the queue for room in its connection's buffer */
  ulong window[STREAMS];        /* that may be sent on each stream; of STREAM_IN that may be received */
  ulong uncredited;             /* bytes of STREAM_IN that are consumed, and not told yet */
  __u8 wants_credit;            /* a bit for each stream that waits for its window */
  __u8 wants_buffer;            /* a bit for each stream that waits for the buffer */
  __u8 sent_end, received_end;  /* a bit for each stream; whether STREAM_IN is at its end */
  __u8 over;
};

/* How many of `size` bytes went: what the window of the stream and the connection's buffer have room for. */
ulong send_data(struct session *session, int stream, const char *bytes, ulong size);
ulong room_of(struct session *session, int stream);
int send_hole(struct session *session, int stream, ulong size); /* 0: no room now; room() will be called */
void send_end(struct session *session, int stream);
void consumed(struct session *session, ulong size); /* of STREAM_IN */
/* The last reply ends the session, whose closed() is called before it returns. */
void reply(struct session *session, const char *const *parts, int last); /* parts: name=, value, name=, value, ..., 0 */
void finish_session(struct session *session, long error, const char *what); /* the last reply: errno= and what=, or nothing */
/*
 * Opens a session of the agent's: `strings` are the whole request, the empty string in it too, and end with 0. Returns 0 if there is no room.
 * finish_session() is its CLOSE, and closed() is called as well when the host ends it by its last reply.
 */
struct session *open_session(struct connection *connection, const struct operation *operation, void *own, const char *const *strings);

/* Memory by pages, from mmap: 0 if there is none. */
void *allocate(ulong size);
void release(void *memory, ulong size);
void move_down(void *to, const void *from, ulong size); /* they may overlap */
char *decimal_long(ulong value, char text[24]); /* where the digits begin */

/* Serves until the machine or container ends. */
__attribute__((noreturn)) void run_agent(char **environment);
/* Whether this is a machine, whose kernel is the agent's own: not a container. */
extern int in_machine;
/* The variables that the agent was started with: commands have them too. */
extern char **own_environment;

/* Each part's operations, ended by a row without a name. */
extern const struct operation process_operations[], file_operations[], content_operations[], tree_operations[], watch_operations[],
    port_operations[];
/* The operation of that name, or 0. */
const struct operation *find_operation(const char *name);

#endif
