/* Contents of files: reading and writing them, holes included. */
#include "file-parts.h"
#include "ring.h"

enum { NEW_FILE_MODE = 0644, MAX_ID = 0x7ffffffe, SEEK_DATA_FROM = 3, SEEK_HOLE_FROM = 4, SET = 0, WRITEBACK_BYTES = 8 << 20 };

static char piece[MAX_PAYLOAD_BYTES];

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct reading {
  struct waiter waiter; /* of what is no file, such as a pipe */
  struct session *session;
  ulong offset, left;
  ulong data_end; /* up to there is data, for sure */
  int is_file;
};

/* Sends the hole that begins here, if one does. 0: no room; less: error; else whether to go on. */
static long pass_hole(struct reading *reading) {
  ulong at = reading->offset;
  long data = SYS3(lseek, reading->waiter.fd, at, SEEK_DATA_FROM), end = data;
  if (data == -ENXIO) { /* a hole up to the end, or beyond it */
    struct stat facts;
    long error = SYS2(fstat, reading->waiter.fd, &facts);
    if (error < 0) return error;
    data = facts.st_size > (long)at ? (long)facts.st_size : (long)at;
    end = data;
  } else if (data >= 0) {
    end = SYS3(lseek, reading->waiter.fd, data, SEEK_HOLE_FROM);
  }
  if (data < 0 || end < data) { /* the file system knows nothing of holes */
    reading->data_end = MAX_OFFSET;
    return 1;
  }
  reading->data_end = (ulong)end;
  ulong hole = (ulong)data - at < reading->left ? (ulong)data - at : reading->left;
  if (!hole) {
    if (data == end) reading->data_end = at + 1; /* at the end: the read finds it */
    return 1;
  }
  if (!send_hole(reading->session, STREAM_OUT, hole)) {
    reading->data_end = at;
    return 0;
  }
  reading->offset += hole;
  reading->left -= hole;
  return 1;
}

/* 0: wait; 1: go on; 2: at the end; less: error. */
static long read_piece(struct reading *reading) {
  if (!reading->left) return 2;
  if (reading->is_file && reading->offset >= reading->data_end) {
    long error = pass_hole(reading);
    if (error <= 0) return error;
    if (!reading->left) return 2;
  }
  ulong size = room_of(reading->session, STREAM_OUT);
  if (!size) {
    watch_for(&reading->waiter, 0);
    return 0;
  }
  if (size > sizeof piece) size = sizeof piece;
  if (size > reading->left) size = reading->left;
  if (reading->is_file && reading->offset < reading->data_end && size > reading->data_end - reading->offset)
    size = reading->data_end - reading->offset;
  ssize got = reading->is_file ? SYS4(pread64, reading->waiter.fd, piece, size, reading->offset)
                               : SYS3(read, reading->waiter.fd, piece, size);
  if (got == -EINTR) return 1;
  if (got == -EAGAIN && !reading->is_file) {
    watch_for(&reading->waiter, EPOLLIN);
    return reading->waiter.watched ? 0 : -EAGAIN;
  }
  if (got <= 0) return got ? got : 2;
  send_data(reading->session, STREAM_OUT, piece, (ulong)got);
  reading->offset += (ulong)got;
  reading->left -= (ulong)got;
  return 1;
}

/* It ends: what may be sent without a credit is bounded. */
static void read_on(struct reading *reading) {
  struct session *session = reading->session;
  long state;
  while ((state = read_piece(reading)) == 1) {}
  if (state == 2) finish_session(session, 0, 0);
  else if (state < 0) finish_session(session, -state, "read");
}

static void reading_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  read_on((struct reading *)waiter); /* its first member */
}

