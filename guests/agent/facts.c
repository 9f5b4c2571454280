/* Facts about the machine: what `top` and metrics show. */
#include "process.h"

#include <asm/statfs.h>

enum { TEXT_BYTES = 4096, NAMES_BYTES = 32768, NUMBER_BYTES = 24, KIBIBYTE = 1024 };

/* A file of /proc, as a text; empty if it cannot be read. */
static void read_text(const char *path, char text[TEXT_BYTES]) {
  long fd = SYS3(open, path, O_RDONLY | O_CLOEXEC, 0);
  ssize size = fd < 0 ? 0 : SYS3(read, fd, text, TEXT_BYTES - 1);
  if (fd >= 0) SYS1(close, fd);
  text[size < 0 ? 0 : size] = 0;
}

/* Bytes, of a line of /proc/meminfo: its name, blanks, a number of KiB. */
static ulong meminfo(const char *text, const char *name) {
  for (const char *at = text; *at; at++) {
    const char *value = at == text || at[-1] == '\n' ? after(at, name) : 0;
    if (!value) continue;
    while (*value == ' ') value++;
    return number(&value) * KIBIBYTE;
  }
  return 0;
}

/* Ends the text behind `count` words. */
static void keep_words(char *text, int count) {
  while (*text && *text != '\n' && (*text != ' ' || --count)) text++;
  *text = 0;
}

static ulong count_processes(void) {
  static char names[NAMES_BYTES];
  struct entry { __u64 inode, offset; unsigned short length; __u8 type; char name[]; };
  ulong count = 0;
  long fd = SYS3(open, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  for (ssize size; (size = SYS3(getdents64, fd, names, sizeof names)) > 0;)
    for (ssize at = 0; at < size;) {
      const struct entry *entry = (const struct entry *)(names + at);
      count += entry->name[0] >= '1' && entry->name[0] <= '9';
      at += entry->length;
    }
  SYS1(close, fd);
  return count;
}

long begin_facts(struct session *session, struct request *request, const char **what) {
  static char load[TEXT_BYTES], uptime[TEXT_BYTES], memory[TEXT_BYTES];
  char numbers[7][NUMBER_BYTES];
  struct statfs disk = {0};
  (void)request;
  read_text("/proc/loadavg", load);
  read_text("/proc/uptime", uptime);
  read_text("/proc/meminfo", memory);
  keep_words(load, 3);
  keep_words(uptime, 1);
  *what = "/";
  long error = SYS2(statfs, "/", &disk);
  if (error < 0) return error;
  ulong block = (ulong)disk.f_bsize;
  const char *const parts[] = {
      "load=", load,
      "uptime=", uptime,
      "memory=", decimal_long(meminfo(memory, "MemTotal:"), numbers[0]),
      "available=", decimal_long(meminfo(memory, "MemAvailable:"), numbers[1]),
      "swap=", decimal_long(meminfo(memory, "SwapTotal:"), numbers[2]),
      "swapfree=", decimal_long(meminfo(memory, "SwapFree:"), numbers[3]),
      "disk=", decimal_long((ulong)disk.f_blocks * block, numbers[4]),
      "diskfree=", decimal_long((ulong)disk.f_bavail * block, numbers[5]),
      "processes=", decimal_long(count_processes(), numbers[6]),
      0,
  };
  reply(session, parts, 1);
  return 0;
}
