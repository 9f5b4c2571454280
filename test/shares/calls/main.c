/* Runs the checks in a directory and prints a line for each: its name, and what it said. */
#include "check.h"

#include <dirent.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>

int many = 100;

/* Limit of time, longer than any check takes on a slow machine. */
static const unsigned CHECK_SECONDS = 100;

static struct {
  size_t used;
  char text[4096];
} *result; /* shared with the processes of the check */

extern const struct check __start_checks[], __stop_checks[];

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t room = sizeof result->text - result->used;
  int length = snprintf(result->text + result->used, room, " ");
  length += vsnprintf(result->text + result->used + 1, room - 1, format, arguments);
  va_end(arguments);
  result->used += (size_t)length < room ? (size_t)length : room - 1;
}

int tell(const char *name, long outcome) {
  say("%s=%s", name, outcome < 0 ? strerrorname_np(errno) : "ok");
  return outcome >= 0;
}

void value(const char *name, long long number) { say("%s=%lld", name, number); }

long need_(long outcome, const char *call) {
  if (outcome >= 0) return outcome;
  say("cannot:%.*s=%s", (int)strcspn(call, " ("), call, strerrorname_np(errno));
  _exit(1);
}

void file(const char *name, mode_t mode) {
  int fd = (int)need(open(name, O_CREAT | O_EXCL | O_WRONLY, 0600));
  need(write(fd, "hello", 5));
  need(fchmod(fd, mode));
  close(fd);
}

int opened(const char *name, int flags) { return (int)need(open(name, flags, 0644)); }

struct stat status(const char *name) {
  struct stat found;
  need(fstatat(AT_FDCWD, name, &found, AT_SYMLINK_NOFOLLOW));
  return found;
}

struct stat status_of(int fd) {
  struct stat found;
  need(fstat(fd, &found));
  return found;
}

void mode_of(const char *name) { say("mode=%o", status(name).st_mode); }

void owner_of(const char *name) {
  struct stat found = status(name);
  say("owner=%u:%u", found.st_uid, found.st_gid);
}

void text_of(const char *name) {
  char text[60];
  int fd = (int)need(open(name, O_RDONLY));
  ssize_t length = need(read(fd, text, sizeof text));
  close(fd);
  for (ssize_t i = 0; i < length; i++)
    if (text[i] <= ' ' || text[i] > '~') text[i] = '.';
  say("text=%.*s", (int)length, text);
}

void age(const char *name) {
  struct timespec times[] = {{AGED, 0}, {AGED, 0}};
  need(utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW));
}

void aged(const char *word, struct timespec time) {
  say("%s=%s", word, time.tv_sec > AGED ? "new" : time.tv_sec == AGED && time.tv_nsec == 0 ? "same" : "old");
}

void changed(const char *name, struct stat before) {
  struct stat after = status(name);
  aged("mtime", after.st_mtim);
  say("ctime=%s", memcmp(&before.st_ctim, &after.st_ctim, sizeof after.st_ctim) == 0 ? "same" : "new");
}

char *mapped(int fd, size_t length, int protection, int how) {
  char *pages = mmap(NULL, length, protection, how, fd, 0);
  if (pages == MAP_FAILED) need(-1);
  return pages;
}

const char *descriptor_name(int fd) {
  static char name[40];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  return name;
}

int is_dots(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

int become(int uid, int gid, int more) {
  pid_t child = fork();
  need(child);
  if (child == 0) {
    gid_t groups[] = {(gid_t)more};
    if (uid != -1 && (setgroups(more != 0, groups) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0))
      need_(-1, "become");
    return 1;
  }
  int how;
  need(waitpid(child, &how, 0));
  if (WIFSIGNALED(how)) say("signal=%s", sigabbrev_np(WTERMSIG(how)));
  return 0;
}

void leave(void) { _exit(0); }

static void empty(int parent, const char *name) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  DIR *directory = fd < 0 ? NULL : fdopendir(fd);
  if (directory == NULL) return;
  for (int left = 1; left;) { /* again, where a listing is not whole */
    left = 0;
    rewinddir(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
      if (is_dots(entry->d_name)) continue;
      if (unlinkat(fd, entry->d_name, 0) == 0) continue;
      empty(fd, entry->d_name);
      if (unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0) left = 1;
    }
  }
  closedir(directory);
}

static void run(const struct check *check) {
  result->used = 0;
  result->text[0] = 0;
  pid_t child = fork();
  if (child == 0) {
    setpgid(0, 0);
    alarm(CHECK_SECONDS);
    umask(022);
    need(mkdir("check", 0777));
    need(chmod("check", 0777));
    need(chdir("check"));
    check->run();
    _exit(0);
  }
  int how;
  while (waitpid(child, &how, 0) < 0 && errno == EINTR) {
  }
  kill(-child, SIGKILL);
  if (WIFSIGNALED(how)) say("signal=%s", sigabbrev_np(WTERMSIG(how)));
  printf("%s%s\n", check->name, result->text);
  fflush(stdout);
  empty(AT_FDCWD, "check");
  rmdir("check");
}

int main(int argc, char **argv) {
  if (argc < 2 || chdir(argv[1]) < 0) {
    fprintf(stderr, "usage: %s DIRECTORY [MANY [NAME]]\nan empty directory, as root\n", argv[0]);
    return 2;
  }
  if (argc > 2) many = atoi(argv[2]);
  if (many < 1 || many > MOST) return 2;
  result = mmap(NULL, sizeof *result, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (result == MAP_FAILED) return 2;
  setgroups(0, NULL);
  for (const struct check *check = __start_checks; check < __stop_checks; check++)
    if (argc < 4 || strstr(check->name, argv[3]) != NULL) run(check);
  puts("end of the checks");
  return 0;
}
