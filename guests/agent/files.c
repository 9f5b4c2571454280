/* Facts of files, and what is done with them by name. Their content is in content.c, trees in tree.c. */
#include "file-parts.h"

#include <asm/statfs.h>

enum { NEW_MODE = 0755, MAX_ID = 0x7ffffffe };

static char *append_number(char *to, ulong value) {
  char digits[24];
  for (const char *from = decimal_long(value, digits); *from;) *to++ = *from++;
  return to;
}

static char *append_time(char *to, long seconds, ulong nanoseconds) {
  if (seconds < 0) *to++ = '-';
  to = append_number(to, seconds < 0 ? -(ulong)seconds : (ulong)seconds);
  *to++ = '.';
  for (ulong digit = 100000000; digit; digit /= 10) *to++ = (char)('0' + nanoseconds / digit % 10);
  return to;
}

void write_facts(const struct stat *facts, char text[FACTS_BYTES]) {
  const ulong before[] = {facts->st_mode, facts->st_uid, facts->st_gid, (ulong)facts->st_size};
  int is_device = (facts->st_mode & KIND_MASK) == 0020000 || (facts->st_mode & KIND_MASK) == 0060000;
  const ulong behind[] = {facts->st_ino, facts->st_nlink, is_device ? facts->st_rdev : 0, facts->st_dev};
  char *to = text;
  for (int i = 0; i < 4; i++) {
    to = append_number(to, before[i]);
    *to++ = ' ';
  }
  to = append_time(to, (long)facts->st_mtime, facts->st_mtime_nsec);
  for (int i = 0; i < 4; i++) {
    *to++ = ' ';
    to = append_number(to, behind[i]);
  }
  *to = 0;
}

int read_time(const char *text, struct __kernel_timespec *time) {
  int negative = *text == '-';
  text += negative;
  const char *at = text;
  ulong seconds = number(&text);
  if (text == at || seconds > (ulong)MAX_OFFSET || *text != '.') return 0;
  at = ++text;
  ulong nanoseconds = number(&text);
  if (text - at != 9 || *text) return 0;
  time->tv_sec = negative ? -(long)seconds : (long)seconds;
  time->tv_nsec = (long)nanoseconds;
  return 1;
}

long open_turns(void) {
  return SYS2(eventfd2, 1, O_CLOEXEC | O_NONBLOCK);
}

static int follow_flag(const struct request *request) {
  return number_option(request, "follow", 1, 1) == 0 ? AT_SYMLINK_NOFOLLOW : 0;
}

static long done(struct session *session, long error) {
  if (error >= 0) finish_session(session, 0, 0);
  return error;
}

static long begin_stat(struct session *session, struct request *request, const char **what) {
  struct stat facts;
  char text[FACTS_BYTES], target[PATH_BYTES];
  const char *path = operand(request, 0);
  *what = "stat";
  long error = SYS4(newfstatat, AT_FDCWD, path, &facts, follow_flag(request));
  if (error < 0) return error;
  write_facts(&facts, text);
  long size = (facts.st_mode & KIND_MASK) == KIND_LINK ? SYS3(readlink, path, target, sizeof target - 1) : -1;
  if (size >= 0) target[size] = 0;
  const char *const parts[] = {"facts=", text, size < 0 ? 0 : "target=", target, 0};
  reply(session, parts, 1);
  return 0;
}

/* Makes what is missing above a path, and a folder that is there already is none that is missing. */
static long make_parents(const char *path, long mode) {
  char at[PATH_BYTES];
  long error = -ENOENT;
  for (ulong n = 0; n < sizeof at - 1; n++) {
    if (n && (path[n] == '/' || !path[n]) && at[n - 1] != '/') error = SYS2(mkdir, at, path[n] ? NEW_MODE : mode);
    if (!path[n]) break;
    at[n] = path[n];
    at[n + 1] = 0;
    if (n == sizeof at - 2) return -ENAMETOOLONG;
  }
  struct stat facts;
  if (error == -EEXIST || error == -EROFS || error == -ENOENT || error == -EISDIR) {
    long found = SYS4(newfstatat, AT_FDCWD, path, &facts, 0);
    if (found >= 0 && (facts.st_mode & KIND_MASK) == KIND_FOLDER) return 1;
  }
  return error;
}

