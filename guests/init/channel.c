/*
 * A command over the channel: four ports of the machine's first virtio-console. With everything set up, init says "ready" and
 * waits in a read: there the machine is saved. The protocol is in guests/README.md ("The channel").
 *
 * The command gets pipes and not the ports: a port can be opened once, so `> /dev/stderr` would fail. From here on each
 * system call is in the way of every command ever run in a copy of this machine; hence no more of them than there must be.
 */
#include "init.h"

enum {
  CHANNEL_WAIT_MS = 5000,     /* for the ports to appear */
  FLOW_BYTES = 64 * 1024,     /* moved at a time: a full pipe */
  PAGE = 4096,
  SPLICE_NONBLOCK = 2,
};

static int ports[PORTS];
static int signals, console, random = -1, root_is_late;
static long command;

static char message[4 + MAX_MESSAGE_BYTES];
static ulong have; /* bytes of messages so far */

/* One of the command's streams; of its input, at to end is what has come in and not gone out. */
struct flow {
  int from, to;
  int used;
  ulong at, end;
};
static char input[FLOW_BYTES];
static struct flow flows[PORTS];

/* What is waited for: a signal, a message, and by their numbers the flows. */
enum { SIGNALS = 0 };
static struct pollfd wanted[PORTS];

/* Waits for bytes to come in, or for room to put them. */
static void watch(struct flow *flow, struct pollfd *entry) {
  int full = flow->at < flow->end;
  entry->fd = full ? flow->to : flow->from;
  entry->events = full ? POLLOUT : POLLIN;
}

/* No page of ours is met for the first time after the machine was saved. */
static void touch(char *from, const char *to) {
  for (; from < to; from += PAGE) *(volatile char *)from = *from;
}

/* Ends the guest if the host speaks a version that we do not: it would misread us, and we it. */
static void check_version(void) {
  unsigned char version = 0;
  static char theirs[4], ours[4];
  SYS4(pread64, port, &version, 1, PORT_VERSION);
  if (version == 0 || version == PROTOCOL_VERSION) return;
  SAY("the host speaks version ", decimal(version, theirs), " of the channel, and this init version ",
      decimal(PROTOCOL_VERSION, ours), ": make the guest anew (tsvm guest build)");
  finish(127, 0);
}

/* --- set-up ----------------------------------------------------------------------------------------------------- */

static int open_end(int n) {
  static char name[] = "/dev/vport0p0";
  name[sizeof name - 2] = (char)('0' + n);
  return (int)SYS3(open, name, (n == CONTROL ? O_RDWR : O_RDWR | O_NONBLOCK) | O_CLOEXEC, 0);
}

/* The last port is connected after all others: only then does no input on one mean that the host has closed it. */
static int open_ports(void) {
  for (int waited = 0; (ports[ERR] = open_end(ERR)) < 0; waited++) {
    if (waited == CHANNEL_WAIT_MS) return -1;
    sleep_ms(1);
  }
  struct pollfd connected = {ports[ERR], 0, 0};
  while (SYS3(poll, &connected, 1, 0) > 0 && connected.revents & POLLHUP) sleep_ms(1);
  for (int n = CONTROL; n < ERR; n++)
    if ((ports[n] = open_end(n)) < 0) return -1;
  return 0;
}

/* Descriptors 0 to 2 become the command's, so that it need not move them itself. */
static void make_pipes(void) {
  for (int n = IN; n <= ERR; n++) {
    int ends[2];
    SYS2(pipe2, ends, O_CLOEXEC);
    int theirs = n != IN;
    SYS2(dup2, ends[theirs], n - IN);
    SYS1(close, ends[theirs]);
    int ours = ends[!theirs];
    SYS3(fcntl, ours, F_SETFL, O_NONBLOCK);
    flows[n].from = n == IN ? ports[n] : ours;
    flows[n].to = n == IN ? ours : ports[n];
    watch(&flows[n], &wanted[n]);
  }
  touch(input, input + PAGE);
}

