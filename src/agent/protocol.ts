/** Numbers of the protocol between host and agent, as guests/agent/protocol.h has them; docs/agent.md says what they mean. */

export const AGENT_VERSION = 1;
/** Port of the guest's vsock where the agent of a machine listens: "tsvm". */
export const AGENT_PORT = 0x7473766d;
/** Bound of one frame's payload. */
export const MAX_PAYLOAD_BYTES = 64 * 1024;
/** Window of a stream, each way: bytes that may be on their way without a credit. */
export const WINDOW_BYTES = 256 * 1024;
/** Bound of a window with its credits. */
export const MAX_WINDOW_BYTES = 2 ** 32;
export const MAX_REQUEST_BYTES = 4 << 20;
/** Bound of the connections that an agent serves at once. */
export const MAX_CONNECTIONS = 1024;
/** Bound of the sessions of one connection. */
export const MAX_SESSIONS = 1024;
/** Bound of an agent's commands, those that have ended and are kept included. */
export const MAX_PROCESSES = 4096;
/** Bound of the ended commands that an agent keeps to be found. */
export const KEPT_ENDED = 64;
/** Bound of the outputs of those together. */
export const KEPT_ENDED_BYTES = 16 << 20;
/** Bytes of a stream that are kept while nobody reads it: the last ones. */
export const KEPT_BYTES = 1 << 20;

/** Bit of the sessions that the agent opens. */
export const AGENT_SESSION = 0x8000_0000;
/** Greatest number of a session of the host's. */
export const MAX_HOST_SESSION = 0x7fff_ffff;

export const FRAME = {
  HELLO: 1,
  REQUEST: 2,
  REPLY: 3,
  DATA: 4,
  END: 5,
  CREDIT: 6,
  CONTROL: 7,
  CLOSE: 8,
  HOLE: 9,
} as const;

/** `detail` of the last piece of a request, and of a session's last reply. */
export const LAST = 1;

/** Streams of a session: to the agent, and two from it. */
export const STREAM = { IN: 0, OUT: 1, ERROR: 2 } as const;
export const STREAMS = 3;
/** Stream that comes from the agent. */
export type OutputNumber = 1 | 2;
