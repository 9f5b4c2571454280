// Standard streams that are nodes of the host's file systems: terminals, FIFOs, devices.
//
// Whoever owns such a node is somebody in the superuser's container, and could change its mode and owner by way of an open descriptor: the
// operator's terminal would be everybody's. So the command gets the same node opened once more, on a mount that is read-only: that holds
// back whoever changes the node, and nobody who writes to it.
#include "launcher.h"
#include <linux/mount.h>

#define PIPEFS_MAGIC 0x50495045

static long open_again(int file, int flags) {
  char path[32] = "/proc/self/fd/";
  put_number(path + 14, (unsigned)file);
  // A terminal would wait for its line, a FIFO for its other end.
  long fd = SYS4(__NR_openat, AT_FDCWD, path, (flags & (O_ACCMODE | O_APPEND)) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
  if (fd >= 0) SYS3(__NR_fcntl, fd, F_SETFL, flags);
  return fd;
}

int is_node(int fd) {
  uint64_t facts[32]; // struct statfs, which begins with the type
  return SYS2(__NR_fstatfs, fd, facts) < 0 || facts[0] != PIPEFS_MAGIC;
}

long reopen_read_only(int fd) {
  long tree = SYS3(__NR_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) return tree;
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
  long result = SYS5(__NR_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
  if (result >= 0) result = open_again((int)tree, (int)SYS2(__NR_fcntl, fd, F_GETFL));
  SYS1(__NR_close, tree);
  if (result < 0) return result;
  long error = SYS2(__NR_dup2, result, fd);
  SYS1(__NR_close, result);
  return error < 0 ? error : 0;
}

int without_waiting(int terminal) {
  char facts[64]; // struct termios
  if (SYS3(__NR_ioctl, terminal, TCGETS, facts) < 0) return terminal;
  long fd = open_again(terminal, O_WRONLY | O_NONBLOCK);
  return fd < 0 ? terminal : (int)fd;
}
