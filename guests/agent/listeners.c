/* What listens on TCP ports, as the kernel lists it in /proc/net/tcp and tcp6 (proc(5)): those first, before all connections. */
#include "ports.h"

enum {
  TEXT_BYTES = 65536,
  FIRST_WAIT_MS = 10,
  MOST_WAIT_MS = 50,
  MILLISECOND_NS = 1000000,
  V4_DIGITS = 8,
  V6_DIGITS = 32,
  LISTENING = 0x0a,
  NS_PER_S = 1000000000,
};

struct listener {
  __u8 address[16];
  int is_v6;
  ulong port;
};

/* Lines of both files. */
struct lines {
  int file; /* 0 and 1; 2: at the end */
  int fd;
  ulong size, at;
  char text[TEXT_BYTES + 1];
};

static struct lines *open_lines(void) {
  struct lines *lines = allocate(sizeof *lines);
  if (!lines) return 0;
  lines->fd = -1;
  lines->file = -1;
  return lines;
}

static void close_lines(struct lines *lines) {
  if (!lines) return;
  if (lines->fd >= 0) SYS1(close, lines->fd);
  release(lines, sizeof *lines);
}

static int next_file(struct lines *lines) {
  static const char *const files[] = {"/proc/net/tcp", "/proc/net/tcp6"};
  if (lines->fd >= 0) SYS1(close, lines->fd);
  lines->fd = -1;
  lines->size = lines->at = 0;
  while (++lines->file < 2) {
    lines->fd = (int)SYS3(open, files[lines->file], O_RDONLY | O_CLOEXEC, 0);
    if (lines->fd >= 0) return 1;
  }
  return 0;
}

/* The next line of the file that is open, ended by NUL; 0 at its end. */
static const char *next_line(struct lines *lines) {
  for (;;) {
    for (ulong i = lines->at; i < lines->size; i++) {
      if (lines->text[i] != '\n') continue;
      const char *line = lines->text + lines->at;
      lines->text[i] = 0;
      lines->at = i + 1;
      return line;
    }
    lines->size -= lines->at;
    move_down(lines->text, lines->text + lines->at, lines->size);
    lines->at = 0;
    if (lines->size == TEXT_BYTES) return 0;
    ssize got = SYS3(read, lines->fd, lines->text + lines->size, TEXT_BYTES - lines->size);
    if (got <= 0) return 0;
    lines->size += (ulong)got;
  }
}

static int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* Digits up to `end`, which is passed; ~0 if there is another. */
static ulong hex(const char **text, char end, ulong most) {
  ulong value = 0, n = 0;
  for (; hex_digit(**text) >= 0 && n < most; n++) value = value << 4 | (ulong)hex_digit(*(*text)++);
  if (!n || **text != end) return ~0ul;
  (*text)++;
  return value;
}

/* Whether a line is of what listens: "  0: ADDRESS:PORT ADDRESS:PORT STATE ...". An address is words of the machine's byte order. */
static int parse_line(const char *line, struct listener *found) {
  while (*line == ' ') line++;
  while (*line && *line != ':') line++;
  if (*line++ != ':' || *line++ != ' ') return 0;
  ulong digits = 0;
  while (hex_digit(line[digits]) >= 0) digits++;
  if ((digits != V4_DIGITS && digits != V6_DIGITS) || line[digits] != ':') return 0;
  found->is_v6 = digits == V6_DIGITS;
  for (ulong i = 0; i < digits / 2; i++)
    found->address[(i & ~3ul) + 3 - (i & 3)] = (__u8)(hex_digit(line[2 * i]) << 4 | hex_digit(line[2 * i + 1]));
  line += digits + 1;
  found->port = hex(&line, ' ', 4);
  while (*line && *line != ' ') line++;
  if (*line) line++;
  return found->port <= MAX_PORT && hex(&line, ' ', 2) == LISTENING;
}

/* The next that listens; 0 at the end. */
static int next_listener(struct lines *lines, struct listener *found) {
  for (;;) {
    const char *line = lines->fd < 0 ? 0 : next_line(lines);
    if (!line) {
      if (!next_file(lines)) return 0;
      next_line(lines); /* titles */
      continue;
    }
    if (parse_line(line, found)) return 1;
    lines->size = lines->at = 0;
    if (!next_file(lines)) return 0;
    next_line(lines);
  }
}

/* --- listing ------------------------------------------------------------------------------------------------------ */

static char *append(char *to, const char *text) {
  while (*text) *to++ = *text++;
  return to;
}

