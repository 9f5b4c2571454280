/* Bytes that wait, first in, first out, in memory that is there only while some do. */
#ifndef TSVM_AGENT_RING_H
#define TSVM_AGENT_RING_H

#include "agent.h"

struct ring {
  char *bytes;
  ulong size; /* of the memory: set before the first byte comes */
  ulong start, used;
};

/* Appends: -ENOMEM without memory. The caller knows that there is room. */
long ring_put(struct ring *ring, const char *bytes, ulong size);
/* The first bytes that lie together; how many is returned. */
ulong ring_front(const struct ring *ring, const char **bytes);
/* Takes the first ones away. */
void ring_drop(struct ring *ring, ulong size);
/* Gives the memory back, with what is in it. */
void ring_clear(struct ring *ring);

#endif
