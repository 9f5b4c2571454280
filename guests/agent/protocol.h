/*
 * What the agent and the host have agreed on. src/agent/protocol.ts has the same, and a test compares them; docs/agent.md says what it means.
 */
#ifndef TSVM_AGENT_PROTOCOL_H
#define TSVM_AGENT_PROTOCOL_H

#include <linux/types.h>

enum {
  AGENT_VERSION = 1,
  AGENT_PORT = 0x7473766d,        /* of the guest's vsock; "tsvm" */
  MAX_PAYLOAD_BYTES = 64 * 1024,  /* of one frame */
  WINDOW_BYTES = 256 * 1024,      /* of a stream, each way: what may be on its way without a credit */
  MAX_REQUEST_BYTES = 4 << 20,
  MAX_CONNECTIONS = 1024,
  MAX_SESSIONS = 1024,            /* of one connection */
  MAX_PROCESSES = 4096,           /* that run, or have ended and are kept */
  KEPT_ENDED = 64,                /* processes that have ended, and are kept to be found */
  KEPT_ENDED_BYTES = 16 << 20,    /* of their outputs, together */
  KEPT_BYTES = 1 << 20,           /* of a stream that nobody reads: the last of them */
};

/* Sessions that the agent opens have this bit; the host's do not. */
#define AGENT_SESSION 0x80000000u

enum frame_type {
  FRAME_HELLO = 1,
  FRAME_REQUEST = 2,
  FRAME_REPLY = 3,
  FRAME_DATA = 4,
  FRAME_END = 5,
  FRAME_CREDIT = 6,
  FRAME_CONTROL = 7,
  FRAME_CLOSE = 8,
  FRAME_HOLE = 9,
};

/* Little-endian. `detail` is the number of a stream, or 1 in the last piece of a request and in the last reply of a session, else 0. */
struct frame_head {
  __u32 length; /* of the payload */
  __u32 session;
  __u8 type;
  __u8 detail;
  __u16 zero;
};

enum { STREAM_IN = 0, STREAM_OUT = 1, STREAM_ERROR = 2, STREAMS = 3 };

#endif
