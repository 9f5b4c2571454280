/* Locks among the processes of one system, and extended attributes. */
#include "check.h"

#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/xattr.h>

CHECK(locks, flock) {
  file("f", 0644);
  int fd = opened("f", O_RDWR);
  tell("exclusive", flock(fd, LOCK_EX));
  BESIDE {
    tell("inherited", flock(fd, LOCK_EX | LOCK_NB));
    tell("other", flock(opened("f", O_RDWR), LOCK_SH | LOCK_NB));
  }
  tell("shared", flock(fd, LOCK_SH));
  BESIDE tell("other", flock(opened("f", O_RDONLY), LOCK_SH | LOCK_NB));
  close(fd);
  BESIDE tell("closed", flock(opened("f", O_RDWR), LOCK_EX | LOCK_NB));
}

static int lock(int fd, int command, short type, off_t start, off_t length) {
  struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  int result = fcntl(fd, command, &range);
  if (command == F_GETLK && result == 0) say("found=%d,%lld", range.l_type, (long long)range.l_start);
  return result;
}

CHECK(locks, records) {
  file("f", 0644);
  int fd = opened("f", O_RDWR);
  tell("write", lock(fd, F_SETLK, F_WRLCK, 10, 10));
  BESIDE {
    int other = opened("f", O_RDWR);
    tell("overlap", lock(other, F_SETLK, F_RDLCK, 15, 10));
    tell("beside", lock(other, F_SETLK, F_WRLCK, 20, 10));
    lock(other, F_GETLK, F_WRLCK, 0, 0);
  }
  close(opened("f", O_RDONLY));
  BESIDE tell("after_close", lock(opened("f", O_RDWR), F_SETLK, F_WRLCK, 10, 10));
}

CHECK(locks, records_of_wrong_descriptors) {
  file("f", 0644);
  tell("write", lock(opened("f", O_RDONLY), F_SETLK, F_WRLCK, 0, 1));
  tell("read", lock(opened("f", O_WRONLY), F_SETLK, F_RDLCK, 0, 1));
}

CHECK(locks, open_file_description) {
  file("f", 0644);
  int a = opened("f", O_RDWR), b = opened("f", O_RDWR);
  tell("first", lock(a, F_OFD_SETLK, F_WRLCK, 0, 0));
  tell("second", lock(b, F_OFD_SETLK, F_WRLCK, 0, 0));
  close(a);
  tell("again", lock(b, F_OFD_SETLK, F_WRLCK, 0, 0));
}

CHECK(locks, lease) {
  file("f", 0644);
  tell("write", fcntl(opened("f", O_RDONLY), F_SETLEASE, F_WRLCK));
}

CHECK(locks, inotify) {
  int fd = (int)need(inotify_init1(IN_NONBLOCK));
  need(inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVED_FROM));
  file("f", 0644);
  need(rename("f", "g"));
  need(unlink("g"));
  char events[1024];
  value("bytes", read(fd, events, sizeof events));
}

static int set(const char *path, const char *name, int flags) { return lsetxattr(path, name, "value", 5, flags); }

static int found(const char *path, const char *name) {
  char value[99];
  return (int)lgetxattr(path, name, value, sizeof value);
}

CHECK(xattr, of_user) {
  file("f", 0644);
  tell("set", set("f", "user.a", 0));
  value("get", found("f", "user.a"));
  tell("create", set("f", "user.a", XATTR_CREATE));
  tell("replace", set("f", "user.a", XATTR_REPLACE));
  tell("replace_missing", set("f", "user.b", XATTR_REPLACE));
  tell("missing", found("f", "user.b"));
  tell("remove", lremovexattr("f", "user.a"));
  tell("again", lremovexattr("f", "user.a"));
}

CHECK(xattr, sizes) {
  file("f", 0644);
  static char bytes[70000], list[9];
  need(set("f", "user.a", 0));
  value("size", lgetxattr("f", "user.a", NULL, 0));
  tell("small", lgetxattr("f", "user.a", bytes, 2));
  value("list", llistxattr("f", NULL, 0));
  tell("small_list", llistxattr("f", list, 2));
  tell("empty", lsetxattr("f", "user.e", "", 0, 0));
  value("empty", found("f", "user.e"));
  tell("kilobyte", lsetxattr("f", "user.k", bytes, 1024, 0));
  tell("largest", lsetxattr("f", "user.l", bytes, 65537, 0));
}

CHECK(xattr, list) {
  file("f", 0644);
  char list[99];
  value("none", llistxattr("f", list, sizeof list));
  need(set("f", "user.b", 0));
  need(set("f", "user.a", 0));
  value("two", llistxattr("f", list, sizeof list));
}

CHECK(xattr, names) {
  char name[300] = "user.";
  file("f", 0644);
  tell("none", set("f", "user.", 0));
  memset(name + 5, 'n', 250);
  tell("longest", set("f", name, 0));
  memset(name + 5, 'n', 251);
  tell("too_long", set("f", name, 0));
  tell("bytes", set("f", "user.\xff\xfe", 0));
  value("bytes", found("f", "user.\xff\xfe"));
  tell("without_namespace", set("f", "name", 0));
}

CHECK(xattr, other_namespaces) {
  file("f", 0644);
  tell("trusted", set("f", "trusted.a", 0));
  tell("security", set("f", "security.a", 0));
  tell("system", set("f", "system.a", 0));
  tell("acl", found("f", "system.posix_acl_access"));
  tell("capability", found("f", "security.capability"));
}

CHECK(xattr, other_files) {
  need(mkdir("d", 0755));
  need(symlink("d", "l"));
  tell("directory", set("d", "user.a", 0));
  tell("link", set("l", "user.a", 0));
  tell("missing", set("none", "user.a", 0));
}

CHECK(xattr, of_fifo) {
  need(mkfifo("p", 0644));
  tell("set", set("p", "user.a", 0));
}

CHECK(xattr, by_others) {
  file("f", 0644);
  need(set("f", "user.a", 0));
  AS(OTHER, OTHER, 0) {
    tell("set", set("f", "user.a", 0));
    value("get", found("f", "user.a"));
    tell("remove", lremovexattr("f", "user.a"));
  }
  need(chmod("f", 0600));
  AS(OTHER, OTHER, 0) tell("read", found("f", "user.a"));
}

CHECK(xattr, by_descriptor) {
  file("f", 0644);
  int fd = opened("f", O_RDONLY);
  char value_[9];
  tell("set", fsetxattr(fd, "user.a", "value", 5, 0));
  need(unlink("f"));
  value("get", fgetxattr(fd, "user.a", value_, sizeof value_));
  tell("unlinked", fsetxattr(fd, "user.b", "value", 5, 0));
}

CHECK(xattr, stay_with_the_file) {
  file("f", 0644);
  need(set("f", "user.a", 0));
  need(link("f", "g"));
  need(rename("f", "h"));
  value("get", found("g", "user.a"));
}
