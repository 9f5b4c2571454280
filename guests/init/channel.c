/*
 * A command over the channel: four ports of the machine's first virtio-console. With everything set up, init says "ready" and
 * waits in a read: there the machine is saved. The protocol is in guests/README.md ("The channel").
 *
 * The command gets pipes and not the ports: a port can be opened once, so `> /dev/stderr` would fail. From here on each
 * system call is in the way of every command ever run in a copy of this machine; hence no more of them than there must be.
 */
#include "init.h"

enum { CONTROL = 1, IN, OUT, ERR, PORTS };

enum {
  MESSAGE_BYTES = 256 * 1024, /* of one message from the host: a command with its environment; untouched bss */
  CHANNEL_WAIT_MS = 5000,     /* for the ports to appear */
  INPUT_BYTES = 32 * 1024,    /* moved to the command's standard input at a time */
  SPLICE_BYTES = 32 * 1024,   /* moved from its output: fewer pages than a port's queue has entries */
  PAGE = 4096,
};

/* Our ends: of the ports, and (IN, OUT, ERR) of the command's pipes. */
static int ports[PORTS];
static int pipes[PORTS];
static int signals, console, random = -1;
static long command;

static char message[4 + MESSAGE_BYTES];
static ulong have; /* bytes of messages so far */

static char input[INPUT_BYTES];
static ulong input_from, input_to;

static struct pollfd wanted[5];
static struct pollfd *const on_signal = &wanted[0], *const on_control = &wanted[1], *const on_input = &wanted[2];

static void watch(struct pollfd *entry, int fd, short events) {
  entry->fd = fd;
  entry->events = events;
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
    pipes[n] = ends[!theirs];
  }
  SYS3(fcntl, pipes[IN], F_SETFL, O_NONBLOCK);
}

