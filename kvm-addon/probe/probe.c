// What runs in every kind of isolation that `tsvm compare` compares: the same bytes, so that only what is around them differs.
//
//   probe start   says that it runs, and ends
//   probe idle    says that it runs, and waits for the end of its input
//   probe look    says what it sees of the kernel and of the host. It reads, and asks whether it might write; it writes nothing,
//                 and calls nothing with arguments that could do something.
#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

#include "../launcher/sys.h"

#define AT_FDCWD -100
#define W_OK 2
#define BUFFER_BYTES 65536

static char buffer[BUFFER_BYTES];

static size_t length(const char *text) {
  size_t n = 0;
  while (text[n]) n++;
  return n;
}

static void say(const char *text) { SYS3(__NR_write, 1, text, length(text)); }

static void say_number(long value) {
  char digits[24], *at = digits + sizeof digits;
  unsigned long rest = value < 0 ? -(unsigned long)value : (unsigned long)value;
  *--at = 0;
  do *--at = (char)('0' + rest % 10);
  while (rest /= 10);
  if (value < 0) *--at = '-';
  say(at);
}

// A line for TypeScript: `name<TAB>value`.
static void say_row(const char *kind, const char *name) {
  say(kind);
  say(" ");
  say(name);
  say("\t");
}

// As much of a file as there is room for.
static long read_file(const char *path) {
  long fd = SYS4(__NR_openat, AT_FDCWD, path, O_CLOEXEC, 0);
  if (fd < 0) return fd;
  long used = 0, count;
  while (used < BUFFER_BYTES - 1 && (count = SYS3(__NR_read, fd, buffer + used, BUFFER_BYTES - 1 - used)) > 0) used += count;
  SYS1(__NR_close, fd);
  buffer[used] = 0;
  return used;
}

static void first_line(const char *path) {
  say_row("line", path);
  long count = read_file(path);
  if (count < 0) {
    say_number(count);
  } else {
    for (char *at = buffer; *at; at++)
      if (*at == '\n' || *at == '\t') *at = 0;
    say(buffer);
  }
  say("\n");
}

static void count_lines(const char *path) {
  say_row("lines", path);
  long count = read_file(path), lines = 0;
  for (long i = 0; i < count; i++) lines += buffer[i] == '\n';
  say_number(count < 0 ? count : lines);
  say("\n");
}

// The lines of /proc/self/status that tell what it may do.
static void status(const char *field) {
  say_row("status", field);
  read_file("/proc/self/status");
  for (char *at = buffer; *at; at++) {
    size_t n = 0;
    while (field[n] && at[n] == field[n]) n++;
    if (!field[n] && at[n] == ':') {
      at += n + 2;
      size_t end = 0;
      while (at[end] && at[end] != '\n') end++;
      at[end] = 0;
      say(at);
      break;
    }
    while (*at && *at != '\n') at++;
    if (!*at) break;
  }
  say("\n");
}

static void link(const char *path) {
  say_row("link", path);
  long count = SYS4(__NR_readlinkat, AT_FDCWD, path, buffer, BUFFER_BYTES - 1);
  if (count < 0) {
    say_number(count);
  } else {
    buffer[count] = 0;
    say(buffer);
  }
  say("\n");
}

static void answer(const char *kind, const char *name, long result) {
  say_row(kind, name);
  say_number(result);
  say("\n");
}

static void writable(const char *path) { answer("writable", path, SYS3(__NR_faccessat, AT_FDCWD, path, W_OK)); }
static void there(const char *path) { answer("there", path, SYS3(__NR_faccessat, AT_FDCWD, path, 0)); }

static void opens(const char *path) {
  long fd = SYS4(__NR_openat, AT_FDCWD, path, O_CLOEXEC | O_NONBLOCK, 0);
  if (fd >= 0) SYS1(__NR_close, fd);
  answer("opens", path, fd < 0 ? fd : 0);
}

static void count_names(const char *path) {
  long fd = SYS4(__NR_openat, AT_FDCWD, path, 0200000 | O_CLOEXEC, 0), names = fd, count;
  if (fd >= 0) {
    names = 0;
    while ((count = SYS3(__NR_getdents64, fd, buffer, BUFFER_BYTES)) > 0)
      for (long at = 0; at < count; at += *(uint16_t *)(buffer + at + 16)) names++;
    names -= 2;
    SYS1(__NR_close, fd);
  }
  answer("names", path, names);
}

static void look(void) {
  static const char *const lines[] = {"/proc/sys/kernel/osrelease", "/proc/version", "/proc/sys/kernel/random/boot_id",
                                      "/proc/sys/kernel/dmesg_restrict", "/proc/sys/kernel/kptr_restrict", "/proc/kallsyms",
                                      "/proc/sys/kernel/core_pattern", 0};
  static const char *const fields[] = {"CapEff", "CapBnd", "Seccomp", "NoNewPrivs", "Uid", 0};
  static const char *const links[] = {"/proc/self/ns/pid", "/proc/self/ns/net", "/proc/self/ns/mnt", "/proc/self/ns/uts",
                                      "/proc/self/ns/ipc", "/proc/self/ns/user", "/proc/self/ns/cgroup", 0};
  static const char *const knobs[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
                                      "/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent", 0};
  static const char *const opened[] = {"/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/vda", "/dev/sda", "/proc/kcore", 0};
  static const char *const sockets[] = {"/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", 0};
  for (int i = 0; lines[i]; i++) first_line(lines[i]);
  for (int i = 0; fields[i]; i++) status(fields[i]);
  for (int i = 0; links[i]; i++) link(links[i]);
  for (int i = 0; knobs[i]; i++) writable(knobs[i]);
  for (int i = 0; opened[i]; i++) opens(opened[i]);
  for (int i = 0; sockets[i]; i++) there(sockets[i]);
  count_lines("/proc/partitions");
  count_lines("/proc/mounts");
  count_lines("/proc/modules");
  count_names("/dev");
  count_names("/sys/block");
  count_names("/sys/class/net");
  // Whether the kernel hears of these at all; each is refused for its arguments if not for who asks.
  answer("call", "mount", SYS5(__NR_mount, -1, -1, -1, 0, 0));
  answer("call", "unshare", SYS1(__NR_unshare, 1));
  answer("call", "setns", SYS2(__NR_setns, -1, 0));
  answer("call", "bpf", SYS3(__NR_bpf, -1, 0, 0));
  answer("call", "keyctl", SYS1(__NR_keyctl, -1));
  answer("call", "perf_event_open", SYS5(__NR_perf_event_open, 0, 0, 0, 0, 0));
  answer("call", "io_uring_setup", SYS2(__NR_io_uring_setup, 0, 0));
  answer("call", "userfaultfd", SYS1(__NR_userfaultfd, -1));
  answer("call", "init_module", SYS3(__NR_init_module, 0, 0, 0));
  answer("call", "syslog", SYS3(__NR_syslog, 10 /* SYSLOG_ACTION_SIZE_BUFFER */, 0, 0));
}

__attribute__((used)) static _Noreturn void run(long *stack) {
  const char *mode = stack[0] > 1 ? (const char *)stack[2] : "start";
  if (mode[0] == 'l') {
    look();
  } else {
    say("1\n");
    while (mode[0] == 'i' && SYS3(__NR_read, 0, buffer, BUFFER_BYTES) > 0) {
    }
  }
  for (;;) SYS1(__NR_exit_group, 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");
