/* Starting a command: what it is given, and the way from the agent's copy to the program. */
#include "process.h"

enum { PATH_BYTES = 4096, NAME_BYTES = 256, NEW_DIRECTORY_MODE = 0755, USUAL_UMASK = 022 };

static const char USUAL_PATH[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* --- reading the request ------------------------------------------------------------------------------------------ */

/* Of the same variable: up to the `=`. */
static int same_name(const char *a, const char *b) {
  while (*a && *a != '=' && *a == *b) a++, b++;
  return *a == '=' && *b == '=';
}

/* The request's variables, then those of the agent's own that it does not name. */
static long read_words(struct command *command, const struct request *request) {
  ulong words = 2, own = 0;
  for (const char *at = request->operands; at < request->end; at += length(at) + 1) words++;
  for (const char *at = 0; (at = next_option(request, at, "env"));) words++;
  while (own_environment[own]) own++;
  command->memory = (words + own) * sizeof(char *);
  char **to = command->arguments = allocate(command->memory);
  if (!to) return -ENOMEM;
  for (char *at = request->operands; at < request->end; at += length(at) + 1) *to++ = at;
  to++;
  command->environment = to;
  for (const char *at = 0; (at = next_option(request, at, "env"));) *to++ = (char *)at;
  char **given = to;
  for (ulong i = 0; i < own; i++) {
    char **one = command->environment;
    while (one < given && !same_name(*one, own_environment[i])) one++;
    if (one == given) *to++ = own_environment[i];
  }
  return 0;
}

static long read_groups(struct command *command, const char *text) {
  while (text && *text) {
    const char *at = text;
    ulong id = number(&text);
    if (text == at || id > MAX_ID || command->group_count == MAX_GROUPS) return -EINVAL;
    command->groups[command->group_count++] = (__u32)id;
    if (*text == ',') text++;
    else if (*text) return -EINVAL;
  }
  return 0;
}

/* A number of RESOURCE:SOFT:HARD; the largest of all is no limit. */
static int read_part(const char **text, __u64 *value, char end) {
  const char *at = *text;
  *value = number(text);
  if (*text == at || **text != end) return 0;
  if (end) (*text)++;
  return 1;
}

static long read_limits(struct command *command, const struct request *request) {
  for (const char *at = 0; (at = next_option(request, at, "rlimit"));) {
    if (command->limit_count == MAX_LIMITS) return -EINVAL;
    const char *text = at;
    __u64 resource, soft, hard;
    if (!read_part(&text, &resource, ':') || !read_part(&text, &soft, ':') || !read_part(&text, &hard, 0)) return -EINVAL;
    if (resource >= MAX_LIMITS) return -EINVAL;
    command->limits[command->limit_count].resource = (int)resource;
    command->limits[command->limit_count++].values = (struct rlimit64){soft, hard};
  }
  return 0;
}

long read_command(struct command *command, const struct request *request, const char **what) {
  command->directory = option(request, "cwd");
  command->make_directory = number_option(request, "makecwd", 1, 0) == 1;
  command->uid = number_option(request, "uid", MAX_ID, -1);
  command->gid = number_option(request, "gid", MAX_ID, -1);
  *what = "uid";
  if (command->uid == -EINVAL) return -EINVAL;
  *what = "gid";
  if (command->gid == -EINVAL) return -EINVAL;
  *what = "groups";
  if (read_groups(command, option(request, "groups")) < 0) return -EINVAL;
  *what = "rlimit";
  if (read_limits(command, request) < 0) return -EINVAL;
  *what = "memory";
  return read_words(command, request);
}

void free_command(struct command *command) {
  release(command->arguments, command->memory);
  for (int i = 0; i < 3; i++)
    if (command->streams[i] >= 0) SYS1(close, command->streams[i]);
}

/* --- in the child ------------------------------------------------------------------------------------------------- */

/* What failed there, and how: it shares the agent's memory, which the compiler cannot know. */
static const char *volatile failed_step;
static volatile long failure;

static void make_directories(const char *path) {
  static char at[PATH_BYTES];
  for (ulong n = 0; n < sizeof at - 1; n++) {
    if (n && (path[n] == '/' || !path[n])) SYS2(mkdir, at, NEW_DIRECTORY_MODE);
    if (!path[n]) return;
    at[n] = path[n];
    at[n + 1] = 0;
  }
}

static long become(const struct command *command) {
  if (command->uid <= 0 && command->gid <= 0 && !command->group_count) return 0;
  /* Its streams are its own: so it can open them again by /dev/stdout. */
  for (int fd = 0; fd < 3; fd++) SYS3(fchown, fd, command->uid, -1);
  long error = SYS2(setgroups, command->group_count, command->groups);
  /* A user namespace may deny it; without groups, those that cannot be left remain, as the launcher leaves them. */
  if (error == -EPERM && !command->group_count) error = 0;
  if (error >= 0) error = SYS3(setresgid, command->gid, command->gid, command->gid);
  if (error >= 0) error = SYS3(setresuid, command->uid, command->uid, command->uid);
  return error;
}

static long take_streams(const struct command *command) {
  for (int fd = 0; fd < 3; fd++) {
    long error = SYS2(dup2, command->streams[command->terminal ? 0 : fd], fd);
    if (error < 0) return error;
  }
  return command->terminal ? SYS3(ioctl, 0, TIOCSCTTY, 0) : 0;
}

static long limit(const struct command *command) {
  long error = SYS4(prlimit64, 0, RLIMIT_NOFILE, &command->descriptors, 0);
  for (int i = 0; i < command->limit_count && error >= 0; i++)
    error = SYS4(prlimit64, 0, command->limits[i].resource, &command->limits[i].values, 0);
  return error;
}

/* Tries the program along PATH. A place where it may not be executed is told only if it is in no other. */
static long execute(const struct command *command) {
  static char file[PATH_BYTES + NAME_BYTES];
  char **arguments = command->arguments;
  const char *name = arguments[0], *list = USUAL_PATH;
  if (contains(name, '/')) return SYS3(execve, name, arguments, command->environment);
  for (char **at = command->environment; *at; at++)
    if (after(*at, "PATH=")) list = *at + 5;
  ulong name_bytes = length(name) + 1;
  long result = -ENOENT;
  if (name_bytes > NAME_BYTES || name_bytes == 1) return -ENOENT;
  for (;; list++) {
    ulong n = 0;
    while (list[n] && list[n] != ':') n++;
    if (n && n < PATH_BYTES) {
      memcpy(file, list, n);
      file[n] = '/';
      memcpy(file + n + 1, name, name_bytes);
      long tried = SYS3(execve, file, arguments, command->environment);
      if (tried != -ENOENT && tried != -ENOTDIR) result = tried;
    }
    list += n;
    if (!*list) break;
  }
  /* The initramfs, where this program lies, has no link for each applet of busybox. */
  if (result == -ENOENT && SYS2(access, "/agent", 0) >= 0) SYS3(execve, "/bin/busybox", arguments, command->environment);
  return result;
}

static long become_command(const struct command *command) {
  static const ulong nothing = 0;
  SYS4(rt_sigprocmask, SIGNALS_SET, &nothing, 0, sizeof nothing);
  SYS1(umask, USUAL_UMASK);
  SYS0(setsid);
  failed_step = "streams";
  long error = take_streams(command);
  if (error < 0) return error;
  failed_step = "rlimit";
  if ((error = limit(command)) < 0) return error;
  if (command->directory && command->make_directory) make_directories(command->directory);
  failed_step = "user";
  if ((error = become(command)) < 0) return error;
  failed_step = "cwd";
  if (command->directory && (error = SYS1(chdir, command->directory)) < 0) return error;
  failed_step = "exec";
  return execute(command);
}

static __attribute__((noreturn)) void child(const struct command *command) {
  failure = become_command(command);
  for (;;) SYS1(exit, 127);
}

/* It shares this memory, and this stack, until it executes a program or exits: the agent stands still so long, and no page table is copied. */
static __attribute__((noinline)) long clone_child(const struct command *command) {
  long pid = SYS5(clone, 0x4000 /* CLONE_VFORK */ | 0x100 /* CLONE_VM */ | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) child(command);
  return pid;
}

long start_command(const struct command *command, const char **what) {
  failure = 0;
  long pid = clone_child(command);
  *what = "fork";
  if (pid < 0 || !failure) return pid;
  SYS4(wait4, pid, 0, 0, 0);
  *what = failed_step;
  return failure;
}