static long begin_read(struct session *session, struct request *request, const char **what) {
  long offset = number_option(request, "offset", MAX_OFFSET, 0), size = number_option(request, "length", MAX_OFFSET, MAX_OFFSET);
  struct reading *reading = offset < 0 || size < 0 ? 0 : allocate(sizeof *reading);
  if (!reading) return offset < 0 || size < 0 ? -EINVAL : -ENOMEM;
  session->own = reading;
  *reading = (struct reading){.waiter = {reading_ready, -1, 0}, .session = session, .offset = (ulong)offset, .left = (ulong)size};
  *what = "open";
  long fd = SYS3(open, operand(request, 0), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  reading->waiter.fd = (int)fd;
  struct stat facts;
  long error = SYS2(fstat, fd, &facts);
  if (error < 0) return error;
  if ((facts.st_mode & KIND_MASK) == KIND_FOLDER) return -EISDIR;
  reading->is_file = (facts.st_mode & KIND_MASK) == KIND_FILE || (facts.st_mode & KIND_MASK) == 0060000;
  if (!reading->is_file && offset) SYS3(lseek, fd, offset, SET);
  /* A file that says it has nothing, as those of /proc do, is read to see. */
  if (!facts.st_size) reading->data_end = MAX_OFFSET;
  char digits[2][24];
  const char *const parts[] = {"size=", decimal_long((ulong)facts.st_size, digits[0]), "mode=",
                               decimal_long(facts.st_mode, digits[1]), 0};
  reply(session, parts, 0);
  read_on(reading);
  return 0;
}

static void read_room(struct session *session, int stream) {
  (void)stream;
  read_on(session->own);
}

static void close_reading(struct session *session) {
  struct reading *reading = session->own;
  if (!reading) return;
  stop_watching(&reading->waiter);
  if (reading->waiter.fd >= 0) SYS1(close, reading->waiter.fd);
  release(reading, sizeof *reading);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

struct writing {
  struct waiter waiter;
  struct session *session;
  const char *path;
  struct ring queue; /* of what is no file, and takes no more now */
  ulong position, size; /* size: bytes that came, holes included */
  ulong unsynced;
  long mode, uid, gid; /* -1: left as they are */
  struct __kernel_timespec times[2];
  int is_file, appends, is_part, is_atomic, is_exclusive, has_time, is_ended;
  char temporary[PATH_BYTES]; /* path of the new file that takes the place of the old one; empty without */
};

static long settle_file(struct writing *writing) {
  int fd = writing->waiter.fd;
  long error = 0;
  struct stat facts;
  if (writing->is_file && (error = SYS2(fstat, fd, &facts)) >= 0 && facts.st_size < (long)writing->position)
    error = SYS2(ftruncate, fd, writing->position);
  if (error >= 0 && (writing->uid >= 0 || writing->gid >= 0)) error = SYS3(fchown, fd, writing->uid, writing->gid);
  if (error >= 0 && writing->mode >= 0) error = SYS2(fchmod, fd, writing->mode);
  if (error >= 0 && writing->has_time) error = SYS4(utimensat, fd, 0, writing->times, 0);
  if (error < 0 || !writing->is_atomic) return error;
  if ((error = SYS1(fsync, fd)) < 0) return error;
  error = SYS5(renameat2, AT_FDCWD, writing->temporary, AT_FDCWD, writing->path, writing->is_exclusive ? 1 /* RENAME_NOREPLACE */ : 0);
  if (error < 0) return error;
  /* The name is on the disk as well. */
  ulong n = length(writing->temporary);
  while (n && writing->temporary[n - 1] != '/') n--;
  writing->temporary[n] = 0;
  long folder = SYS3(open, n ? writing->temporary : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (folder >= 0) {
    SYS1(fsync, folder);
    SYS1(close, folder);
  }
  writing->temporary[0] = 0;
  return 0;
}

static void finish_writing(struct writing *writing) {
  long error = settle_file(writing);
  if (error < 0) return finish_session(writing->session, -error, "write");
  char digits[24];
  const char *const parts[] = {"size=", decimal_long(writing->size, digits), 0};
  reply(writing->session, parts, 1);
}

/* What went; an error ends the session, and is -1. */
static long put(struct writing *writing, const char *bytes, ulong size) {
  ulong sent = 0;
  while (sent < size) {
    long result = writing->is_file && !writing->appends
                      ? SYS4(pwrite64, writing->waiter.fd, bytes + sent, size - sent, writing->position)
                      : SYS3(write, writing->waiter.fd, bytes + sent, size - sent);
    if (result == -EINTR) continue;
    if (result == -EAGAIN && !writing->is_file) break;
    if (result <= 0) {
      finish_session(writing->session, result ? -result : EIO, "write");
      return -1;
    }
    sent += (ulong)result;
    writing->position += (ulong)result;
  }
  writing->unsynced += sent;
  if (writing->is_atomic && writing->unsynced >= WRITEBACK_BYTES) {
    /* The disk begins with it now, so that it has not all to do at the end. */
    SYS4(sync_file_range, writing->waiter.fd, 0, 0, 2 /* SYNC_FILE_RANGE_WRITE */);
    writing->unsynced = 0;
  }
  return (long)sent;
}

static void writing_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  struct writing *writing = (struct writing *)waiter; /* its first member */
  while (writing->queue.used) {
    const char *bytes;
    ulong size = ring_front(&writing->queue, &bytes);
    long sent = put(writing, bytes, size);
    if (sent <= 0) return;
    ring_drop(&writing->queue, (ulong)sent);
    consumed(writing->session, (ulong)sent);
  }
  watch_for(waiter, 0);
  if (writing->is_ended) finish_writing(writing);
}

static void write_data(struct session *session, const char *bytes, ulong size) {
  struct writing *writing = session->own;
  long sent = writing->queue.used ? 0 : put(writing, bytes, size);
  if (sent < 0) return;
  writing->size += size;
  consumed(session, (ulong)sent);
  if ((ulong)sent == size) return;
  watch_for(&writing->waiter, EPOLLOUT);
  if (!writing->waiter.watched || ring_put(&writing->queue, bytes + sent, size - (ulong)sent) < 0)
    finish_session(session, ENOMEM, "write");
}

static void write_hole(struct session *session, ulong size) {
  struct writing *writing = session->own;
  if (!writing->is_file) return finish_session(session, ESPIPE, "hole");
  if (size > (ulong)MAX_OFFSET - writing->position) return finish_session(session, EFBIG, "hole");
  long error = 0;
  if (writing->is_part)
    error = SYS4(fallocate, writing->waiter.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, writing->position, size);
  writing->position += size;
  writing->size += size;
  if (writing->appends) error = SYS2(ftruncate, writing->waiter.fd, writing->position);
  if (error < 0) finish_session(session, -error, "hole");
}

static void end_write(struct session *session) {
  struct writing *writing = session->own;
  writing->is_ended = 1;
  if (!writing->queue.used) finish_writing(writing);
}

static void close_writing(struct session *session) {
  struct writing *writing = session->own;
  if (!writing) return;
  stop_watching(&writing->waiter);
  if (writing->waiter.fd >= 0) SYS1(close, writing->waiter.fd);
  if (writing->temporary[0]) SYS1(unlink, writing->temporary);
  ring_clear(&writing->queue);
  release(writing, sizeof *writing);
}

/* Opens a file beside the one that is written, with its facts. */
static long open_beside(struct writing *writing, long mode) {
  static ulong count;
  struct stat facts;
  char digits[2][24];
  const char *const name[] = {"/.tsvm-", decimal_long((ulong)SYS0(getpid), digits[0]), "-", decimal_long(count++, digits[1]), "~"};
  ulong size = length(writing->path), n = size;
  while (n && writing->path[n - 1] != '/') n--;
  if (n == size) return -EISDIR;
  if (n + 64 > sizeof writing->temporary) return -ENAMETOOLONG;
  long found = SYS4(newfstatat, AT_FDCWD, writing->path, &facts, 0);
  if (found >= 0 && writing->is_exclusive) return -EEXIST;
  if (found >= 0 && (facts.st_mode & KIND_MASK) == KIND_FOLDER) return -EISDIR;
  if (found >= 0) {
    if (writing->uid < 0) writing->uid = facts.st_uid;
    if (writing->gid < 0) writing->gid = facts.st_gid;
    mode = facts.st_mode & MODE_BITS;
  }
  writing->mode = mode;
  if (n) memcpy(writing->temporary, writing->path, n);
  char *to = writing->temporary + n;
  for (int i = 0; i < 5; i++)
    for (const char *from = i ? name[i] : name[i] + 1; *from;) *to++ = *from++;
  long fd = SYS3(open, writing->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) writing->temporary[0] = 0;
  return fd;
}

static long open_written(struct writing *writing, long mode, int has_mode, int replaces) {
  long flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (writing->appends ? O_APPEND : 0);
  if (writing->is_atomic) return open_beside(writing, mode);
  if (replaces) SYS1(unlink, writing->path);
  long fd = SYS3(open, writing->path, flags | O_CREAT | O_EXCL, mode & 0777);
  if (fd >= 0 && has_mode) writing->mode = mode;
  if (fd != -EEXIST || writing->is_exclusive) return fd;
  return SYS3(open, writing->path, flags | O_CREAT | (writing->appends || writing->is_part ? 0 : O_TRUNC), mode & 0777);
}

static long begin_write(struct session *session, struct request *request, const char **what) {
  struct writing *writing = allocate(sizeof *writing);
  if (!writing) return -ENOMEM;
  session->own = writing;
  long mode = number_option(request, "mode", MODE_BITS, NEW_FILE_MODE), offset = number_option(request, "offset", MAX_OFFSET, 0);
  *writing = (struct writing){
      .waiter = {writing_ready, -1, 0},
      .session = session,
      .path = operand(request, 0),
      .queue = {.size = 2 * WINDOW_BYTES},
      .position = (ulong)offset,
      .mode = -1,
      .uid = number_option(request, "uid", MAX_ID, -1),
      .gid = number_option(request, "gid", MAX_ID, -1),
      .times = {{0, 0x3ffffffe /* UTIME_OMIT */}},
      .appends = number_option(request, "append", 1, 0) == 1,
      .is_part = option(request, "offset") != 0,
      .is_atomic = number_option(request, "atomic", 1, 0) == 1,
      .is_exclusive = number_option(request, "exclusive", 1, 0) == 1,
  };
  const char *time = option(request, "mtime");
  writing->has_time = time != 0;
  *what = "options";
  if (mode < 0 || offset < 0 || writing->uid == -EINVAL || writing->gid == -EINVAL) return -EINVAL;
  if (time && !read_time(time, &writing->times[1])) return -EINVAL;
  if (writing->is_part + writing->appends + writing->is_atomic > 1) return -EINVAL;
  *what = "open";
  long fd = open_written(writing, mode, option(request, "mode") != 0, number_option(request, "replace", 1, 0) == 1);
  if (fd < 0) return fd;
  writing->waiter.fd = (int)fd;
  struct stat facts;
  long error = SYS2(fstat, fd, &facts);
  if (error < 0) return error;
  writing->is_file = (facts.st_mode & KIND_MASK) == KIND_FILE;
  if (writing->appends) writing->position = (ulong)facts.st_size;
  return 0;
}

const struct operation content_operations[] = {
    {.name = "read", .options = "offset length", .operands = 1, .begin = begin_read, .room = read_room, .closed = close_reading},
    {.name = "write",
     .options = "mode append exclusive offset atomic replace uid gid mtime",
     .operands = 1,
     .begin = begin_write,
     .data = write_data,
     .hole = write_hole,
     .end = end_write,
     .closed = close_writing},
    {.name = 0},
};
