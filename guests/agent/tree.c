/*
 * Trees of files: listing and removing them. One folder is open at a time; the way back is `..`, which must be the folder that it was. So a
 * tree may be as deep as it likes, and no link in it leads out of it.
 */
#include "file-parts.h"

enum { NAMES_BYTES = 8192, MAX_TREE_PATH = 256 << 10, MAX_LEVELS = MAX_TREE_PATH / 2, STEPS_AT_ONCE = 512, SET = 0 };

struct entry {
  __u64 inode, offset;
  unsigned short length;
  __u8 type;
  char name[];
};

/* A folder above the one that is open. */
struct level {
  ulong device, inode;
  long offset;      /* of its next entry */
  ulong path_bytes; /* of its own path */
};

struct walk {
  struct waiter waiter; /* for turns */
  struct session *session;
  const char *root;
  int fd; /* the folder that is open, or -1 */
  ulong depth, most_depth;
  long names_size, names_at;
  long offset; /* of the next entry of the folder that is open */
  ulong path_bytes;
  ulong device, inode;          /* of the folder that is open */
  ulong record_bytes, record_at; /* of a record that has not gone */
  char names[NAMES_BYTES] __attribute__((aligned(8)));
  char path[MAX_TREE_PATH];
  char record[MAX_TREE_PATH + FACTS_BYTES + PATH_BYTES + 4];
  struct level levels[MAX_LEVELS];
};

static struct walk *make_walk(struct session *session, const char *root) {
  struct walk *walk = allocate(sizeof *walk);
  if (!walk) return 0;
  session->own = walk;
  walk->waiter.fd = walk->fd = -1;
  walk->session = session;
  walk->root = root;
  return walk;
}

static void close_walk(struct session *session) {
  struct walk *walk = session->own;
  if (!walk) return;
  stop_watching(&walk->waiter);
  if (walk->waiter.fd >= 0) SYS1(close, walk->waiter.fd);
  if (walk->fd >= 0) SYS1(close, walk->fd);
  release(walk, sizeof *walk);
}

static long enter(struct walk *walk, int folder, const char *name, int flags) {
  long fd = SYS4(openat, folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | flags, 0);
  struct stat facts;
  if (fd < 0) return fd;
  long error = SYS2(fstat, fd, &facts);
  if (error < 0) {
    SYS1(close, fd);
    return error;
  }
  if (walk->fd >= 0) SYS1(close, walk->fd);
  walk->fd = (int)fd;
  walk->device = facts.st_dev;
  walk->inode = facts.st_ino;
  walk->names_size = walk->names_at = walk->offset = 0;
  return 0;
}

/* Appends to the path of the folder that is open, and says how long that was. */
static long add_name(struct walk *walk, const char *name) {
  ulong size = length(name), before = walk->path_bytes;
  if (before + size + 2 > MAX_TREE_PATH) return -ENAMETOOLONG;
  if (before) walk->path[walk->path_bytes++] = '/';
  memcpy(walk->path + walk->path_bytes, name, size + 1);
  walk->path_bytes += size;
  return (long)before;
}

static void cut_name(struct walk *walk, ulong size) {
  walk->path_bytes = size;
  walk->path[size] = 0;
}

/* Enters a folder in the one that is open. Its path is there already; `before` is that of the one that is open. */
static long go_down(struct walk *walk, const char *name, ulong before) {
  if (walk->depth == MAX_LEVELS) return -ENAMETOOLONG;
  struct level *level = &walk->levels[walk->depth];
  *level = (struct level){walk->device, walk->inode, walk->offset, before};
  long error = enter(walk, walk->fd, name, O_NOFOLLOW);
  if (error >= 0) walk->depth++;
  return error;
}

static long go_up(struct walk *walk) {
  const struct level *level = &walk->levels[--walk->depth];
  long error = enter(walk, walk->fd, "..", 0);
  if (error < 0) return error;
  /* Somebody has moved the folder. */
  if (walk->device != level->device || walk->inode != level->inode) return -ESTALE;
  return 0;
}

