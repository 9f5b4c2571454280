/* Listing directories: whole, without doubles, from any place, while names come and go. */
#include "check.h"

#include <dirent.h>
#include <sys/syscall.h>

static void fill(const char *prefix, int count) {
  char name[32];
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "%s%d", prefix, i);
    close(opened(name, O_CREAT | O_RDWR));
  }
}

/* Counts of how often each name "n0" to "nCOUNT-1" came. */
struct census {
  int count, others;
  int seen[MOST];
};

static void count(struct census *census, const char *name) {
  int index;
  if (sscanf(name, "n%d", &index) == 1 && index < census->count) census->seen[index]++;
  else census->others++;
}

static void report(const struct census *census) {
  int missing = 0, doubles = 0;
  for (int i = 0; i < census->count; i++) {
    missing += census->seen[i] == 0;
    doubles += census->seen[i] > 1;
  }
  say("missing=%d doubles=%d others=%d", missing, doubles, census->others);
}

CHECK(listing, dots) {
  DIR *directory = opendir(".");
  int dot = 0, dots = 0, right = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    dot += strcmp(entry->d_name, ".") == 0;
    dots += strcmp(entry->d_name, "..") == 0;
    right += is_dots(entry->d_name) && entry->d_type == DT_DIR;
  }
  say("dot=%d dots=%d type=%d", dot, dots, right);
}

CHECK(listing, inode_of_dot) {
  DIR *directory = opendir(".");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (strcmp(entry->d_name, ".") == 0) value("same", entry->d_ino == status(".").st_ino);
}

CHECK(listing, inodes_and_types) {
  file("f", 0644);
  need(mkdir("d", 0755));
  need(symlink("x", "l"));
  need(link("f", "h"));
  int inodes = 0, types = 0, names = 0;
  DIR *directory = opendir(".");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (is_dots(entry->d_name)) continue;
    struct stat found = status(entry->d_name);
    names++;
    inodes += found.st_ino == entry->d_ino;
    types += IFTODT(found.st_mode) == entry->d_type;
  }
  say("names=%d inodes=%d types=%d", names, inodes, types);
}

CHECK(listing, inodes_are_unique_and_stay) {
  fill("n", 6);
  ino_t inodes[6];
  char name[16];
  int same = 0, doubles = 0;
  for (int i = 0; i < 6; i++) {
    snprintf(name, sizeof name, "n%d", i);
    inodes[i] = status(name).st_ino;
    for (int j = 0; j < i; j++) doubles += inodes[i] == inodes[j];
    same += status_of(opened(name, O_RDONLY)).st_ino == inodes[i];
  }
  say("same=%d doubles=%d device=%d", same, doubles, status("n1").st_dev == status(".").st_dev);
}

CHECK(listing, special_types) {
  need(mkfifo("p", 0644));
  DIR *directory = opendir(".");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (!is_dots(entry->d_name)) value("type", entry->d_type);
}

CHECK(listing, of_many) {
  struct census census = {.count = many};
  fill("n", many);
  DIR *directory = opendir(".");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (!is_dots(entry->d_name)) count(&census, entry->d_name);
  report(&census);
}

CHECK(listing, rewound) {
  fill("n", 5);
  struct census census = {.count = 7};
  DIR *directory = opendir(".");
  while (readdir(directory) != NULL) {
  }
  close(opened("n5", O_CREAT | O_RDWR));
  close(opened("n6", O_CREAT | O_RDWR));
  need(unlink("n3"));
  rewinddir(directory);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (!is_dots(entry->d_name)) count(&census, entry->d_name);
  report(&census);
}

CHECK(listing, told_places) {
  fill("n", 12);
  char names[64][32];
  long places[64];
  int entries = 0, right = 0;
  DIR *directory = opendir(".");
  for (struct dirent *entry; places[entries] = telldir(directory), (entry = readdir(directory)) != NULL; entries++)
    strcpy(names[entries], entry->d_name);
  for (int i = entries - 1; i >= 0; i--) {
    seekdir(directory, places[i]);
    struct dirent *entry = readdir(directory);
    right += entry != NULL && strcmp(entry->d_name, names[i]) == 0;
  }
  say("entries=%d right=%d", entries, right);
}

