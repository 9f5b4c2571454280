// Standard streams that are nodes of the host's file systems: terminals, FIFOs, devices.
//
// Whoever owns such a node is somebody in the container, and could change its mode and owner by way of an open descriptor: the operator's
// terminal would be everybody's. So the command gets the same node opened once more, on a mount that is read-only: that holds
// back whoever changes the node, and nobody who writes to it.
#include "launcher.h"
#include <linux/mount.h>
#include <linux/sched.h>

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

// Puts what is open in fd once more there, on a mount of its own at the same node.
static long reopen(int fd, int node) {
  long tree = SYS3(__NR_open_tree, node, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
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

// The same for a user, who may mount in namespaces of their own: a child is in them for as long as that takes, and its descriptors are
// this process's. A descriptor from outside is none of its mounts, so the node is looked for by its path.
static long reopen_as_user(int fd, const struct stat *facts) {
  struct clone_arguments arguments = {.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_FILES, .exit_signal = SIGCHLD};
  long child = SYS2(__NR_clone3, &arguments, sizeof arguments);
  if (child < 0) return child;
  if (child == 0) {
    char link[32] = "/proc/self/fd/", path[4096];
    put_number(link + 14, (unsigned)fd);
    long length = SYS3(__NR_readlink, link, path, sizeof path - 1);
    if (length < 0) leave(1);
    path[length] = 0;
    int node = (int)SYS4(__NR_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    if (node < 0) leave(1);
    struct stat found = {0};
    SYS2(__NR_fstat, node, &found);
    long error = found.st_dev == facts->st_dev && found.st_ino == facts->st_ino ? reopen(fd, node) : -ENOENT;
    SYS1(__NR_close, node);
    leave(error < 0);
  }
  uint32_t status = 1;
  SYS4(__NR_wait4, child, &status, 0, 0);
  return status == 0 ? 0 : -EPERM;
}

long reopen_read_only(int fd, const struct stat *facts) {
  long error = reopen(fd, fd);
  if (error != -EPERM) return error;
  // The superuser is nobody in a user's container.
  return facts->st_uid == 0 ? 0 : reopen_as_user(fd, facts);
}

int without_waiting(int terminal) {
  char facts[64]; // struct termios
  if (SYS3(__NR_ioctl, terminal, TCGETS, facts) < 0) return terminal;
  long fd = open_again(terminal, O_WRONLY | O_NONBLOCK);
  return fd < 0 ? terminal : (int)fd;
}