extern char _start[], _edata[];

/* --- messages: 32 bits of length, then that many bytes ------------------------------------------------------------ */

/* Takes in what there is, and waits if there is nothing; 0 when the host has closed the port. */
static int read_more(void) {
  ssize n = SYS3(read, ports[CONTROL], message + have, sizeof message - have);
  if (n > 0) have += (ulong)n;
  return n > 0;
}

/* Length of the first message once it is there whole, else -1. */
static long message_size(void) {
  if (have < 4) return -1;
  ulong size = *(__u32 *)message;
  if (size > MAX_MESSAGE_BYTES) {
    SAY("a message from the host is too long");
    finish(127, 0);
  }
  return have - 4 < size ? -1 : (long)size;
}

static void drop_message(long size) {
  have -= 4 + (ulong)size;
  if (have) memcpy(message, message + 4 + size, have);
}

int apply_now(const char *text) {
  const char *value;
  if ((value = after(text, "time="))) {
    struct __kernel_timespec now = {(long)number(&value), 0};
    if (*value++ == '.') now.tv_nsec = (long)number(&value);
    SYS2(clock_settime, 0 /* CLOCK_REALTIME */, &now);
  } else if ((value = after(text, "entropy="))) {
    struct { /* struct rand_pool_info */
      int bits, bytes;
      unsigned char seed[MAX_ENTROPY_BYTES];
    } pool = {0, 0, {0}};
    for (; value[0] && value[1] && pool.bytes < MAX_ENTROPY_BYTES; value += 2) {
      int high = value[0] <= '9' ? value[0] - '0' : value[0] - 'a' + 10;
      int low = value[1] <= '9' ? value[1] - '0' : value[1] - 'a' + 10;
      pool.seed[pool.bytes++] = (unsigned char)(high << 4 | low);
    }
    pool.bits = 8 * pool.bytes;
    SYS3(ioctl, random, RNDADDENTROPY, &pool);
    SYS3(ioctl, random, RNDRESEEDCRNG, 0);
  } else if ((value = after(text, "hostname="))) {
    SYS2(sethostname, value, length(value));
  } else {
    return 0;
  }
  return 1;
}

/* What the host says while the command runs. */
static void obey(char *text, const char *end) {
  for (; text < end && *text; text += length(text) + 1) {
    const char *value;
    if ((value = after(text, "signal="))) {
      SYS2(kill, -command, number(&value));
    } else if ((value = after(text, "winsize="))) {
      struct winsize size = {0, 0, 0, 0};
      size.ws_row = (unsigned short)number(&value);
      if (*value++ == 'x') size.ws_col = (unsigned short)number(&value);
      SYS3(ioctl, console, TIOCSWINSZ, &size);
    } else if (equal(text, "agent=1")) {
      run_agent(console);
    } else if (!apply_now(text)) {
      SAY("unknown message from the host: ", text);
    }
  }
}

static void obey_all(void) {
  for (long size; (size = message_size()) >= 0; drop_message(size)) {
    char *end = message + 4 + size;
    if (size && !end[-1]) obey(message + 4, end);
  }
}

/* --- the command's input and output ------------------------------------------------------------------------------- */

/* Nothing goes this way any more: the command sees the end of its input, or gets SIGPIPE. */
static void end_flow(int n) {
  SYS1(close, n == IN ? flows[n].to : flows[n].from);
  wanted[n].fd = -1;
}

/* Input waits for room in the pipe. */
static void put_input(void) {
  struct flow *flow = &flows[IN];
  ssize done = SYS3(write, flow->to, input + flow->at, flow->end - flow->at);
  if (done > 0) flow->at += (ulong)done;
  if (done < 0 && done != -EAGAIN && done != -ENOMEM) {
    end_flow(IN);
    SYS1(close, flow->from); /* the command reads no more: so the host need not write */
  } else {
    watch(flow, &wanted[IN]);
  }
}