/* No page of ours is met for the first time after the machine was saved. */
static void touch(char *from, const char *to) {
  for (; from < to; from += PAGE) *(volatile char *)from = *from;
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
  if (size > MESSAGE_BYTES) {
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
      unsigned char seed[64];
    } pool = {0, 0, {0}};
    for (; value[0] && value[1] && pool.bytes < 64; value += 2) {
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

static void end_input(void) {
  SYS1(close, pipes[IN]);
  watch(on_input, -1, 0);
}

static void pass_input(void) {
  ssize n = SYS3(write, pipes[IN], input + input_from, input_to - input_from);
  if (n > 0) input_from += (ulong)n;
  if (n < 0 && n != -EAGAIN) { /* nobody reads it: neither does anybody from the host */
    end_input();
    SYS1(close, ports[IN]);
  } else if (input_from < input_to) {
    watch(on_input, pipes[IN], POLLOUT);
  } else {
    watch(on_input, ports[IN], POLLIN);
  }
}

static void take_input(void) {
  ssize n;
  input_from = input_to = 0;
  do {
    n = SYS3(read, ports[IN], input + input_to, sizeof input - input_to);
    if (n > 0) input_to += (ulong)n;
  } while (n == PAGE && input_to < sizeof input); /* a full buffer: another may follow */
  if (input_to) pass_input();
  else if (n == 0) end_input();
}

static void move_input(void) {
  static int ours_closed;
  if (!ours_closed) { /* our copy of the reading end: with it, a write would never fail */
    SYS1(close, 0);
    ours_closed = 1;
  }
  if (on_input->fd == ports[IN]) take_input();
  else pass_input();
}

/* The entry of `n` is for its pipe, or for its port when that was full. */
static struct pollfd *on_output(int n) {
  return &wanted[n];
}

/* Returns how many bytes went. */
static ulong move_output(int n, ulong most) {
  struct pollfd *entry = on_output(n);
  if (entry->fd == ports[n] && !(entry->revents & POLLOUT)) { /* the host has closed it: SIGPIPE for who writes */
    SYS1(close, pipes[n]);
    watch(entry, -1, 0);
    return 0;
  }
  long moved = SYS6(splice, pipes[n], 0, ports[n], 0, most, 2 /* SPLICE_F_NONBLOCK */);
  if (moved == -EAGAIN) watch(entry, ports[n], POLLOUT);
  else watch(entry, pipes[n], POLLIN);
  return moved > 0 ? (ulong)moved : 0;
}

/* What the command had written by its end; a program that it left behind may go on writing for ever. */
static void drain(int n) {
  struct pollfd *entry = on_output(n);
  int left = 0;
  if (entry->fd < 0 || (entry->fd == pipes[n] && !entry->revents)) return;
  SYS3(ioctl, pipes[n], FIONREAD, &left);
  while (left > 0 && entry->fd >= 0) {
    if (entry->fd == ports[n]) {
      struct pollfd either[2] = {*entry, {ports[CONTROL], 0, 0}};
      SYS3(poll, either, 2, -1);
      if (either[1].revents & POLLHUP) return;
      entry->revents = either[0].revents;
    }
    left -= (int)move_output(n, left < SPLICE_BYTES ? (ulong)left : SPLICE_BYTES);
  }
}

/* --- running ------------------------------------------------------------------------------------------------------ */

/* Buries the dead; the command's status, or -1 while it lives. */
static int reap(void) {
  for (;;) {
    int status;
    long pid = SYS4(wait4, -1, &status, WNOHANG, 0);
    if (pid == command) return exit_status(status);
    if (pid <= 0) return -1;
  }
}

static __attribute__((noreturn)) void done(int status, int tty) {
  if (tty) {
    SYS3(ioctl, 0, TCSBRK, 1); /* tcdrain */
  } else {
    drain(OUT);
    drain(ERR);
  }
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
    SYS3(poll, wanted, 5, -1);
    if (on_signal->revents) {
      int status = signalled();
      if (status >= 0) done(status, options->tty);
    }
    if (on_control->revents) {
      if (!read_more()) finish(128 + SIGKILL, 0);
      obey_all();
    }
    if (on_input->revents) move_input();
    for (int n = OUT; n <= ERR; n++)
      if (on_output(n)->revents) move_output(n, SPLICE_BYTES);
  }
}

static __attribute__((noreturn)) void run_command(void) {
  struct options options = {.session = 1};
  long size;
  while ((size = message_size()) < 0)
    if (!read_more()) finish(0, 0);
  char *end = message + 4 + size;
  if (size && !end[-1]) parse_command(message + 4, end, &options);
  else SAY("a message from the host is damaged");
  if (!args[0]) args[0] = "/bin/sh";
  if (options.tty && console < 0) {
    SAY("this machine has no terminal");
    options.tty = 0;
  }
  watch(on_signal, signals, POLLIN);
  watch(on_control, ports[CONTROL], POLLIN);
  if (options.tty) {
    for (int n = 0; n < 3; n++) SYS2(dup2, console, n);
    use_terminal(&options);
    for (int n = IN; n <= ERR; n++) watch(&wanted[n], -1, 0);
    out(PORT_MARK, MARK_EXEC);
  } else {
    if (options.no_stdin) end_input();
    else watch(on_input, ports[IN], POLLIN);
    watch(on_output(OUT), pipes[OUT], POLLIN);
    watch(on_output(ERR), pipes[ERR], POLLIN);
  }
  command = start(&options);
  drop_message(size);
  if (have) obey_all();
  supervise(&options);
}

void serve_channel(void) {
  unsigned char offer = 0;
  if (SYS4(pread64, port, &offer, 1, PORT_MARK) != 1 || offer != MACHINE_HAS_CHANNEL) return;
  if (port < 3) { /* a machine without a console: the kernel gave us no descriptors 0 to 2 */
    port = (int)SYS3(fcntl, port, F_DUPFD_CLOEXEC, 3);
    for (int n = 0; n < 3; n++) {
      SYS1(close, n);
      SYS3(open, "/dev/null", O_RDWR, 0);
    }
    console = -1;
  } else {
    console = (int)SYS3(fcntl, 0, F_DUPFD_CLOEXEC, 3);
  }
  if (open_ports() < 0) {
    SAY("the channel's ports are missing");
    return;
  }
  make_pipes();
  const ulong set = 1ul << (SIGCHLD - 1) | 1ul << (SIGUSR1 - 1) | 1ul << (SIGUSR2 - 1) | 1ul << (SIGTERM - 1);
  signals = (int)SYS4(signalfd4, -1, &set, sizeof set, O_CLOEXEC);
  random = (int)SYS3(open, "/dev/urandom", O_RDONLY | O_CLOEXEC, 0);
  shorten_search();
  touch(_start, _edata);
  touch(message, message + 2 * PAGE);
  touch(input, input + PAGE);
  touch((char *)args, (char *)(args + 1));
  out(PORT_MARK, MARK_READY);
  run_command();
}
