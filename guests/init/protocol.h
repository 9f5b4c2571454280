/* What init and the host have agreed on. src/guest/protocol.ts has the same, and a test of tsvm's compares them; README.md says what it means. */
#ifndef TSVM_PROTOCOL_H
#define TSVM_PROTOCOL_H

/* Version of the channel's protocol; one that reads 0 is from before there were versions, and as 1. */
enum { PROTOCOL_VERSION = 1 };

/* Port I/O through /dev/port: the file offset is the port. */
enum { PORT_MARK = 0x5f0, PORT_EXIT_STATUS = 0x5f1, PORT_VERSION = PORT_EXIT_STATUS, PORT_AGENT = 0x5f2, PORT_SLEEP_CONTROL = 0x600 };
enum { MARK_INIT = 1, MARK_COMMAND = 2, MARK_READY = 3, MARK_DONE = 4, MARK_FULL = 5, MARK_AGENT = 6 };
/* What PORT_MARK reads as when the machine has a channel, or a port to ask for its end. */
enum { OFFER_CHANNEL = 'C', OFFER_STOP_PORT = 'S' };
/* What PORT_AGENT reads as when the machine is to have the agent. */
enum { OFFER_AGENT = 'A' };

/* The channel's ports, by their numbers. */
enum { CONTROL = 1, IN, OUT, ERR, PORTS };

enum {
  MAX_MESSAGE_BYTES = 262144, /* of one message from the host: a command with its environment; untouched bss */
  MAX_ENTROPY_BYTES = 64,
  MAX_GROUPS = 1024, /* of a command's user, its own among them */
};

#endif
