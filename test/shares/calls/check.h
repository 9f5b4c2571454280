/*
 * A table of system-call checks on a directory: what each says is compared between file systems.
 *
 * A check runs in a process and a new directory of its own, of mode 0777, as root with umask 022. It says words like `open=EEXIST` or
 * `size=5`: nothing that changes from run to run, as times and inode numbers do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct check {
  const char *name;
  void (*run)(void);
};

/* Adds a check to the table, which the linker puts together. */
#define CHECK(group, what)                                                                          \
  static void group##_##what(void);                                                                 \
  static const struct check group##_##what##_check                                                  \
      __attribute__((section("checks"), used, aligned(8))) = {#group "." #what, group##_##what};    \
  static void group##_##what(void)

/* Number of names, links or descriptors that the checks of many take. */
extern int many;
enum { MOST = 2000 };

/* Users and groups of the checks. */
enum { OWNER = 1000, OTHER = 1001, STAFF = 2000, PROJECT = 2001 };

/* Says a word of the check's result. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says how a call ended: NAME=ok, or NAME=EEXIST. Returns whether it was right. */
int tell(const char *name, long result);

/* Says a number: NAME=5. */
void value(const char *name, long long number);

/* Ends the check, unless a call that it is built on was right. Returns what that returned. */
long need_(long result, const char *call);
#define need(call) need_((call), #call)

/* Makes a file of MODE, exactly, with the text "hello". */
void file(const char *name, mode_t mode);

/* A descriptor of an existing or new file (0644), by FLAGS of open(2). */
int opened(const char *name, int flags);

/* Says the mode of a name, with its type: mode=100644. */
void mode_of(const char *name);

/* Says owner and group: owner=0:0. */
void owner_of(const char *name);

struct stat status(const char *name);
struct stat status_of(int fd);

/* Says the text of a file: text=hello, to its first 60 bytes. NUL bytes show as dots. */
void text_of(const char *name);

/* Sets both times of a file to the second 1,000,000,000. */
void age(const char *name);

/* Says whether a time has gone on since age(). */
#define AGED 1000000000
void aged(const char *word, struct timespec time);

/* Says what happened to the times of change since BEFORE, of a file that was made old by age(). */
void changed(const char *name, struct stat before);

/* Maps a file from its start, or ends the check. */
char *mapped(int fd, size_t length, int protection, int how);

/* Name of a descriptor in /proc. It stands until the next call. */
const char *descriptor_name(int fd);

/* Tells whether a name in a listing is `.` or `..`. */
int is_dots(const char *name);

/* Runs a block in a process of that user, with GROUP and, if it is not 0, one supplementary group. */
#define AS(uid, gid, more) for (int in_ = become(uid, gid, more); in_; leave())
/* Runs a block in another process with the same rights. */
#define BESIDE for (int in_ = become(-1, -1, 0); in_; leave())
int become(int uid, int gid, int more);
void leave(void) __attribute__((noreturn));
