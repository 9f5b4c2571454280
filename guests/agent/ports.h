/* What the parts for ports share. */
#ifndef TSVM_AGENT_PORTS_H
#define TSVM_AGENT_PORTS_H

#include "agent.h"

enum { MAX_PORT = 0xffff };

long begin_ports(struct session *session, struct request *request, const char **what);
void ports_room(struct session *session, int stream);
void close_ports(struct session *session);
long begin_wait_port(struct session *session, struct request *request, const char **what);
void close_wait_port(struct session *session);

#endif
