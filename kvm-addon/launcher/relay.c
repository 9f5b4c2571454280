// What goes one way between two descriptors: terminals, and files that are standard streams.
//
// A file is not handed to a container: who is the superuser in it would open it again by /proc/self/fd, for reading what is in the log
// or for writing what is not its own. The command gets a pipe, and the launcher, which is not in the container, reads and writes.
#include "launcher.h"

#define MAJOR_OF_MEMORY 1 // null, zero, full, random, urandom: every container has them
#define RELAYED_FD 10     // the files are kept from here on

struct poll_fd next_of(const struct direction *way) {
  int full = way->held > way->sent;
  return (struct poll_fd){full ? way->to : way->from, full ? POLLOUT : POLLIN, 0};
}

// A read or a write that poll said would not wait.
long move(struct direction *way) {
  int full = way->held > way->sent;
  long count = full ? SYS3(__NR_write, way->to, way->bytes + way->sent, way->held - way->sent)
                    : SYS3(__NR_read, way->from, way->bytes, sizeof way->bytes);
  if (count == -EAGAIN || count == -EINTR) return 1;
  if (count <= 0) return count; // the end; EIO: the last slave is closed; EPIPE: nobody reads any more
  if (full) {
    way->sent += (size_t)count;
  } else {
    way->held = (size_t)count;
    way->read += (size_t)count;
    way->sent = 0;
  }
  return 1;
}

void end_of(struct direction *way) {
  way->from = way->to = -1;
  way->held = way->sent = 0;
}

static int is_harmless_device(const struct stat *facts) {
  uint32_t major = (uint32_t)(facts->st_rdev >> 8) & 0xfff, minor = (uint32_t)facts->st_rdev & 0xff;
  return major == MAJOR_OF_MEMORY && facts->st_rdev < 1 << 16 && minor >= 3 && minor <= 9 && minor != 4;
}

// Whether it must be kept out of the container: files, and nodes that cannot be put out of the command's reach, since they are of another
// mount namespace, or the other end is gone. EISDIR: it can be no stream, and would be a way to all that is around it.
static long is_relayed(int fd, struct stat *facts) {
  if (SYS2(__NR_fstat, fd, facts) < 0) return 0; // closed
  char terminal[64]; // struct termios
  switch (facts->st_mode & S_IFMT) {
    case S_IFDIR:
      return -EISDIR;
    case S_IFREG:
    case S_IFBLK:
      return 1;
    case S_IFCHR:
      return (!is_harmless_device(facts) && SYS3(__NR_ioctl, fd, TCGETS, terminal) < 0) || reopen_read_only(fd, facts) < 0;
    case S_IFIFO:
      return is_node(fd) && reopen_read_only(fd, facts) < 0;
    default:
      return 0;
  }
}

// Whether both write to one place, one behind the other: what a shell makes of 2>&1.
static int is_same(int fd, const struct stat *one, int other_fd, const struct stat *other) {
  return one->st_dev == other->st_dev && one->st_ino == other->st_ino &&
         SYS2(__NR_fcntl, fd, F_GETFL) == SYS2(__NR_fcntl, other_fd, F_GETFL) &&
         SYS3(__NR_lseek, fd, 0, 1) == SYS3(__NR_lseek, other_fd, 0, 1);
}

static long relay(struct direction *way, int fd) {
  int ends[2];
  long error = SYS2(__NR_pipe2, ends, O_CLOEXEC);
  if (error < 0) return error;
  long file = SYS3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, RELAYED_FD);
  if (file < 0) return file;
  int in = fd == 0;
  error = SYS2(__NR_dup2, ends[in ? 0 : 1], fd);
  if (error < 0) return error;
  if (in) {
    *way = (struct direction){.from = (int)file, .to = ends[1], .file = (int)file, .pipe = ends[0]};
  } else {
    SYS1(__NR_close, ends[1]);
    way->from = ends[0], way->to = (int)file;
  }
  return 0;
}

long relay_files(struct direction *ways) {
  struct stat facts[WAYS];
  long relayed[WAYS];
  for (int fd = 0; fd < WAYS; fd++) {
    relayed[fd] = is_relayed(fd, &facts[fd]);
    if (relayed[fd] < 0) return relayed[fd];
  }
  int together = relayed[1] && relayed[2] && is_same(1, &facts[1], 2, &facts[2]);
  for (int fd = 0; fd < WAYS; fd++) {
    long error = !relayed[fd] ? 0 : fd == 2 && together ? SYS2(__NR_dup2, 1, 2) : relay(&ways[fd], fd);
    if (error < 0) return error;
  }
  return 0;
}

void forget_files(const struct direction *ways) {
  for (int i = 0; i < WAYS; i++) {
    if (ways[i].from >= 0) SYS1(__NR_close, ways[i].from);
    if (ways[i].to >= 0) SYS1(__NR_close, ways[i].to);
    if (ways[i].pipe >= 0) SYS1(__NR_close, ways[i].pipe);
  }
}

void give_back(const struct direction *way) {
  if (way->pipe < 0) return;
  int unread = 0;
  SYS3(__NR_ioctl, way->pipe, FIONREAD, &unread);
  size_t left = (size_t)unread + way->held - way->sent;
  // The command may have put something into its pipe itself: nobody reads again what was before it.
  if (left > way->read) left = way->read;
  // Whoever reads on after the command, as in a shell's list, finds the rest.
  if (left > 0) SYS3(__NR_lseek, way->file, -(long)left, 1);
}
