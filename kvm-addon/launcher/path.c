// Paths of an image, a volume or the command: resolved below a directory, by descriptors, and made there if need be.
//
// Whatever links are on the walk, nothing outside of the directory is ever looked at: openat2 takes it for the root, and follows no
// magic link of /proc. What is missing is made part by part, each by its name in a directory that is open.
#include "launcher.h"
#include <linux/openat2.h>

#define PATH_BYTES 4096
#define MAX_LINKS 40      // as the kernel's own
#define MAX_ATTEMPTS 128  // while others rename and mount on the walk, openat2 says EAGAIN
#define PROC_SUPER_MAGIC 0x9fa0

static long open_below(int root, const char *path, uint64_t flags, uint64_t resolve) {
  struct open_how how = {flags | O_PATH | O_CLOEXEC, 0, resolve | RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  long fd = -EAGAIN;
  for (int i = 0; i < MAX_ATTEMPTS && fd == -EAGAIN; i++) fd = SYS4(__NR_openat2, root, path, &how, sizeof how);
  return fd;
}

void put_number(char *to, unsigned number) {
  char digits[12];
  size_t count = 0;
  do digits[count++] = (char)('0' + number % 10);
  while (number /= 10);
  while (count > 0) *to++ = digits[--count];
  *to = 0;
}

static size_t length_of(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}

// Whether a descriptor lies on one of the paths that are kept, or below: strings one after the other, the last an empty one. The root
// is such a place for what is mounted. What cannot be told is taken for one.
static int is_kept(int fd, const struct path_rules *rules, int root_too) {
  char name[24] = "self/fd/";
  put_number(name + 8, (unsigned)fd);
  char path[PATH_BYTES];
  long length = SYS4(__NR_readlinkat, rules->proc, name, path, sizeof path - 1);
  if (length <= 0 || path[0] != '/') return 1;
  path[length] = 0;
  if (root_too && length == 1) return 1;
  for (const char *kept = rules->kept; *kept; kept += length_of(kept) + 1) {
    size_t same = 0;
    while (kept[same] && kept[same] == path[same]) same++;
    if (!kept[same] && (path[same] == 0 || path[same] == '/')) return 1;
  }
  return 0;
}

// A path on its way: what was gone through, without a link in it, stands at the beginning of the text; what is still to come at the
// end, and links are put before that.
struct walk {
  size_t done; // length of the first
  size_t rest; // where the second begins; always behind the first
  char text[PATH_BYTES];
};

static void restart(struct walk *walk) {
  walk->text[0] = '.';
  walk->text[1] = 0;
  walk->done = 1;
}

static void go_up(struct walk *walk) {
  while (walk->done > 1 && walk->text[walk->done] != '/') walk->done--;
  walk->text[walk->done] = 0;
}

// Puts a link's text, which was read behind the first part, before what is still to come.
static void put_before(struct walk *walk, size_t length, size_t rest) {
  char *text = walk->text;
  size_t from = walk->done + 1;
  int absolute = text[from] == '/';
  for (size_t i = length; i > 0; i--) text[rest - length + i - 1] = text[from + i - 1];
  walk->rest = rest - length;
  if (absolute) restart(walk);
}

static long make(int parent, const char *name, int file) {
  if (!file) return SYS3(__NR_mkdirat, parent, name, 0755);
  long fd = SYS4(__NR_openat, parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd >= 0) SYS1(__NR_close, fd);
  return fd;
}

static int is_proc(int fd) {
  uint64_t facts[32]; // struct statfs, which begins with the type
  return SYS2(__NR_fstatfs, fd, facts) < 0 || facts[0] == PROC_SUPER_MAGIC;
}

// Goes through one part of the path that ends at `end`: follows it if it is a link, makes it if there is nothing.
static long step(struct walk *walk, int parent, size_t end, const struct path_rules *rules, int *links) {
  char *text = walk->text, *name = text + walk->rest;
  size_t length = end - walk->rest, next = end;
  while (text[next] == '/') next++;
  char after = text[end];
  text[end] = 0;
  size_t room = walk->rest - walk->done - 1;
  long count = SYS4(__NR_readlinkat, parent, name, text + walk->done + 1, room);
  if (count >= 0) {
    text[end] = after;
    if ((rules->flags & PATH_NO_LINKS) || ++*links > MAX_LINKS || is_proc(parent)) return -ELOOP;
    if ((size_t)count + 1 >= room) return -ENAMETOOLONG;
    put_before(walk, (size_t)count, end);
    return 0;
  }
  if (count == -ENOENT) {
    if (rules->kept && is_kept(parent, rules, 0)) return -EXDEV;
    long made = make(parent, name, text[next] == 0 && (rules->flags & PATH_FILE));
    text[end] = after;
    return made < 0 && made != -EEXIST ? made : 0; // it is looked at again: by now somebody else may have made it
  }
  if (count != -EINVAL) return count;
  text[walk->done++] = '/';
  for (size_t i = 0; i < length; i++) text[walk->done++] = name[i];
  text[walk->done] = 0;
  walk->rest = next;
  return 0;
}

static long make_below(int root, const char *path, const struct path_rules *rules) {
  struct walk walk;
  size_t length = length_of(path);
  if (length > PATH_BYTES - 8) return -ENAMETOOLONG;
  restart(&walk);
  walk.rest = PATH_BYTES - 1 - length;
  for (size_t i = 0; i <= length; i++) walk.text[walk.rest + i] = path[i];
  int links = 0;
  for (int steps = 0; steps < PATH_BYTES; steps++) {
    while (walk.text[walk.rest] == '/') walk.rest++;
    size_t end = walk.rest;
    while (walk.text[end] && walk.text[end] != '/') end++;
    size_t count = end - walk.rest;
    const char *name = walk.text + walk.rest;
    if (count == 0) return open_below(root, walk.text, 0, RESOLVE_NO_SYMLINKS);
    if (name[0] == '.' && (count == 1 || (count == 2 && name[1] == '.'))) {
      if (count == 2) go_up(&walk);
      walk.rest = end;
      continue;
    }
    long parent = open_below(root, walk.text, O_DIRECTORY, RESOLVE_NO_SYMLINKS);
    if (parent < 0) return parent;
    long error = step(&walk, (int)parent, end, rules, &links);
    SYS1(__NR_close, parent);
    if (error < 0) return error;
  }
  return -EAGAIN; // it is removed as often as it is made
}

long path_below(int root, const char *path, const struct path_rules *rules) {
  uint64_t resolve = rules->flags & PATH_NO_LINKS ? RESOLVE_NO_SYMLINKS : 0;
  long fd = open_below(root, path, 0, resolve);
  if (fd == -ENOENT && (rules->flags & PATH_MAKE)) fd = make_below(root, path, rules);
  if (fd < 0) return fd;
  struct stat facts;
  long error = SYS2(__NR_fstat, fd, &facts);
  int directory = (facts.st_mode & S_IFMT) == S_IFDIR;
  if (error >= 0 && (rules->flags & PATH_DIRECTORY) && !directory) error = -ENOTDIR;
  if (error >= 0 && (rules->flags & PATH_FILE) && directory) error = -EISDIR;
  if (error >= 0 && (rules->flags & PATH_OUTSIDE) && is_kept((int)fd, rules, 1)) error = -EXDEV;
  if (error >= 0) return fd;
  SYS1(__NR_close, fd);
  return error;
}