static long begin_mkdir(struct session *session, struct request *request, const char **what) {
  const char *path = operand(request, 0);
  long mode = number_option(request, "mode", MODE_BITS, NEW_MODE);
  *what = "mkdir";
  if (mode < 0) return mode;
  long error = number_option(request, "parents", 1, 0) == 1 ? make_parents(path, mode) : SYS2(mkdir, path, mode);
  if (error == 0 && option(request, "mode")) error = SYS2(chmod, path, mode);
  return done(session, error);
}

static long begin_rename(struct session *session, struct request *request, const char **what) {
  *what = "rename";
  return done(session, SYS2(rename, operand(request, 0), operand(request, 1)));
}

static long begin_chmod(struct session *session, struct request *request, const char **what) {
  long mode = number_option(request, "mode", MODE_BITS, -EINVAL);
  *what = "chmod";
  return done(session, mode < 0 ? mode : SYS2(chmod, operand(request, 0), mode));
}

static long begin_chown(struct session *session, struct request *request, const char **what) {
  long uid = number_option(request, "uid", MAX_ID, -1), gid = number_option(request, "gid", MAX_ID, -1);
  *what = "chown";
  if (uid == -EINVAL || gid == -EINVAL) return -EINVAL;
  return done(session, SYS5(fchownat, AT_FDCWD, operand(request, 0), uid, gid, follow_flag(request)));
}

static long begin_utimes(struct session *session, struct request *request, const char **what) {
  struct __kernel_timespec times[2] = {{0, 0x3ffffffe /* UTIME_OMIT */}};
  const char *time = option(request, "mtime");
  *what = "utimes";
  if (!time || !read_time(time, &times[1])) return -EINVAL;
  return done(session, SYS4(utimensat, AT_FDCWD, operand(request, 0), times, follow_flag(request)));
}

static long begin_symlink(struct session *session, struct request *request, const char **what) {
  *what = "symlink";
  return done(session, SYS2(symlink, operand(request, 0), operand(request, 1)));
}

static long begin_link(struct session *session, struct request *request, const char **what) {
  *what = "link";
  return done(session, SYS2(link, operand(request, 0), operand(request, 1)));
}

static long begin_mknod(struct session *session, struct request *request, const char **what) {
  long mode = number_option(request, "mode", 0177777, -EINVAL), device = number_option(request, "rdev", 0xffffffffl, 0);
  *what = "mknod";
  if (mode < 0 || device < 0) return -EINVAL;
  long error = SYS3(mknod, operand(request, 0), mode, device);
  if (error >= 0) error = SYS2(chmod, operand(request, 0), mode & MODE_BITS);
  return done(session, error);
}

static long begin_truncate(struct session *session, struct request *request, const char **what) {
  long size = number_option(request, "size", MAX_OFFSET, -EINVAL);
  *what = "truncate";
  return done(session, size < 0 ? size : SYS2(truncate, operand(request, 0), size));
}

static long begin_statfs(struct session *session, struct request *request, const char **what) {
  struct statfs facts;
  char texts[6][24];
  *what = "statfs";
  long error = SYS2(statfs, operand(request, 0), &facts);
  if (error < 0) return error;
  const char *const parts[] = {
      "blocks=", decimal_long((ulong)facts.f_blocks, texts[0]), "bfree=", decimal_long((ulong)facts.f_bfree, texts[1]),
      "bavail=", decimal_long((ulong)facts.f_bavail, texts[2]), "bsize=", decimal_long((ulong)facts.f_bsize, texts[3]),
      "files=",  decimal_long((ulong)facts.f_files, texts[4]),  "ffree=", decimal_long((ulong)facts.f_ffree, texts[5]),
      0};
  reply(session, parts, 1);
  return 0;
}

const struct operation file_operations[] = {
    {.name = "stat", .options = "follow", .operands = 1, .begin = begin_stat},
    {.name = "mkdir", .options = "parents mode", .operands = 1, .begin = begin_mkdir},
    {.name = "rename", .operands = 2, .begin = begin_rename},
    {.name = "chmod", .options = "mode", .operands = 1, .begin = begin_chmod},
    {.name = "chown", .options = "uid gid follow", .operands = 1, .begin = begin_chown},
    {.name = "utimes", .options = "mtime follow", .operands = 1, .begin = begin_utimes},
    {.name = "symlink", .operands = 2, .begin = begin_symlink},
    {.name = "link", .operands = 2, .begin = begin_link},
    {.name = "mknod", .options = "mode rdev", .operands = 1, .begin = begin_mknod},
    {.name = "truncate", .options = "size", .operands = 1, .begin = begin_truncate},
    {.name = "statfs", .operands = 1, .begin = begin_statfs},
    {.name = 0},
};