static void move_input(void) {
  struct flow *flow = &flows[IN];
  if (wanted[IN].fd == flow->to) {
    if (wanted[IN].revents & POLLOUT) put_input();
    else end_flow(IN);
    return;
  }
  if (!flow->used) SYS1(close, 0); /* our copy of the reading end: with it, a write would never fail */
  flow->used = 1;
  flow->at = flow->end = 0;
  ssize got;
  do {
    got = SYS3(read, flow->from, input + flow->end, FLOW_BYTES - flow->end);
    if (got > 0) flow->end += (ulong)got;
  } while (got == PAGE && flow->end < FLOW_BYTES); /* a whole buffer: another may follow */
  if (flow->end) put_input();
  else if (got == 0) end_flow(IN);
}

/* Moves up to `most` bytes of output, as the pages that they are in: nobody copies them. Returns how many. */
static ulong move_output(int n, ulong most) {
  struct flow *flow = &flows[n];
  struct pollfd *entry = &wanted[n];
  if (entry->fd == flow->to && !(entry->revents & POLLOUT)) {
    end_flow(n); /* the host has closed the port */
    return 0;
  }
  ssize done = SYS6(splice, flow->from, 0, flow->to, 0, most, SPLICE_NONBLOCK);
  int full = done == -EAGAIN || done == -ENOMEM;
  if (done <= 0 && !full) {
    end_flow(n);
    return 0;
  }
  entry->fd = full ? flow->to : flow->from;
  entry->events = full ? POLLOUT : POLLIN;
  return full ? 0 : (ulong)done;
}

/* What the command had written by its end; a program that it left behind may go on writing for ever. */
static void drain(int n) {
  struct flow *flow = &flows[n];
  struct pollfd *entry = &wanted[n];
  int left = 0;
  if (entry->fd == flow->to || entry->revents) SYS3(ioctl, flow->from, FIONREAD, &left);
  while (entry->fd == flow->to || (entry->fd >= 0 && left > 0)) {
    if (entry->fd == flow->to) {
      struct pollfd either[2] = {*entry, {ports[CONTROL], 0, 0}};
      SYS3(poll, either, 2, -1);
      if (either[1].revents & POLLHUP) return;
      entry->revents = either[0].revents;
    }
    left -= (int)move_output(n, (ulong)left < FLOW_BYTES ? (ulong)left : FLOW_BYTES);
  }
}

/* --- running ------------------------------------------------------------------------------------------------------ */

/* Buries the dead; the command's status, or -1 while it lives. */
static int reap(void) {
  for (;;) {
    int status;
    long pid = SYS4(wait4, -1, &status, WNOHANG, 0);
    if (pid <= 0) return -1;
    if (pid == command) return exit_status(status);
    bury_agent(pid);
  }
}

static __attribute__((noreturn)) void done(int status, int tty) {
  if (tty) {
    SYS3(ioctl, 0, TCSBRK, 1); /* tcdrain */
  } else {
    drain(OUT);
    drain(ERR);
  }
  mark_full_root();
  /* The mark, then the status in the port after it. */
  unsigned char last[2] = {MARK_DONE, (unsigned char)status};
  SYS4(pwrite64, port, last, sizeof last, PORT_MARK);
  do have = 0;
  while (read_more());
  finish(status, 0);
}

static int signalled(void) {
  int status = reap();
  if (status >= 0) return status;
  __u32 info[32]; /* struct signalfd_siginfo: the number comes first */
  SYS3(read, signals, info, sizeof info);
  if (info[0] == SIGTERM) finish(0, 1);
  if (info[0] == SIGUSR1 || info[0] == SIGUSR2) finish(0, 0);
  return reap(); /* it may have ended since, and its signal be the one that was read */
}

static __attribute__((noreturn)) void supervise(const struct options *options) {
  for (;;) {
    SYS3(poll, wanted, PORTS, -1);
    if (wanted[SIGNALS].revents) {
      int status = signalled();
      if (status >= 0) done(status, options->tty);
    }
    if (wanted[CONTROL].revents) {
      if (!read_more()) finish(128 + SIGKILL, 0);
      obey_all();
      continue; /* all messages before any input: the facts of a copy come before what is typed to it */
    }
    if (wanted[IN].revents) move_input();
    for (int n = OUT; n <= ERR; n++)
      if (wanted[n].revents) move_output(n, FLOW_BYTES);
  }
}

