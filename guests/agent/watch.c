/* Watching files: changes as the kernel tells them (inotify(7)), also in folders that come later. */
#include "file-parts.h"

#include <linux/inotify.h>

enum {
  NAME_BYTES = 256,
  MAX_NODES = 65536,
  LISTS = 4096,
  EVENTS_BYTES = 16384,
  NAMES_BYTES = 8192,
  RECORD_BYTES = 2 * PATH_BYTES,
  FOLDERS_AT_ONCE = 64,
  NO_NODE = -1,
};

struct entry {
  __u64 inode, offset;
  unsigned short length;
  __u8 type;
  char name[];
};

/* A folder that is watched. The first is what was asked for. */
struct node {
  int wd; /* 0: free */
  int parent, next;
  int scan_next; /* in the queue of those whose folders have to be found */
  __u8 is_new;   /* it came later: what is in it has come with it */
  char name[NAME_BYTES];
};

struct watching {
  struct waiter waiter; /* of the kernel's events */
  struct waiter turns;
  struct session *session;
  const char *root;
  int recursive, has_begun, has_lost;
  int free, used, scan_first, scan_last;
  long events_size, events_at;
  ulong record_bytes, record_at;
  char record[RECORD_BYTES];
  char events[EVENTS_BYTES] __attribute__((aligned(8)));
  int lists[LISTS];
  struct node nodes[MAX_NODES];
};

static const unsigned WATCHED = IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF;

static void close_watching(struct session *session) {
  struct watching *watching = session->own;
  if (!watching) return;
  stop_watching(&watching->waiter);
  stop_watching(&watching->turns);
  if (watching->waiter.fd >= 0) SYS1(close, watching->waiter.fd);
  if (watching->turns.fd >= 0) SYS1(close, watching->turns.fd);
  release(watching, sizeof *watching);
}

/* --- paths -------------------------------------------------------------------------------------------------------- */

/* Path of a name in a folder, relative to the root; -ENAMETOOLONG if there is no room for it. Its end is at the end of `text`. */
static char *path_below(const struct watching *watching, int node, const char *name, char text[PATH_BYTES]) {
  char *at = text + PATH_BYTES - 1;
  *at = 0;
  const char *part = name;
  for (;;) {
    ulong size = length(part);
    if (size) {
      if (*at) *--at = '/';
      if ((ulong)(at - text) < size + 2) return 0;
      at -= size;
      memcpy(at, part, size);
    }
    if (node <= 0) return at;
    part = watching->nodes[node].name;
    node = watching->nodes[node].parent;
  }
}

/* The same with the root before it. */
static int full_path(const struct watching *watching, int node, const char *name, char text[PATH_BYTES]) {
  char below[PATH_BYTES];
  const char *rest = path_below(watching, node, name, below);
  ulong root = length(watching->root), size = rest ? length(rest) : 0;
  if (!rest || root + size + 2 > PATH_BYTES) return 0;
  memcpy(text, watching->root, root + 1);
  if (!size) return 1;
  text[root] = '/';
  memcpy(text + root + 1, rest, size + 1);
  return 1;
}

/* --- nodes -------------------------------------------------------------------------------------------------------- */

static int find_node(const struct watching *watching, int wd) {
  int node = watching->lists[wd % LISTS];
  while (node != NO_NODE && watching->nodes[node].wd != wd) node = watching->nodes[node].next;
  return node;
}

static int take_node(struct watching *watching) {
  int node = watching->free;
  if (node != NO_NODE) {
    watching->free = watching->nodes[node].next;
    return node;
  }
  return watching->used < MAX_NODES ? watching->used++ : NO_NODE;
}

static void unqueue(struct watching *watching, int node) {
  for (int *at = &watching->scan_first, last = NO_NODE; *at != NO_NODE; last = *at, at = &watching->nodes[*at].scan_next) {
    if (*at != node) continue;
    *at = watching->nodes[node].scan_next;
    if (watching->scan_last == node) watching->scan_last = last;
    return;
  }
}

static void drop_node(struct watching *watching, int node) {
  struct node *dropped = &watching->nodes[node];
  int *at = &watching->lists[dropped->wd % LISTS];
  while (*at != node) at = &watching->nodes[*at].next;
  *at = dropped->next;
  unqueue(watching, node);
  dropped->wd = 0;
  dropped->next = watching->free;
  watching->free = node;
}

static int is_below(const struct watching *watching, int node, int above) {
  for (int steps = 0; node > 0 && steps < PATH_BYTES; steps++) {
    if (node == above) return 1;
    node = watching->nodes[node].parent;
  }
  return 0;
}

