/* Flags of open(2), and what descriptors may do afterwards. */
#include "check.h"

#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

CHECK(open, missing) { tell("open", open("f", O_RDWR)); }

CHECK(open, create) {
  tell("open", open("f", O_CREAT | O_RDWR, 0666));
  mode_of("f");
}

CHECK(open, create_umask_077) {
  umask(077);
  tell("open", open("f", O_CREAT | O_RDWR, 0666));
  mode_of("f");
}

CHECK(open, create_setid_bits) {
  tell("open", open("f", O_CREAT | O_RDWR, 06755));
  mode_of("f");
}

CHECK(open, create_sticky_bit) {
  tell("open", open("f", O_CREAT | O_RDWR, 01644));
  mode_of("f");
}

CHECK(open, create_of_mode_0_is_written) {
  AS(OWNER, OWNER, 0) {
    int fd = (int)need(open("f", O_CREAT | O_EXCL | O_RDWR, 0));
    tell("write", write(fd, "hello", 5));
    tell("truncate", ftruncate(fd, 3));
    tell("again", open("f", O_RDONLY));
  }
  mode_of("f");
  value("size", status("f").st_size);
}

CHECK(open, exclusive_on_file) {
  file("f", 0644);
  tell("open", open("f", O_CREAT | O_EXCL | O_RDWR, 0644));
}

CHECK(open, exclusive_on_dangling_link) {
  need(symlink("none", "l"));
  tell("open", open("l", O_CREAT | O_EXCL | O_RDWR, 0644));
}

CHECK(open, create_through_dangling_link) {
  need(symlink("target", "l"));
  tell("open", open("l", O_CREAT | O_RDWR, 0644));
  mode_of("target");
}

CHECK(open, truncate) {
  file("f", 0644);
  tell("open", open("f", O_WRONLY | O_TRUNC));
  value("size", status("f").st_size);
}

CHECK(open, truncate_read_only_descriptor) {
  file("f", 0644);
  tell("open", open("f", O_RDONLY | O_TRUNC));
  value("size", status("f").st_size);
}

CHECK(open, create_and_truncate_existing) {
  file("f", 0600);
  tell("open", open("f", O_WRONLY | O_CREAT | O_TRUNC, 0644));
  value("size", status("f").st_size);
  mode_of("f");
}

CHECK(open, nofollow_link) {
  file("f", 0644);
  need(symlink("f", "l"));
  tell("open", open("l", O_RDONLY | O_NOFOLLOW));
}

CHECK(open, path_of_link) {
  need(symlink("f", "l"));
  int fd = (int)need(open("l", O_PATH | O_NOFOLLOW));
  char target[9];
  say("type=%o", status_of(fd).st_mode & S_IFMT);
  value("readlink", readlinkat(fd, "", target, sizeof target));
}

CHECK(open, path_descriptor) {
  file("f", 0644);
  int fd = (int)need(open("f", O_PATH));
  char byte;
  tell("read", read(fd, &byte, 1));
  tell("fchmod", fchmod(fd, 0600));
  value("size", status_of(fd).st_size);
}

CHECK(open, path_descriptor_again) {
  file("f", 0644);
  int fd = (int)need(open("f", O_PATH));
  need(rename("f", "g"));
  char byte;
  int again = open(descriptor_name(fd), O_RDWR);
  if (tell("open", again)) value("read", read(again, &byte, 1));
}

CHECK(open, directory_flag_on_file) {
  file("f", 0644);
  tell("open", open("f", O_RDONLY | O_DIRECTORY));
}

CHECK(open, directory_for_writing) {
  need(mkdir("d", 0755));
  tell("write", open("d", O_WRONLY));
  tell("create", open("d", O_RDONLY | O_CREAT, 0644));
  tell("read", open("d", O_RDONLY));
}

CHECK(open, slash_behind) {
  file("f", 0644);
  tell("file", open("f/", O_RDONLY));
  tell("create", open("new/", O_CREAT | O_RDWR, 0644));
  tell("through", open("f/x", O_RDONLY));
  tell("nothing", open("", O_RDONLY));
}

