/* Names of any bytes, their lengths, links that lead on. */
#include "check.h"

#include <dirent.h>
#include <limits.h>

/* Says whether the only name in this directory is NAME. */
static void listed(const char *name) {
  DIR *directory = opendir(".");
  int found = 0, others = 0;
  for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
    if (is_dots(entry->d_name)) continue;
    if (strcmp(entry->d_name, name) == 0) found++;
    else others++;
  }
  closedir(directory);
  say("listed=%d others=%d", found, others);
}

static void through(const char *name) {
  int fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0644);
  if (!tell("create", fd)) return;
  close(fd);
  struct stat found;
  tell("stat", stat(name, &found));
  listed(name);
  need(rename(name, "other"));
  tell("rename", rename("other", name));
  tell("link", link(name, "other"));
  tell("unlink", unlink(name));
  tell("mkdir", mkdir(name, 0755));
}

CHECK(names, not_utf8) { through("\xff\xfe\x80"); }
CHECK(names, cut_utf8) { through("caf\xc3"); }
CHECK(names, surrogate) { through("\xed\xa0\x80"); }
CHECK(names, utf8) { through("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"); }
CHECK(names, newline_and_space) { through("a\n b "); }
CHECK(names, backslash) { through("a\\b:c*?\"<>|"); }
CHECK(names, dots) { through("..."); }

CHECK(names, every_byte) {
  char name[256];
  int at = 0;
  for (int byte = 1; byte < 256; byte++)
    if (byte != '/') name[at++] = (char)byte;
  name[at] = 0;
  through(name);
}

CHECK(names, case_and_composition) {
  file("a", 0644);
  file("A", 0644);
  file("\xc3\xa9", 0644);
  file("e\xcc\x81", 0644);
  value("links", status("a").st_nlink);
}

CHECK(names, replacement_character) {
  file("\xef\xbf\xbd", 0644);
  struct stat found;
  tell("other", stat("\xff", &found));
  tell("unlink", unlink("\xfe"));
}

CHECK(names, longest) {
  char name[257];
  memset(name, 'n', sizeof name);
  name[255] = 0;
  through(name);
}

CHECK(names, too_long) {
  char name[257];
  memset(name, 'n', sizeof name);
  name[256] = 0;
  struct stat found;
  file("f", 0644);
  tell("create", open(name, O_CREAT | O_RDWR, 0644));
  tell("stat", stat(name, &found));
  tell("mkdir", mkdir(name, 0755));
  tell("rename", rename("f", name));
  tell("link", link("f", name));
  tell("symlink", symlink("f", name));
  tell("unlink", unlink(name));
  tell("mknod", mknod(name, S_IFREG | 0644, 0));
}

CHECK(names, path_too_long) {
  char path[PATH_MAX + 2];
  memset(path, '/', sizeof path);
  path[0] = '.';
  path[PATH_MAX] = 0;
  tell("open", open(path, O_RDONLY));
  path[PATH_MAX - 1] = 0;
  tell("longest", open(path, O_RDONLY));
}

CHECK(names, deep) {
  for (int i = 0; i < 8; i++) {
    need(mkdir("directory", 0755));
    need(chdir("directory"));
  }
  file("f", 0644);
  for (int i = 0; i < 8; i++) need(chdir(".."));
  struct stat here = status(".");
  need(mkdir("x", 0755));
  value("same", status("x/..").st_ino == here.st_ino);
}

CHECK(names, dot_dot_after_move) {
  need(mkdir("a", 0755));
  need(mkdir("b", 0755));
  need(mkdir("a/x", 0755));
  ino_t there = status("b").st_ino;
  need(chdir("a/x"));
  need(rename("../../a/x", "../../b/y"));
  value("moved", status("..").st_ino == there);
  char name[PATH_MAX];
  char *here = getcwd(name, sizeof name);
  say("getcwd=%s", here == NULL ? strerrorname_np(errno) : strrchr(here, '/') - 2);
}

CHECK(links, symbolic) {
  tell("symlink", symlink("f", "l"));
  tell("again", symlink("f", "l"));
  mode_of("l");
  value("size", status("l").st_size);
  file("f", 0644);
  text_of("l");
}

static void target_of(size_t length) {
  static char target[5000], read[5000];
  memset(target, 't', length);
  target[length] = 0;
  if (!tell("symlink", symlink(target, "l"))) return;
  value("size", status("l").st_size);
  ssize_t found = readlink("l", read, sizeof read);
  value("read", found);
  value("same", found >= 0 && memcmp(read, target, (size_t)found) == 0);
}

CHECK(links, target_of_0) { target_of(0); }
CHECK(links, target_of_1) { target_of(1); }
CHECK(links, target_of_60) { target_of(60); }
CHECK(links, target_of_255) { target_of(255); }
CHECK(links, target_of_1000) { target_of(1000); }
CHECK(links, target_of_4094) { target_of(4094); }
CHECK(links, target_of_4095) { target_of(4095); }
CHECK(links, target_of_4096) { target_of(4096); }

CHECK(links, target_of_any_bytes) {
  char read[9];
  tell("symlink", symlink("\xff\n\xc3", "l"));
  value("read", readlink("l", read, sizeof read));
  value("same", memcmp(read, "\xff\n\xc3", 3) == 0);
  value("cut", readlink("l", read, 2));
}

CHECK(links, readlink_of_file) {
  char read[9];
  file("f", 0644);
  tell("file", readlink("f", read, sizeof read));
  tell("missing", readlink("none", read, sizeof read));
}

CHECK(links, loop) {
  need(symlink("b", "a"));
  need(symlink("a", "b"));
  tell("open", open("a", O_RDONLY));
  struct stat found;
  tell("stat", stat("a/x", &found));
}

CHECK(links, chain) {
  char from[9], to[9] = "f";
  file("f", 0644);
  for (int i = 0; i < 41; i++) {
    snprintf(from, sizeof from, "l%d", i);
    need(symlink(to, from));
    strcpy(to, from);
  }
  tell("of_40", open("l39", O_RDONLY));
  tell("of_41", open("l40", O_RDONLY));
}

CHECK(links, owner_and_times) {
  AS(OWNER, STAFF, 0) need(symlink("none", "l"));
  owner_of("l");
  tell("lchown", lchown("l", OTHER, PROJECT));
  owner_of("l");
  age("l");
  aged("mtime", status("l").st_mtim);
  tell("chmod", fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW));
}

CHECK(links, not_touched_by_chown_of_target) {
  file("f", 0644);
  need(symlink("f", "l"));
  need(chown("l", OWNER, STAFF));
  owner_of("l");
  owner_of("f");
}

CHECK(links, slash_behind) {
  need(mkdir("d", 0755));
  need(symlink("d", "l"));
  say("type=%o", status("l/").st_mode & S_IFMT);
  tell("rmdir", rmdir("l"));
  tell("rmdir", rmdir("l/"));
  tell("unlink", unlink("l/"));
}