/* The next entry of the folder that is open: 0 at its end. */
static long next_entry(struct walk *walk, const struct entry **found) {
  for (;;) {
    if (walk->names_at >= walk->names_size) {
      walk->names_size = SYS3(getdents64, walk->fd, walk->names, sizeof walk->names);
      walk->names_at = 0;
      if (walk->names_size <= 0) return walk->names_size;
    }
    const struct entry *entry = (const struct entry *)(walk->names + walk->names_at);
    walk->names_at += entry->length;
    walk->offset = (long)entry->offset;
    if (equal(entry->name, ".") || equal(entry->name, "..")) continue;
    *found = entry;
    return 1;
  }
}

/* --- listing ------------------------------------------------------------------------------------------------------ */

/* Whether the record has gone. */
static int send_record(struct walk *walk) {
  walk->record_at +=
      send_data(walk->session, STREAM_OUT, walk->record + walk->record_at, walk->record_bytes - walk->record_at);
  return walk->record_at == walk->record_bytes;
}

static long write_record(struct walk *walk, const struct stat *facts, const char *name) {
  write_facts(facts, walk->record);
  char *to = walk->record + length(walk->record) + 1;
  memcpy(to, walk->path, walk->path_bytes + 1);
  to += walk->path_bytes + 1;
  long size = 0;
  if ((facts->st_mode & KIND_MASK) == KIND_LINK) size = SYS4(readlinkat, walk->fd, name, to, PATH_BYTES - 1);
  if (size < 0) return size;
  to[size] = 0;
  walk->record_bytes = (ulong)(to + size + 1 - walk->record);
  walk->record_at = 0;
  return 0;
}

/* Lists one entry: 2 at the end, 1 to go on, less than 0 for an error. What is gone by the time it is looked at is left out. */
static long list_entry(struct walk *walk) {
  const struct entry *entry;
  long error = next_entry(walk, &entry);
  if (error < 0) return error;
  if (!error) {
    if (!walk->depth) return 2;
    error = go_up(walk);
    if (error < 0) return error;
    const struct level *level = &walk->levels[walk->depth];
    walk->offset = level->offset;
    cut_name(walk, level->path_bytes);
    return SYS3(lseek, walk->fd, level->offset, SET) < 0 ? -ESTALE : 1;
  }
  struct stat facts;
  if (SYS4(newfstatat, walk->fd, entry->name, &facts, AT_SYMLINK_NOFOLLOW) < 0) return 1;
  long before = add_name(walk, entry->name);
  if (before < 0) return before;
  error = write_record(walk, &facts, entry->name);
  int goes_down = error >= 0 && (facts.st_mode & KIND_MASK) == KIND_FOLDER && walk->depth + 1 < walk->most_depth;
  if (goes_down) {
    /* The name is in the buffer that the next folder's names come into. */
    error = go_down(walk, walk->path + before + (before ? 1 : 0), (ulong)before);
    if (error >= 0) return 1;
  }
  cut_name(walk, (ulong)before);
  return error == -ENOENT || error == -EINVAL || error == -ENOTDIR || error == -ELOOP ? 1 : error < 0 ? error : 1;
}

static void list_on(struct walk *walk) {
  long state = 1;
  while (state == 1) {
    if (!send_record(walk)) return;
    walk->record_bytes = walk->record_at = 0;
    if (room_of(walk->session, STREAM_OUT) == 0) return;
    state = list_entry(walk);
  }
  finish_session(walk->session, state < 0 ? -state : 0, "list");
}

static void list_room(struct session *session, int stream) {
  (void)stream;
  list_on(session->own);
}