CHECK(open, access_mode_3) {
  file("f", 0644);
  int fd = open("f", O_ACCMODE);
  char byte;
  if (!tell("open", fd)) return;
  tell("read", read(fd, &byte, 1));
  tell("write", write(fd, "x", 1));
}

CHECK(open, noatime) {
  file("f", 0666);
  tell("root", open("f", O_RDONLY | O_NOATIME));
  AS(OTHER, OTHER, 0) tell("other", open("f", O_RDONLY | O_NOATIME));
}

CHECK(open, access_of_descriptors) {
  file("f", 0644);
  char byte;
  tell("read", read(opened("f", O_WRONLY), &byte, 1));
  tell("write", write(opened("f", O_RDONLY), "x", 1));
  tell("truncate", ftruncate(opened("f", O_RDONLY), 1));
}

CHECK(open, append) {
  file("f", 0644);
  int fd = opened("f", O_RDWR | O_APPEND);
  need(write(fd, "abc", 3));
  value("position", lseek(fd, 0, SEEK_CUR));
  need(pwrite(fd, "def", 3, 0));
  text_of("f");
}

CHECK(open, append_by_two) {
  file("f", 0644);
  int a = opened("f", O_WRONLY | O_APPEND), b = opened("f", O_WRONLY | O_APPEND);
  need(write(a, "1", 1));
  need(write(b, "2", 1));
  need(write(a, "3", 1));
  text_of("f");
}

CHECK(open, append_set_and_cleared) {
  file("f", 0644);
  int fd = opened("f", O_RDWR);
  tell("set", fcntl(fd, F_SETFL, O_APPEND));
  need(pwrite(fd, "1", 1, 0));
  tell("clear", fcntl(fd, F_SETFL, 0));
  need(pwrite(fd, "2", 1, 0));
  text_of("f");
}

CHECK(open, append_cleared_after_open) {
  file("f", 0644);
  int fd = opened("f", O_RDWR | O_APPEND);
  tell("clear", fcntl(fd, F_SETFL, 0));
  need(pwrite(fd, "2", 1, 0));
  text_of("f");
}

