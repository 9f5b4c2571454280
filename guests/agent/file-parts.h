/* What the parts for files share. */
#ifndef TSVM_AGENT_FILE_PARTS_H
#define TSVM_AGENT_FILE_PARTS_H

#include "agent.h"

#include <asm/stat.h>
#include <linux/falloc.h>

enum {
  PATH_BYTES = 4096,
  FACTS_BYTES = 224,
  KIND_MASK = 0170000,
  KIND_FOLDER = 0040000,
  KIND_FILE = 0100000,
  KIND_LINK = 0120000,
  MODE_BITS = 07777,
  UNLIMITED = 0x7fffffff,
};
#define MAX_OFFSET 0x7fffffffffffffffl

/* Facts of an entry, as a text. */
void write_facts(const struct stat *facts, char text[FACTS_BYTES]);
/* Number of a time, SECONDS.NANOSECONDS with nine digits: 0 if it is none. */
int read_time(const char *text, struct __kernel_timespec *time);

/* A descriptor that is always ready: its waiter is called once in each round of events, for what is done step by step. */
long open_turns(void);

#endif