static long begin_list(struct session *session, struct request *request, const char **what) {
  long depth = number_option(request, "depth", UNLIMITED, 1);
  struct walk *walk = make_walk(session, operand(request, 0));
  if (!walk) return -ENOMEM;
  *what = "depth";
  if (depth < 1) return -EINVAL;
  walk->most_depth = (ulong)depth;
  *what = "open";
  long error = enter(walk, AT_FDCWD, walk->root, 0);
  if (error < 0) return error;
  list_on(walk);
  return 0;
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

static long remove_name(int folder, const char *name) {
  long error = SYS3(unlinkat, folder, name, 0);
  /* POSIX has EPERM for a folder, Linux EISDIR. */
  if (error != -EISDIR && error != -EPERM) return error;
  long second = SYS3(unlinkat, folder, name, AT_REMOVEDIR);
  return second == -ENOTDIR ? error : second;
}

/* Removes an entry of the folder that is open, or the folder: 2 at the end, 1 to go on, less than 0 for an error. */
static long remove_entry(struct walk *walk) {
  const struct entry *entry;
  long error = next_entry(walk, &entry);
  if (error < 0) return error;
  if (error) {
    error = remove_name(walk->fd, entry->name);
    if (error >= 0 || error == -ENOENT) return 1;
    if (error != -ENOTEMPTY && error != -EEXIST) return error;
    long before = add_name(walk, entry->name);
    if (before < 0) return before;
    error = go_down(walk, walk->path + before + (before ? 1 : 0), (ulong)before);
    if (error < 0) cut_name(walk, (ulong)before);
    return error == -ENOENT || error == -ENOTDIR ? 1 : error < 0 ? error : 1;
  }
  if (!walk->depth) {
    error = SYS3(unlinkat, AT_FDCWD, walk->root, AT_REMOVEDIR);
    return error < 0 && error != -ENOENT ? error : 2;
  }
  error = go_up(walk);
  if (error < 0) return error;
  ulong before = walk->levels[walk->depth].path_bytes;
  error = SYS3(unlinkat, walk->fd, walk->path + before + (before ? 1 : 0), AT_REMOVEDIR);
  cut_name(walk, before);
  /* The folder above is read from its beginning: what was before is gone. Something new in the removed one is found again. */
  return error < 0 && error != -ENOENT && error != -ENOTEMPTY ? error : 1;
}

static void remove_some(struct waiter *waiter, unsigned events) {
  (void)events;
  struct walk *walk = (struct walk *)waiter; /* its first member */
  long state = 1;
  for (int i = 0; i < STEPS_AT_ONCE && state == 1; i++) state = remove_entry(walk);
  if (state != 1) finish_session(walk->session, state < 0 ? -state : 0, "remove");
}

static long begin_remove(struct session *session, struct request *request, const char **what) {
  const char *path = operand(request, 0);
  *what = "remove";
  long error = remove_name(AT_FDCWD, path);
  if (error == -ENOENT && number_option(request, "force", 1, 0) == 1) error = 0;
  int has_more = (error == -ENOTEMPTY || error == -EEXIST) && number_option(request, "recursive", 1, 0) == 1;
  if (!has_more) {
    if (error >= 0) finish_session(session, 0, 0);
    return error;
  }
  struct walk *walk = make_walk(session, path);
  if (!walk) return -ENOMEM;
  error = enter(walk, AT_FDCWD, path, O_NOFOLLOW);
  if (error < 0) return error;
  long turns = open_turns();
  if (turns < 0) return turns;
  walk->waiter = (struct waiter){remove_some, (int)turns, 0};
  watch_for(&walk->waiter, EPOLLIN);
  return walk->waiter.watched ? 0 : -ENOMEM;
}

const struct operation tree_operations[] = {
    {.name = "list", .options = "depth", .operands = 1, .begin = begin_list, .room = list_room, .closed = close_walk},
    {.name = "remove", .options = "recursive force", .operands = 1, .begin = begin_remove, .closed = close_walk},
    {.name = 0},
};
