/* rename(2) and its flags, hard links, unlinking, and what stays of files that are open. */
#include "check.h"

#include <sys/sysmacros.h>

#ifndef RENAME_NOREPLACE
enum { RENAME_NOREPLACE = 1, RENAME_EXCHANGE = 2, RENAME_WHITEOUT = 4 };
#endif

static int moved(const char *from, const char *to, unsigned flags) {
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

CHECK(rename, over_file) {
  file("a", 0600);
  file("b", 0644);
  tell("rename", rename("a", "b"));
  mode_of("b");
  struct stat found;
  tell("old", stat("a", &found));
}

CHECK(rename, missing) { tell("rename", rename("a", "b")); }

CHECK(rename, noreplace) {
  file("a", 0600);
  file("b", 0644);
  tell("existing", moved("a", "b", RENAME_NOREPLACE));
  tell("new", moved("a", "c", RENAME_NOREPLACE));
  mode_of("b");
  mode_of("c");
}

CHECK(rename, exchange) {
  file("a", 0600);
  need(mkdir("d", 0755));
  file("d/x", 0644);
  tell("exchange", moved("a", "d", RENAME_EXCHANGE));
  mode_of("a");
  mode_of("d");
  mode_of("a/x");
}

CHECK(rename, exchange_missing) {
  file("a", 0600);
  tell("exchange", moved("a", "none", RENAME_EXCHANGE));
}

CHECK(rename, whiteout) {
  file("a", 0600);
  if (!tell("rename", moved("a", "b", RENAME_WHITEOUT))) return;
  struct stat found = status("a");
  say("left=%o device=%u:%u", found.st_mode, major(found.st_rdev), minor(found.st_rdev));
}

CHECK(rename, whiteout_of_user) {
  AS(OWNER, OWNER, 0) {
    file("a", 0600);
    tell("rename", moved("a", "b", RENAME_WHITEOUT));
  }
}

CHECK(rename, flags_refused) {
  file("a", 0600);
  tell("both", moved("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE));
  tell("unknown", moved("a", "b", 8));
}

CHECK(rename, file_and_directory) {
  file("f", 0644);
  need(mkdir("d", 0755));
  tell("file_over_directory", rename("f", "d"));
  tell("directory_over_file", rename("d", "f"));
}

CHECK(rename, directory_over_directory) {
  need(mkdir("a", 0700));
  need(mkdir("b", 0755));
  need(mkdir("full", 0755));
  file("full/x", 0644);
  tell("full", rename("a", "full"));
  tell("empty", rename("a", "b"));
  mode_of("b");
}

CHECK(rename, directory_into_itself) {
  need(mkdir("a", 0755));
  need(mkdir("a/b", 0755));
  tell("into", rename("a", "a/b/c"));
  tell("onto", rename("a", "a/b"));
  tell("over_parent", rename("a/b", "a"));
}

CHECK(rename, onto_other_name_of_itself) {
  file("a", 0644);
  need(link("a", "b"));
  tell("rename", rename("a", "b"));
  value("links", status("a").st_nlink);
}

CHECK(rename, dots_and_slashes) {
  need(mkdir("d", 0755));
  file("f", 0644);
  tell("dot", rename("d/.", "e"));
  tell("dots", rename("d/..", "e"));
  tell("file_slash", rename("f/", "g"));
  tell("to_slash", rename("f", "g/"));
  tell("directory_slash", rename("d/", "e/"));
}

CHECK(rename, to_other_file_system) {
  file("f", 0644);
  tell("rename", rename("f", "/proc/f"));
  tell("link", link("f", "/proc/f"));
}

CHECK(rename, over_open_file) {
  file("a", 0600);
  file("b", 0644);
  int fd = opened("b", O_RDWR);
  need(rename("a", "b"));
  tell("fchmod", fchmod(fd, 0640));
  tell("fchown", fchown(fd, OWNER, STAFF));
  tell("fsync", fsync(fd));
  tell("truncate", ftruncate(fd, 3));
  struct timespec times[] = {{AGED, 0}, {AGED, 0}};
  tell("futimens", futimens(fd, times));
  struct stat found = status_of(fd);
  say("mode=%o owner=%u:%u size=%d links=%d", found.st_mode, found.st_uid, found.st_gid, (int)found.st_size,
      (int)found.st_nlink);
  mode_of("b");
}

CHECK(rename, of_open_file) {
  file("a", 0600);
  int fd = opened("a", O_RDWR);
  need(rename("a", "b"));
  file("a", 0644);
  need(write(fd, "J", 1));
  tell("fchmod", fchmod(fd, 0640));
  text_of("a");
  text_of("b");
  mode_of("b");
}

CHECK(rename, of_parent_of_open_file) {
  need(mkdir("d", 0755));
  file("d/f", 0600);
  int fd = opened("d/f", O_RDWR);
  need(rename("d", "e"));
  need(write(fd, "J", 1));
  tell("fchmod", fchmod(fd, 0640));
  text_of("e/f");
  mode_of("e/f");
}

CHECK(rename, changes_times) {
  need(mkdir("d", 0755));
  file("f", 0644);
  age("f");
  age("d");
  struct stat before = status("f");
  usleep(20000);
  need(rename("f", "d/f"));
  changed("d/f", before);
  aged("directory", status("d").st_mtim);
}

CHECK(rename, of_directory_without_right_to_it) {
  AS(OWNER, OWNER, 0) {
    need(mkdir("a", 0755));
    need(mkdir("b", 0755));
    need(mkdir("a/x", 0555));
    tell("elsewhere", rename("a/x", "b/x"));
    tell("beside", rename("a/x", "a/y"));
  }
}

CHECK(hard, count) {
  file("a", 0644);
  tell("link", link("a", "b"));
  value("links", status("a").st_nlink);
  value("same", status("a").st_ino == status("b").st_ino);
  need(unlink("a"));
  value("links", status("b").st_nlink);
  text_of("b");
}

CHECK(hard, refused) {
  file("f", 0644);
  file("g", 0644);
  need(mkdir("d", 0755));
  tell("existing", link("f", "g"));
  tell("missing", link("none", "x"));
  tell("directory", link("d", "x"));
  tell("slash", link("f", "x/"));
}

CHECK(hard, of_symbolic_link) {
  file("f", 0644);
  need(symlink("f", "l"));
  tell("link", linkat(AT_FDCWD, "l", AT_FDCWD, "k", 0));
  say("type=%o", status("k").st_mode & S_IFMT);
  tell("followed", linkat(AT_FDCWD, "l", AT_FDCWD, "g", AT_SYMLINK_FOLLOW));
  value("links", status("f").st_nlink);
}

CHECK(hard, many) {
  char name[16];
  int wrong = 0;
  file("f", 0644);
  for (int i = 0; i < many; i++) {
    snprintf(name, sizeof name, "l%d", i);
    wrong += link("f", name) < 0;
  }
  value("missing", many + 1 - (int)status("f").st_nlink);
  need(unlink("f"));
  for (int i = 0; i + 1 < many; i++) {
    snprintf(name, sizeof name, "l%d", i);
    wrong += unlink(name) < 0;
  }
  snprintf(name, sizeof name, "l%d", many - 1);
  value("links", status(name).st_nlink);
  text_of(name);
  value("wrong", wrong);
}

CHECK(hard, one_name_of_an_open_file_goes) {
  file("a", 0644);
  need(link("a", "b"));
  int fd = opened("a", O_RDWR);
  need(unlink("a"));
  tell("write", write(fd, "J", 1));
  tell("fchmod", fchmod(fd, 0600));
  value("links", status_of(fd).st_nlink);
  text_of("b");
  mode_of("b");
}

CHECK(hard, change_is_seen_by_other_name) {
  file("a", 0644);
  need(link("a", "b"));
  status("b");
  need(truncate("a", 2));
  need(chmod("a", 0600));
  text_of("b");
  mode_of("b");
}

CHECK(unlink, open_file) {
  file("f", 0644);
  int fd = opened("f", O_RDWR);
  tell("unlink", unlink("f"));
  char text[9] = "";
  tell("write", pwrite(fd, "JE", 2, 0));
  need(pread(fd, text, sizeof text - 1, 0));
  say("text=%s", text);
  tell("truncate", ftruncate(fd, 3));
  tell("fchmod", fchmod(fd, 0600));
  tell("fchown", fchown(fd, OWNER, STAFF));
  tell("fsync", fsync(fd));
  struct stat found = status_of(fd);
  say("links=%d size=%d mode=%o owner=%u", (int)found.st_nlink, (int)found.st_size, found.st_mode, found.st_uid);
}

CHECK(unlink, open_file_read_on) {
  file("f", 0644);
  int fd = opened("f", O_RDONLY);
  need(unlink("f"));
  file("f", 0600);
  need(truncate("f", 1));
  value("size", status_of(fd).st_size);
  const char *name = descriptor_name(fd);
  int again = open(name, O_RDONLY);
  if (tell("again", again)) value("size", status_of(again).st_size);
  tell("link", linkat(AT_FDCWD, name, AT_FDCWD, "g", AT_SYMLINK_FOLLOW));
}

CHECK(unlink, by_path_descriptor) {
  file("f", 0644);
  int fd = opened("f", O_PATH);
  need(unlink("f"));
  struct stat found = status_of(fd);
  say("links=%d size=%d", (int)found.st_nlink, (int)found.st_size);
}

CHECK(unlink, refused) {
  file("f", 0644);
  need(mkdir("d", 0755));
  file("d/x", 0644);
  tell("directory", unlink("d"));
  tell("file", rmdir("f"));
  tell("full", rmdir("d"));
  tell("missing", unlink("none"));
  tell("slash", unlink("f/"));
  tell("dot", rmdir("."));
  tell("dots", rmdir("d/.."));
  tell("through", unlink("f/x"));
}

CHECK(unlink, directory_that_is_worked_in) {
  need(mkdir("d", 0755));
  need(chdir("d"));
  tell("rmdir", rmdir("../d"));
  tell("create", open("f", O_CREAT | O_RDWR, 0644));
  tell("mkdir", mkdir("e", 0755));
  char name[99];
  tell("getcwd", getcwd(name, sizeof name) == NULL ? -1 : 0);
  value("links", status(".").st_nlink);
}

CHECK(unlink, name_is_made_again) {
  for (int i = 0; i < 3; i++) {
    file("f", 0644);
    need(unlink("f"));
    need(mkdir("f", 0755));
    need(rmdir("f"));
    need(symlink("x", "f"));
    say("type=%o", status("f").st_mode & S_IFMT);
    need(unlink("f"));
  }
}

CHECK(unlink, read_only_file) {
  AS(OWNER, OWNER, 0) {
    file("f", 0444);
    tell("unlink", unlink("f"));
    need(mkdir("d", 0555));
    tell("create", open("d/x", O_CREAT | O_RDWR, 0644));
  }
}

CHECK(directory, links) {
  need(mkdir("d", 0755));
  value("empty", status("d").st_nlink);
  need(mkdir("d/a", 0755));
  need(mkdir("d/b", 0755));
  value("two", status("d").st_nlink);
  need(rmdir("d/a"));
  value("one", status("d").st_nlink);
}

CHECK(directory, made) {
  umask(027);
  tell("mkdir", mkdir("d", 0777));
  tell("again", mkdir("d", 0777));
  mode_of("d");
  tell("sticky", mkdir("t", 01777));
  mode_of("t");
  tell("setid", mkdir("s", 06777));
  mode_of("s");
}

CHECK(directory, times) {
  need(mkdir("d", 0755));
  age("d");
  file("d/f", 0644);
  aged("create", status("d").st_mtim);
  age("d");
  need(unlink("d/f"));
  aged("unlink", status("d").st_mtim);
  age("d");
  need(symlink("x", "d/l"));
  aged("symlink", status("d").st_mtim);
}

CHECK(directory, as_file) {
  need(mkdir("d", 0755));
  int fd = opened("d", O_RDONLY);
  char byte;
  tell("read", read(fd, &byte, 1));
  tell("write", write(fd, "x", 1));
  tell("truncate", truncate("d", 0));
  tell("ftruncate", ftruncate(fd, 0));
  tell("fsync", fsync(fd));
  tell("fdatasync", fdatasync(fd));
  tell("fchmod", fchmod(fd, 0700));
  tell("fchown", fchown(fd, OWNER, STAFF));
  mode_of("d");
}

CHECK(directory, removed_while_open) {
  need(mkdir("d", 0755));
  int fd = opened("d", O_RDONLY);
  need(rmdir("d"));
  tell("fsync", fsync(fd));
  tell("create", openat(fd, "f", O_CREAT | O_RDWR, 0644));
  tell("fchmod", fchmod(fd, 0700));
  value("links", status_of(fd).st_nlink);
}