CHECK(listing, told_places_of_other_descriptor) {
  fill("n", 12);
  char names[64][32];
  off_t places[64];
  int entries = 0, right = 0;
  DIR *directory = opendir(".");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL; entries++) {
    strcpy(names[entries], entry->d_name);
    places[entries] = entry->d_off;
  }
  closedir(directory);
  for (int i = 0; i + 1 < entries; i += 3) {
    directory = opendir(".");
    seekdir(directory, places[i]);
    struct dirent *entry = readdir(directory);
    right += entry != NULL && strcmp(entry->d_name, names[i + 1]) == 0;
    closedir(directory);
  }
  value("right", right);
}

/* Lists by getdents64(2), some names at a time, and calls `between` after each. */
static void list_by_pieces(struct census *census, void (*between)(int round)) {
  char buffer[200] __attribute__((aligned(8)));
  int fd = opened(".", O_RDONLY | O_DIRECTORY);
  for (int round = 0, length; (length = (int)need(syscall(SYS_getdents64, fd, buffer, sizeof buffer))) > 0; round++) {
    for (int at = 0; at < length;) {
      struct dirent64 *entry = (struct dirent64 *)(buffer + at);
      if (entry->d_name[0] != '.') count(census, entry->d_name);
      at += entry->d_reclen;
    }
    if (between != NULL) between(round);
  }
}

CHECK(listing, by_pieces) {
  struct census census = {.count = 20};
  fill("n", 20);
  list_by_pieces(&census, NULL);
  report(&census);
}

CHECK(listing, buffer_too_small) {
  fill("a-long-name-that-does-not-fit", 1);
  char buffer[24];
  int fd = opened(".", O_RDONLY | O_DIRECTORY);
  long result;
  while ((result = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
  }
  tell("getdents", result);
}

static void add(int round) {
  char name[32];
  snprintf(name, sizeof name, "m%d", round);
  if (round < 15) close(opened(name, O_CREAT | O_RDWR));
}

/* Reports without the new names, which may be in it or not. */
static void without_new(struct census *census) {
  census->others = 0;
  report(census);
}

CHECK(listing, while_names_come) {
  struct census census = {.count = many};
  fill("n", many);
  list_by_pieces(&census, add);
  without_new(&census);
}

static void take(int round) {
  char name[32];
  snprintf(name, sizeof name, "x%d", round);
  unlink(name);
}

CHECK(listing, while_names_go) {
  struct census census = {.count = many};
  fill("x", (many + 9) / 10);
  fill("n", many);
  list_by_pieces(&census, take);
  without_new(&census);
}

static void replace(int round) {
  char name[32];
  add(round);
  snprintf(name, sizeof name, "m%d", round - 1);
  if (round % 3 == 0) unlink(name);
}

CHECK(listing, while_names_come_and_go) {
  struct census census = {.count = many};
  fill("n", many);
  list_by_pieces(&census, replace);
  without_new(&census);
}

CHECK(listing, while_all_are_removed) {
  fill("n", many);
  int removed = 0;
  DIR *directory = opendir(".");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (!is_dots(entry->d_name)) removed += unlink(entry->d_name) == 0;
  value("left", many - removed);
}

CHECK(listing, of_removed_directory) {
  need(mkdir("d", 0755));
  DIR *directory = opendir("d");
  need(rmdir("d"));
  errno = 0;
  struct dirent *entry = readdir(directory);
  say("entry=%s", entry != NULL ? "some" : errno != 0 ? strerrorname_np(errno) : "none");
}

CHECK(listing, by_two) {
  fill("n", 10);
  struct census census[2] = {{.count = 10}, {.count = 10}};
  DIR *directories[] = {opendir("."), opendir(".")};
  for (int more = 1; more;) {
    more = 0;
    for (int i = 0; i < 2; i++) {
      struct dirent *entry = readdir(directories[i]);
      if (entry == NULL) continue;
      more = 1;
      if (!is_dots(entry->d_name)) count(&census[i], entry->d_name);
    }
  }
  report(&census[0]);
  report(&census[1]);
}

CHECK(listing, of_file) {
  file("f", 0644);
  char buffer[200];
  tell("getdents", syscall(SYS_getdents64, opened("f", O_RDONLY), buffer, sizeof buffer));
}

CHECK(listing, place_of_the_end) {
  fill("n", 3);
  int fd = opened(".", O_RDONLY | O_DIRECTORY);
  char buffer[4000];
  while (need(syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
  }
  value("again", syscall(SYS_getdents64, fd, buffer, sizeof buffer));
  tell("negative", lseek(fd, -1, SEEK_SET));
  tell("start", lseek(fd, 0, SEEK_SET));
  value("some", syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
}