/* Forgets a folder that has left, and what is in it. */
static void forget(struct watching *watching, int parent, const char *name) {
  int left = NO_NODE;
  for (int i = 1; i < watching->used && left == NO_NODE; i++) {
    const struct node *node = &watching->nodes[i];
    if (node->wd && node->parent == parent && equal(node->name, name)) left = i;
  }
  if (left == NO_NODE) return;
  for (int i = 1; i < watching->used; i++) {
    if (i == left || !watching->nodes[i].wd || !is_below(watching, i, left)) continue;
    SYS2(inotify_rm_watch, watching->waiter.fd, watching->nodes[i].wd);
    watching->nodes[i].is_new = 2; /* marked: dropped below, when nothing is looked up by it any more */
  }
  SYS2(inotify_rm_watch, watching->waiter.fd, watching->nodes[left].wd);
  for (int i = 1; i < watching->used; i++)
    if (watching->nodes[i].wd && (watching->nodes[i].is_new == 2 || i == left)) drop_node(watching, i);
}

/* Watches a folder, and queues it for what is in it. An error but for one that is gone, or no folder, loses changes. */
static void add_node(struct watching *watching, int parent, const char *name, int is_new) {
  char path[PATH_BYTES];
  if (!full_path(watching, parent, name, path)) {
    watching->has_lost = 1;
    return;
  }
  long wd = SYS3(inotify_add_watch, watching->waiter.fd, path, WATCHED | IN_ONLYDIR | IN_DONT_FOLLOW);
  if (wd < 0) {
    if (wd != -ENOENT && wd != -ENOTDIR && wd != -ELOOP) watching->has_lost = 1;
    return;
  }
  if (find_node(watching, (int)wd) != NO_NODE) return;
  int node = take_node(watching);
  if (node == NO_NODE) {
    SYS2(inotify_rm_watch, watching->waiter.fd, wd);
    watching->has_lost = 1;
    return;
  }
  struct node *made = &watching->nodes[node];
  *made = (struct node){.wd = (int)wd, .parent = parent, .next = watching->lists[wd % LISTS], .scan_next = NO_NODE, .is_new = is_new != 0};
  memcpy(made->name, name, length(name) + 1);
  watching->lists[wd % LISTS] = node;
  if (watching->scan_first == NO_NODE) watching->scan_first = node;
  else watching->nodes[watching->scan_last].scan_next = node;
  watching->scan_last = node;
  watch_for(&watching->turns, EPOLLIN);
}

/* --- records ------------------------------------------------------------------------------------------------------ */

/* Whether nothing waits to be sent. */
static int send_record(struct watching *watching) {
  watching->record_at +=
      send_data(watching->session, STREAM_OUT, watching->record + watching->record_at, watching->record_bytes - watching->record_at);
  return watching->record_at == watching->record_bytes;
}

/* The record before must have gone. */
static void tell(struct watching *watching, const char *kind, int node, const char *name) {
  char text[PATH_BYTES];
  const char *path = node == NO_NODE ? "" : path_below(watching, node, name, text);
  if (!path) {
    watching->has_lost = 1;
    return;
  }
  ulong kind_bytes = length(kind) + 1, path_bytes = length(path) + 1;
  memcpy(watching->record, kind, kind_bytes);
  memcpy(watching->record + kind_bytes, path, path_bytes);
  watching->record_bytes = kind_bytes + path_bytes;
  watching->record_at = 0;
  send_record(watching);
}

static void take_event(struct watching *watching, const struct inotify_event *event) {
  if (event->mask & IN_Q_OVERFLOW) {
    watching->has_lost = 1;
    return;
  }
  int node = find_node(watching, event->wd);
  if (node == NO_NODE) return;
  const char *name = event->len ? event->name : "";
  if (event->mask & IN_IGNORED) {
    if (node) drop_node(watching, node);
    else finish_session(watching->session, 0, 0); /* what was watched is gone */
    return;
  }
  int is_folder = (event->mask & IN_ISDIR) && watching->recursive && *name;
  if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
    if (!node) tell(watching, event->mask & IN_DELETE_SELF ? "removed" : "moved-from", 0, "");
    return;
  }
  if (event->mask & IN_MOVED_FROM) {
    tell(watching, "moved-from", node, name);
    if (is_folder) forget(watching, node, name);
  } else if (event->mask & (IN_CREATE | IN_MOVED_TO)) {
    tell(watching, event->mask & IN_CREATE ? "made" : "moved-to", node, name);
    if (is_folder) add_node(watching, node, name, event->mask & IN_CREATE ? 1 : 0);
  } else {
    /* A folder's own permissions are told by the folder above it as well. */
    if (!*name && node) return;
    tell(watching, event->mask & IN_DELETE ? "removed" : "changed", node, name);
  }
}