CHECK(open, append_mapped) {
  file("f", 0644);
  int fd = opened("f", O_RDWR | O_APPEND);
  char *page = mapped(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  page[0] = 'J';
  tell("msync", msync(page, 4096, MS_SYNC));
  munmap(page, 4096);
  close(fd);
  value("size", status("f").st_size);
  text_of("f");
}

CHECK(open, append_mapped_and_written) {
  file("f", 0644);
  int fd = opened("f", O_RDWR | O_APPEND);
  char *page = mapped(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  page[0] = 'J';
  need(write(fd, "!", 1));
  tell("msync", msync(page, 4096, MS_SYNC));
  value("size", status("f").st_size);
  text_of("f");
}

CHECK(open, flags_read_back) {
  file("f", 0644);
  int flags = fcntl(opened("f", O_RDWR | O_APPEND | O_SYNC | O_NONBLOCK), F_GETFL);
  say("append=%d sync=%d nonblock=%d", !!(flags & O_APPEND), (flags & O_SYNC) == O_SYNC, !!(flags & O_NONBLOCK));
}

CHECK(open, sync) {
  tell("sync", write(opened("f", O_CREAT | O_WRONLY | O_SYNC), "1", 1));
  tell("dsync", write(opened("f", O_WRONLY | O_DSYNC | O_APPEND), "2", 1));
  text_of("f");
}

CHECK(open, direct) {
  static char block[8192] __attribute__((aligned(4096)));
  memset(block, 'x', sizeof block);
  int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644);
  if (!tell("open", fd)) return;
  value("write", pwrite(fd, block, 8192, 4096));
  value("read", pread(fd, block, 8192, 0));
  say("bytes=%d,%c", block[0], block[4096]);
  value("past", pread(fd, block, 4096, 1 << 20));
}

CHECK(open, direct_beside_cache) {
  static char block[4096] __attribute__((aligned(4096)));
  int cached = opened("f", O_CREAT | O_RDWR);
  int direct = open("f", O_RDWR | O_DIRECT);
  if (!tell("open", direct)) return;
  memset(block, 'a', sizeof block);
  need(write(cached, block, sizeof block));
  need(pread(direct, block, sizeof block, 0));
  say("read=%c", block[9]);
  memset(block, 'b', sizeof block);
  need(pwrite(direct, block, sizeof block, 0));
  need(pread(cached, block, sizeof block, 0));
  say("written=%c", block[9]);
}

CHECK(open, tmpfile) {
  int fd = open(".", O_TMPFILE | O_RDWR, 0666);
  if (!tell("open", fd)) return;
  tell("write", write(fd, "hello", 5));
  struct stat found = status_of(fd);
  say("mode=%o links=%d size=%d", found.st_mode, (int)found.st_nlink, (int)found.st_size);
}

CHECK(open, tmpfile_linked) {
  int fd = (int)need(open(".", O_TMPFILE | O_RDWR, 0640));
  need(write(fd, "hello", 5));
  tell("linkat", linkat(AT_FDCWD, descriptor_name(fd), AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
  value("links", status_of(fd).st_nlink);
  mode_of("f");
  text_of("f");
}

CHECK(open, tmpfile_linked_by_descriptor) {
  int fd = (int)need(open(".", O_TMPFILE | O_RDWR, 0640));
  tell("linkat", linkat(fd, "", AT_FDCWD, "f", AT_EMPTY_PATH));
  value("links", status_of(fd).st_nlink);
}

CHECK(open, tmpfile_exclusive) {
  int fd = (int)need(open(".", O_TMPFILE | O_EXCL | O_RDWR, 0640));
  tell("linkat", linkat(fd, "", AT_FDCWD, "f", AT_EMPTY_PATH));
}

CHECK(open, tmpfile_refused) {
  file("f", 0644);
  tell("read_only", open(".", O_TMPFILE | O_RDONLY, 0644));
  tell("file", open("f", O_TMPFILE | O_RDWR, 0644));
  tell("missing", open("none", O_TMPFILE | O_RDWR, 0644));
}

CHECK(open, tmpfile_of_user) {
  AS(OWNER, OWNER, 0) {
    int fd = (int)need(open(".", O_TMPFILE | O_RDWR, 0600));
    struct stat found = status_of(fd);
    say("owner=%u:%u", found.st_uid, found.st_gid);
    need(mkdir("d", 0555));
    tell("read_only_directory", open("d", O_TMPFILE | O_RDWR, 0600));
  }
}

CHECK(open, written_while_run) {
  file("f", 0755);
  opened("f", O_WRONLY);
  char *none[] = {NULL};
  tell("execve", execve("f", none, none));
}

CHECK(open, executed_without_right) {
  file("f", 0644);
  char *none[] = {NULL};
  tell("execve", execve("f", none, none));
}

CHECK(open, by_handle) {
  file("f", 0644);
  struct {
    struct file_handle head;
    char bytes[MAX_HANDLE_SZ];
  } handle = {.head.handle_bytes = MAX_HANDLE_SZ};
  int mount;
  if (!tell("name", name_to_handle_at(AT_FDCWD, "f", &handle.head, &mount, 0))) return;
  int fd = open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY);
  if (tell("open", fd)) value("size", status_of(fd).st_size);
}

CHECK(open, many) {
  int wrong = 0;
  file("f", 0644);
  for (int i = 0; i < many; i++) {
    int fd = open("f", O_RDONLY);
    char byte = 0;
    wrong += fd < 0 || pread(fd, &byte, 1, i % 5) != 1 || byte != "hello"[i % 5];
  }
  value("wrong", wrong);
}

CHECK(open, descriptor_after_chmod_0) {
  AS(OWNER, OWNER, 0) {
    int fd = opened("f", O_CREAT | O_RDWR);
    char byte;
    need(fchmod(fd, 0));
    tell("write", write(fd, "J", 1));
    tell("read", pread(fd, &byte, 1, 0));
    tell("truncate", ftruncate(fd, 9));
    tell("fallocate", fallocate(fd, 0, 0, 20));
    tell("again", open("f", O_RDONLY));
    value("size", status_of(fd).st_size);
  }
}

CHECK(open, ioctls) {
  int fd = opened("f", O_CREAT | O_RDWR), flags;
  tell("readable", ioctl(fd, FIONREAD, &flags));
  tell("terminal", ioctl(fd, TCGETS, (char[64]){0}));
}
