/*
 * The agent: does in a machine or container what the host asks for (docs/agent.md). It waits here, in epoll alone, and nothing else that it
 * does waits: so one client, command or file that stands still stops nothing but itself.
 */
#include "connection.h"
#include "process.h"

enum { LISTENER = 3, MOST_EVENTS = 64, MOST_DESCRIPTORS = 65536, BACKLOG = 64 };

int in_machine;
char **own_environment;

static int epoll;
static struct epoll_event events[MOST_EVENTS];
static int events_left, event_at;

static void complain(const char *text) {
  SYS3(write, 2, "agent: ", 7);
  SYS3(write, 2, text, length(text));
  SYS3(write, 2, "\n", 1);
}

static __attribute__((noreturn)) void leave(const char *why) {
  complain(why);
  for (;;) SYS1(exit_group, 1);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

void watch_for(struct waiter *waiter, unsigned wanted) {
  if (wanted == waiter->watched) return;
  struct epoll_event event = {wanted, (__u64)waiter};
  int how = !wanted ? EPOLL_CTL_DEL : waiter->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (SYS4(epoll_ctl, epoll, how, waiter->fd, &event) >= 0 || !wanted) waiter->watched = wanted;
}

void stop_watching(struct waiter *waiter) {
  watch_for(waiter, 0);
  for (int i = event_at; i < events_left; i++)
    if (events[i].data == (__u64)waiter) events[i].data = 0;
}

static __attribute__((noreturn)) void serve(void) {
  for (;;) {
    settle_connections();
    events_left = (int)SYS4(epoll_wait, epoll, events, MOST_EVENTS, -1);
    for (event_at = 0; event_at < events_left;) {
      struct epoll_event *event = &events[event_at++];
      struct waiter *waiter = (struct waiter *)event->data;
      if (waiter) waiter->ready(waiter, event->events);
    }
  }
}

/* --- who connects ------------------------------------------------------------------------------------------------- */

/* A descriptor to give up for a moment when there is no other: a client that is not accepted would be waited for without end. */
static int spare = -1;

static void open_spare(void) {
  spare = (int)SYS3(open, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
}

static void turn_away(int listener) {
  SYS1(close, spare);
  int fd = (int)SYS4(accept4, listener, 0, 0, SOCKET_CLOEXEC);
  if (fd >= 0) SYS1(close, fd);
  open_spare();
}

static void listener_ready(struct waiter *waiter, unsigned what) {
  (void)what;
  struct vsock_address peer = {0};
  int size = sizeof peer;
  int fd = (int)SYS4(accept4, waiter->fd, &peer, &size, SOCKET_NONBLOCK | SOCKET_CLOEXEC);
  if (fd == -EMFILE || fd == -ENFILE) return turn_away(waiter->fd);
  if (fd < 0) return;
  /* A program of the machine itself, by the kernel's loopback, has no right to what the agent may. */
  if (in_machine && peer.cid != VSOCK_HOST) SYS1(close, fd);
  else serve_connection(fd);
}

/* What a socket says of itself, or -1. */
static int socket_fact(int fd, int option) {
  int value = 0, size = sizeof value;
  return SYS5(getsockopt, fd, SOCKET_LEVEL, option, &value, &size) < 0 ? -1 : value;
}

static int listen_on_vsock(void) {
  int fd = (int)SYS3(socket, FAMILY_VSOCK, SOCKET_STREAM | SOCKET_NONBLOCK | SOCKET_CLOEXEC, 0);
  struct vsock_address address = {.family = FAMILY_VSOCK, .port = AGENT_PORT, .cid = VSOCK_ANY};
  if (fd < 0 || SYS3(bind, fd, &address, sizeof address) < 0 || SYS2(listen, fd, BACKLOG) < 0)
    leave("cannot listen: no socket is inherited as descriptor 3, and there is no vsock");
  return fd;
}

/* --- beginning ---------------------------------------------------------------------------------------------------- */

/* Descriptors 0 to 2 are there, that none of the agent's own is taken for one; what else was inherited is closed. */
static int tidy_descriptors(void) {
  int listener = socket_fact(LISTENER, SOCKET_ACCEPTS) > 0 ? LISTENER : -1;
  SYS3(close_range, listener < 0 ? LISTENER : LISTENER + 1, ~0u, 0);
  long fd;
  do fd = SYS3(open, "/dev/null", O_RDWR | O_CLOEXEC, 0);
  while (fd >= 0 && fd < LISTENER);
  if (fd >= LISTENER) SYS1(close, fd);
  if (listener >= 0) {
    SYS3(fcntl, listener, F_SETFD, FD_CLOEXEC);
    SYS3(fcntl, listener, F_SETFL, O_RDWR | O_NONBLOCK);
  }
  return listener;
}

/* Commands begin with what is usual, whatever is ignored where the agent was started. */
static ulong take_signals(void) {
  static const int often_ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU};
  const ulong usual[4] = {0}; /* struct sigaction: SIG_DFL */
  for (ulong i = 0; i < sizeof often_ignored / sizeof *often_ignored; i++)
    SYS4(rt_sigaction, often_ignored[i], usual, 0, sizeof(ulong));
  /* A write to what nobody reads is an error, and no reason to end. */
  const ulong blocked = SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGPIPE) | SIGNAL_BIT(SIGHUP);
  SYS4(rt_sigprocmask, SIGNALS_SET, &blocked, 0, sizeof blocked);
  return SIGNAL_BIT(SIGCHLD);
}

static void children_ready(struct waiter *waiter, unsigned what) {
  (void)what;
  struct signalfd_siginfo information;
  SYS3(read, waiter->fd, &information, sizeof information);
  reap_processes();
}

__attribute__((noreturn)) void run_agent(char **environment) {
  static struct waiter listener = {listener_ready, -1, 0}, children = {children_ready, -1, 0};
  own_environment = environment;
  listener.fd = tidy_descriptors();
  if (listener.fd < 0) listener.fd = listen_on_vsock();
  in_machine = socket_fact(listener.fd, SOCKET_FAMILY) == FAMILY_VSOCK;
  ulong children_set = take_signals();
  children.fd = (int)SYS4(signalfd4, -1, &children_set, sizeof children_set, O_CLOEXEC | O_NONBLOCK);
  epoll = (int)SYS1(epoll_create1, EPOLL_CLOEXEC);
  if (children.fd < 0 || epoll < 0) leave("no memory to begin with");
  open_spare();
  prepare_processes(MOST_DESCRIPTORS);
  watch_for(&listener, EPOLLIN);
  watch_for(&children, EPOLLIN);
  serve();
}