/* Whether there may be more at once. */
static int watch_some(struct watching *watching) {
  struct session *session = watching->session;
  if (!watching->has_begun) return 0;
  if (!send_record(watching) || room_of(session, STREAM_OUT) < RECORD_BYTES) {
    watch_for(&watching->waiter, 0);
    return 0;
  }
  if (watching->has_lost) {
    watching->has_lost = 0;
    tell(watching, "lost", NO_NODE, "");
    return 1;
  }
  if (watching->events_at >= watching->events_size) {
    watching->events_size = SYS3(read, watching->waiter.fd, watching->events, sizeof watching->events);
    watching->events_at = 0;
    if (watching->events_size <= 0) {
      watching->events_size = 0;
      watch_for(&watching->waiter, EPOLLIN);
      return 0;
    }
  }
  const struct inotify_event *event = (const struct inotify_event *)(watching->events + watching->events_at);
  watching->events_at += (long)(sizeof *event + event->len);
  take_event(watching, event);
  return !session->over;
}

static void watch_on(struct watching *watching) {
  while (watch_some(watching)) {}
}

static void watching_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  watch_on((struct watching *)waiter); /* its first member */
}

static void watch_room(struct session *session, int stream) {
  (void)stream;
  watch_on(session->own);
}

/* --- folders ------------------------------------------------------------------------------------------------------ */

/* Watches the folders in one. What came into a new one before it was watched is told here, or by an event: more than once, perhaps. */
static void scan(struct watching *watching, int node) {
  static char names[NAMES_BYTES] __attribute__((aligned(8)));
  char path[PATH_BYTES];
  if (!full_path(watching, node, "", path)) return;
  long fd = SYS3(open, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC, 0);
  if (fd < 0) return;
  for (long size; (size = SYS3(getdents64, fd, names, sizeof names)) > 0;)
    for (long at = 0; at < size;) {
      const struct entry *entry = (const struct entry *)(names + at);
      at += entry->length;
      if (equal(entry->name, ".") || equal(entry->name, "..")) continue;
      if (watching->nodes[node].is_new) {
        if (send_record(watching) && room_of(watching->session, STREAM_OUT) >= RECORD_BYTES) tell(watching, "made", node, entry->name);
        else watching->has_lost = 1;
      }
      /* DT_DIR, or a file system that does not say. */
      if (watching->recursive && (entry->type == 4 || entry->type == 0)) add_node(watching, node, entry->name, watching->nodes[node].is_new);
    }
  SYS1(close, fd);
}

static void scan_some(struct waiter *waiter, unsigned events) {
  (void)events;
  struct watching *watching = (struct watching *)((char *)waiter - __builtin_offsetof(struct watching, turns));
  for (int i = 0; i < FOLDERS_AT_ONCE && watching->scan_first != NO_NODE; i++) {
    int node = watching->scan_first;
    watching->scan_first = watching->nodes[node].scan_next;
    scan(watching, node);
  }
  if (watching->scan_first != NO_NODE) return;
  watching->scan_last = NO_NODE;
  watch_for(waiter, 0);
  if (!watching->has_begun) {
    watching->has_begun = 1;
    const char *const nothing[] = {0};
    reply(watching->session, nothing, 0);
  }
  watch_on(watching);
}

static long begin_watch(struct session *session, struct request *request, const char **what) {
  struct watching *watching = allocate(sizeof *watching);
  if (!watching) return -ENOMEM;
  session->own = watching;
  watching->waiter = (struct waiter){watching_ready, -1, 0};
  watching->turns = (struct waiter){scan_some, -1, 0};
  watching->session = session;
  watching->root = operand(request, 0);
  watching->recursive = number_option(request, "recursive", 1, 0) == 1;
  watching->free = watching->scan_first = watching->scan_last = NO_NODE;
  for (int i = 0; i < LISTS; i++) watching->lists[i] = NO_NODE;
  *what = "watch";
  long fd = SYS1(inotify_init1, O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fd;
  watching->waiter.fd = (int)fd;
  fd = open_turns();
  if (fd < 0) return fd;
  watching->turns.fd = (int)fd;
  long wd = SYS3(inotify_add_watch, watching->waiter.fd, watching->root, WATCHED);
  if (wd < 0) return wd;
  struct node *root = &watching->nodes[watching->used++];
  *root = (struct node){.wd = (int)wd, .parent = NO_NODE, .next = NO_NODE, .scan_next = NO_NODE};
  watching->lists[wd % LISTS] = 0;
  if (watching->recursive) watching->scan_first = watching->scan_last = 0;
  watch_for(&watching->turns, EPOLLIN);
  return watching->turns.watched ? 0 : -ENOMEM;
}

const struct operation watch_operations[] = {
    {.name = "watch", .options = "recursive", .operands = 1, .begin = begin_watch, .room = watch_room, .closed = close_watching},
    {.name = 0},
};
