/* Checks of requests, before an operation has them. */
#ifndef TSVM_AGENT_REQUEST_H
#define TSVM_AGENT_REQUEST_H

#include "agent.h"

/* 0 if the bytes are not the strings of a request. */
int parse_request(struct request *request, char *bytes, ulong size);
/* An option that the operation does not take, or "operands" if their number is not its own; 0 if it takes all. */
const char *unknown_part(const struct request *request, const struct operation *operation);

#endif