static char *append_v6(char *to, const __u8 *address) {
  static const char digits[] = "0123456789abcdef";
  int any = 0;
  for (int i = 0; i < 16; i++) any |= address[i];
  if (!any) return append(to, "::");
  for (int i = 0, begun; i < 16; i += 2) {
    begun = 0;
    for (int shift = 12; shift >= 0; shift -= 4) {
      int digit = (address[i] << 8 | address[i + 1]) >> shift & 15;
      begun |= digit || !shift;
      if (begun) *to++ = digits[digit];
    }
    if (i < 14) *to++ = ':';
  }
  return to;
}

static ulong write_listener(const struct listener *found, char text[96]) {
  char digits[24];
  char *to = append(text, "tcp") + 1;
  to[-1] = 0;
  if (found->is_v6) to = append_v6(to, found->address);
  for (int i = 0; !found->is_v6 && i < 4; i++) {
    to = append(to, decimal_long(found->address[i], digits));
    if (i < 3) *to++ = '.';
  }
  *to++ = 0;
  to = append(to, decimal_long(found->port, digits));
  *to++ = 0;
  return (ulong)(to - text);
}

static void list_on(struct session *session) {
  struct listener found;
  char text[96];
  while (room_of(session, STREAM_OUT) >= sizeof text) {
    if (!next_listener(session->own, &found)) return finish_session(session, 0, 0);
    send_data(session, STREAM_OUT, text, write_listener(&found, text));
  }
}

long begin_ports(struct session *session, struct request *request, const char **what) {
  (void)request;
  *what = "ports";
  session->own = open_lines();
  if (!session->own) return -ENOMEM;
  list_on(session);
  return 0;
}

void ports_room(struct session *session, int stream) {
  (void)stream;
  list_on(session);
}

void close_ports(struct session *session) {
  close_lines(session->own);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

struct port_wait {
  struct waiter waiter;
  struct session *session;
  ulong port;
  long wait_ms;
};

/* Whether what listens there can be reached at the loopback interface. */
static int is_reached(const struct listener *found) {
  const __u8 *address = found->address;
  if (!found->is_v6) return address[0] == 127 || !(address[0] | address[1] | address[2] | address[3]);
  int others = 0;
  for (int i = 0; i < 15; i++) others |= address[i];
  return !others && address[15] <= 1;
}

static int listens(ulong port) {
  struct lines *lines = open_lines();
  struct listener found;
  int result = 0;
  while (lines && !result && next_listener(lines, &found)) result = found.port == port && is_reached(&found);
  close_lines(lines);
  return result;
}

static void look_again(struct port_wait *wait) {
  const struct { struct __kernel_timespec interval, value; } time = {
      {0, 0}, {wait->wait_ms / 1000, wait->wait_ms * MILLISECOND_NS % NS_PER_S}};
  SYS4(timerfd_settime, wait->waiter.fd, 0, &time, 0);
  if (wait->wait_ms < MOST_WAIT_MS) wait->wait_ms += FIRST_WAIT_MS;
}

static void wait_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  struct port_wait *wait = (struct port_wait *)waiter; /* its first member */
  __u64 times;
  SYS3(read, waiter->fd, &times, sizeof times);
  if (listens(wait->port)) finish_session(wait->session, 0, 0);
  else look_again(wait);
}

long begin_wait_port(struct session *session, struct request *request, const char **what) {
  long port = number_option(request, "port", MAX_PORT, -EINVAL);
  *what = "port";
  if (port <= 0) return -EINVAL;
  if (listens((ulong)port)) {
    finish_session(session, 0, 0);
    return 0;
  }
  struct port_wait *wait = allocate(sizeof *wait);
  if (!wait) return -ENOMEM;
  session->own = wait;
  long fd = SYS2(timerfd_create, 1 /* CLOCK_MONOTONIC */, O_CLOEXEC | O_NONBLOCK);
  *wait = (struct port_wait){.waiter = {wait_ready, (int)fd, 0}, .session = session, .port = (ulong)port, .wait_ms = FIRST_WAIT_MS};
  if (fd < 0) return fd;
  watch_for(&wait->waiter, EPOLLIN);
  look_again(wait);
  return 0;
}

void close_wait_port(struct session *session) {
  struct port_wait *wait = session->own;
  if (!wait) return;
  stop_watching(&wait->waiter);
  if (wait->waiter.fd >= 0) SYS1(close, wait->waiter.fd);
  release(wait, sizeof *wait);
}