static void enter_root_at_last(void) {
  if (root_is_late && enter_late_root() < 0) done(127, 0);
  root_is_late = 0;
}

/* Waits for more of a message. Beside the agent, which may go on for long without a command, for the dead and for signals too. */
static void await_message(void) {
  if (has_agent()) {
    SYS3(poll, wanted, CONTROL + 1, -1);
    if (wanted[SIGNALS].revents) signalled();
    if (!wanted[CONTROL].revents) return;
  }
  if (!read_more()) finish(0, 0);
}

/* Whether a message is about the agent, and brings no command. */
static int is_for_agent(const char *text, const char *end) {
  for (; text < end && *text; text += length(text) + 1)
    if (equal(text, "agent=1")) return 1;
  return 0;
}

/* Length of the message that has the command. What comes before it is obeyed. */
static long command_size(void) {
  for (;;) {
    long size = message_size();
    if (size < 0) {
      await_message();
      continue;
    }
    char *end = message + 4 + size;
    enter_root_at_last();
    if (!has_agent() || !size || end[-1] || !is_for_agent(message + 4, end)) return size;
    obey(message + 4, end);
    drop_message(size);
  }
}

static __attribute__((noreturn)) void run_command(void) {
  struct options options = {.session = 1};
  long size = command_size();
  char *end = message + 4 + size;
  if (size && !end[-1]) parse_command(message + 4, end, &options);
  else SAY("a message from the host is damaged");
  if (!args[0]) args[0] = "/bin/sh";
  if (options.tty && console < 0) console = late_console();
  if (options.tty && console < 0) {
    SAY("this machine has no terminal");
    options.tty = 0;
  }
  if (options.tty) {
    for (int n = 0; n < 3; n++) SYS2(dup2, console, n);
    use_terminal(&options);
    for (int n = IN; n <= ERR; n++) wanted[n].fd = -1;
    out(PORT_MARK, MARK_COMMAND);
  } else if (options.no_stdin) {
    end_flow(IN);
  }
  command = start(&options);
  drop_message(size);
  if (have) obey_all();
  supervise(&options);
}

void serve_channel(int late_root) {
  root_is_late = late_root;
  if (port < 3) { /* a machine without a console, or none yet: the kernel gave us no descriptors 0 to 2 */
    port = (int)SYS3(fcntl, port, F_DUPFD_CLOEXEC, 3);
    for (int n = 0; n < 3; n++) {
      SYS1(close, n);
      SYS3(open, "/dev/null", O_RDWR, 0);
    }
    console = -1;
  } else {
    console = (int)SYS3(fcntl, 0, F_DUPFD_CLOEXEC, 3);
  }
  check_version();
  if (has_agent()) {
    if (root_is_late) out(PORT_MARK, MARK_AGENT); /* it comes with the root */
    else run_agent(console);
  }
  if (open_ports() < 0) {
    SAY("the channel's ports are missing");
    return;
  }
  make_pipes();
  const ulong set = SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(SIGUSR2) | SIGNAL_BIT(SIGTERM);
  signals = (int)SYS4(signalfd4, -1, &set, sizeof set, O_CLOEXEC);
  wanted[SIGNALS] = (struct pollfd){signals, POLLIN, 0};
  wanted[CONTROL] = (struct pollfd){ports[CONTROL], POLLIN, 0};
  random = (int)SYS3(open, "/dev/urandom", O_RDONLY | O_CLOEXEC, 0);
  if (!root_is_late) shorten_search();
  touch(_start, _edata);
  touch(message, message + 2 * PAGE);
  touch((char *)args, (char *)(args + 1));
  out(PORT_MARK, MARK_READY);
  run_command();
}
