/* Times: as exact as they are set, and who and what may change them. */
#include "check.h"

static void both(const char *name, struct timespec access, struct timespec change) {
  struct timespec times[] = {access, change};
  if (!tell("set", utimensat(AT_FDCWD, name, times, 0))) return;
  struct stat found = status(name);
  say("atime=%lld.%09ld mtime=%lld.%09ld", (long long)found.st_atim.tv_sec, found.st_atim.tv_nsec,
      (long long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
}

#define SET(what, ...)               \
  CHECK(times, what) {               \
    file("f", 0644);                 \
    age("f");                        \
    both("f", __VA_ARGS__);          \
  }

SET(nanoseconds, (struct timespec){1234567890, 123456789}, (struct timespec){1700000000, 999999999})
SET(one_nanosecond, (struct timespec){0, 1}, (struct timespec){1, 1})
SET(omit_access, (struct timespec){5, UTIME_OMIT}, (struct timespec){1700000000, 123456789})
SET(omit_change, (struct timespec){1700000000, 123456789}, (struct timespec){5, UTIME_OMIT})
SET(omit_both, (struct timespec){5, UTIME_OMIT}, (struct timespec){5, UTIME_OMIT})
SET(before_1970, (struct timespec){-1, 5}, (struct timespec){-1000000000, 999999999})
SET(after_2038, (struct timespec){2147483648, 7}, (struct timespec){4294967295, 7})
SET(after_2106, (struct timespec){4294967296, 7}, (struct timespec){6000000000, 7})
SET(wrong, (struct timespec){5, 1000000000}, (struct timespec){5, -1})

CHECK(times, now) {
  file("f", 0644);
  age("f");
  struct timespec times[] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  tell("set", utimensat(AT_FDCWD, "f", times, 0));
  struct stat found = status("f");
  aged("atime", found.st_atim);
  aged("mtime", found.st_mtim);
}

CHECK(times, now_and_omit) {
  file("f", 0644);
  age("f");
  struct timespec times[] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  tell("set", utimensat(AT_FDCWD, "f", times, 0));
  struct stat found = status("f");
  aged("atime", found.st_atim);
  aged("mtime", found.st_mtim);
}

CHECK(times, by_descriptor) {
  file("f", 0644);
  struct timespec times[] = {{1234567890, 123456789}, {1700000000, 987654321}};
  tell("set", futimens(opened("f", O_RDONLY), times));
  struct stat found = status("f");
  say("atime=%09ld mtime=%09ld", found.st_atim.tv_nsec, found.st_mtim.tv_nsec);
}

CHECK(times, of_unlinked_file) {
  file("f", 0644);
  int fd = opened("f", O_RDWR);
  need(unlink("f"));
  struct timespec times[] = {{1234567890, 123456789}, {1700000000, 987654321}};
  tell("set", futimens(fd, times));
  say("mtime=%09ld", status_of(fd).st_mtim.tv_nsec);
}

CHECK(times, of_directory_and_link) {
  need(mkdir("d", 0755));
  need(symlink("none", "l"));
  struct timespec times[] = {{1234567890, 123456789}, {1700000000, 987654321}};
  tell("directory", utimensat(AT_FDCWD, "d", times, 0));
  tell("link", utimensat(AT_FDCWD, "l", times, AT_SYMLINK_NOFOLLOW));
  tell("through", utimensat(AT_FDCWD, "l", times, 0));
  say("mtime=%09ld,%09ld", status("d").st_mtim.tv_nsec, status("l").st_mtim.tv_nsec);
}

CHECK(times, by_others) {
  file("f", 0666);
  need(chown("f", OWNER, STAFF));
  struct timespec times[] = {{1, 1}, {1, 1}};
  AS(OTHER, OTHER, 0) {
    tell("now", utimensat(AT_FDCWD, "f", NULL, 0));
    tell("set", utimensat(AT_FDCWD, "f", times, 0));
  }
  need(chmod("f", 0644));
  AS(OTHER, OTHER, 0) tell("read_only_now", utimensat(AT_FDCWD, "f", NULL, 0));
  AS(OWNER, OWNER, 0) tell("owner", utimensat(AT_FDCWD, "f", times, 0));
}

/* Adds a check of what a call changes of a file that was last changed long ago. */
#define CHANGED(what, call)            \
  CHECK(times, changed_by_##what) {    \
    file("f", 0644);                   \
    age("f");                          \
    struct stat before = status("f");  \
    usleep(20000);                     \
    need(call);                        \
    changed("f", before);              \
  }

CHANGED(write, write(opened("f", O_WRONLY), "J", 1))
CHANGED(write_of_nothing, write(opened("f", O_WRONLY), "", 0))
CHANGED(truncate, truncate("f", 1))
CHANGED(truncate_to_same_size, truncate("f", 5))
CHANGED(ftruncate_to_same_size, ftruncate(opened("f", O_WRONLY), 5))
CHANGED(open_truncating, open("f", O_WRONLY | O_TRUNC))
CHANGED(chmod, chmod("f", 0600))
CHANGED(chown, chown("f", OWNER, STAFF))
CHANGED(link, link("f", "g"))
CHANGED(fallocate, fallocate(opened("f", O_WRONLY), 0, 0, 9))
CHANGED(open_for_writing, open("f", O_RDWR))

CHECK(times, stay_after_close) {
  int fd = opened("f", O_CREAT | O_RDWR);
  need(write(fd, "hello", 5));
  struct timespec times[] = {{AGED, 0}, {AGED, 0}};
  need(futimens(fd, times));
  close(fd);
  usleep(20000);
  aged("mtime", status("f").st_mtim);
}

CHECK(times, of_birth) {
  file("f", 0644);
  struct statx found;
  need(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &found));
  say("basic=%d birth=%d", (found.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS, !!(found.stx_mask & STATX_BTIME));
}
