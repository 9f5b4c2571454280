/*
 * PID 1 of a tsvm guest: mounts what it must, runs one command on the console, tells the monitor the command's exit
 * status and powers off. The protocol is in guests/README.md ("What init promises").
 *
 * No C library, not position independent, no relocations: the kernel maps it and takes a handful of page faults.
 * Where ring 0 is interpreted, each system call before the command costs about a millisecond; hence their order.
 */
#include "init.h"

/* ACPI SLEEP_CONTROL_REG: SLP_TYP = 5 in bits 2-4, SLP_EN = bit 5 (ACPI 6.5, 4.8.3.7). */
enum { SLEEP_S5 = 5 << 2 | 1 << 5 };

enum {
  MAX_ENV = 8192,       /* variables that a command may be given, beside those of init */
  CMDLINE_BYTES = 4096, /* the kernel's own limit is 2048 */
  MOUNTS_BYTES = 16384, /* as much of /proc/self/mounts as is unmounted one by one */
  STOP_WAIT_MS = 5000,  /* for the stop port to appear */
  CONSOLE_WAIT_MS = 5000,
  MODULES_BYTES = 4096, /* names of a kernel's modules */
  PATH_BYTES = 4096,
};

const ulong MAX_ID = 0xfffffffe;
/* The kernel refuses it as a group. */
static const unsigned NO_ID = 0xffffffff;

int port = -1;
static char cmdline[CMDLINE_BYTES];
static char mounts[MOUNTS_BYTES];
char *args[MAX_ARGS + 1];
char *env[MAX_ENV + OWN_ENV + 1];
static unsigned groups[MAX_GROUPS];
static int group_count;
static char path_env[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
static const char *search = path_env + 5; /* where a command is looked for, unless it is given another PATH */
static char home_env[] = "HOME=/root";
static char term_env[] = "TERM=linux";
/*
 * With noxsave the kernel keeps half of an AVX register when it switches between programs. Where CPUID cannot be hidden from them, they
 * use AVX all the same. glibc can be asked not to; its functions for strings and memory are what every program uses of it.
 */
static char tunables_env[] = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-AVX512BW";

void *memcpy(void *to, const void *from, ulong size) {
  void *result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return result;
}

void *memset(void *to, int byte, ulong size) {
  void *result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
  return result;
}

void out(int at, unsigned char value) {
  if (port >= 0) SYS4(pwrite64, port, &value, 1, at);
}

static void open_port(void) {
  port = (int)SYS3(open, "/dev/port", O_RDWR | O_CLOEXEC, 0);
}

void sleep_ms(long ms) {
  struct __kernel_timespec pause = {ms / 1000, ms % 1000 * 1000000};
  SYS2(nanosleep, &pause, 0);
}

/* --- the command ------------------------------------------------------------------------------------------------ */

static void set_env(char *entry, int replace) {
  int i = 0;
  for (; env[i]; i++) {
    int j = 0;
    while (entry[j] && entry[j] != '=' && entry[j] == env[i][j]) j++;
    if (entry[j] == '=' && env[i][j] == '=') break;
  }
  if (env[i] && !replace) return;
  if (i < MAX_ENV + OWN_ENV) env[i] = entry;
  else SAY("more environment variables than 8192; dropped ", entry);
}

static void set_groups(const char *text) {
  for (group_count = 0; *text && group_count < MAX_GROUPS; text += *text == ',') {
    ulong id = number(&text);
    groups[group_count++] = id > MAX_ID ? NO_ID : (unsigned)id;
    if (*text && *text != ',') break;
  }
}

void parse_command(char *text, const char *end, struct options *options) {
  const char *value;
  for (; text < end && *text; text += length(text) + 1) {
    if ((value = after(text, "tty="))) options->tty = *value == '1';
    else if ((value = after(text, "rows="))) options->rows = (unsigned)number(&value);
    else if ((value = after(text, "cols="))) options->cols = (unsigned)number(&value);
    else if ((value = after(text, "cwd="))) options->cwd = value;
    else if ((value = after(text, "makecwd="))) options->make_cwd = *value == '1';
    else if ((value = after(text, "uid="))) options->uid = number(&value);
    else if ((value = after(text, "gid="))) options->gid = number(&value);
    else if ((value = after(text, "groups="))) set_groups(value);
    else if ((value = after(text, "env="))) set_env((char *)value, 1);
    else if ((value = after(text, "stdin="))) options->no_stdin = *value == '0';
    else if (!apply_now(text)) SAY("unknown option of a command: ", text);
  }
  int n = 0;
  for (text++; text < end; text += length(text) + 1) {
    if (n == MAX_ARGS) {
      SAY("more than 4096 words; the rest is dropped");
      break;
    }
    args[n++] = text;
  }
}

static void read_command(struct options *options) {
  int fd = (int)SYS3(open, "/.tsvm/command", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  long size = SYS3(lseek, fd, 0, 2 /* SEEK_END */);
  char *text = size > 0 ? (char *)SYS6(mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) : 0;
  SYS1(close, fd);
  if (size <= 0 || (ulong)text >= -4095ul || text[size - 1]) {
    SAY("/.tsvm/command is damaged; starting a shell");
    return;
  }
  options->given = 1;
  options->tty = 0;
  parse_command(text, text + size, options);
}

/* --- files ------------------------------------------------------------------------------------------------------ */

long mount_on(const char *source, const char *target, const char *type, long flags, const char *data) {
  long result = SYS5(mount, source, target, type, flags, data);
  if (result == -ENOENT) { /* no such directory: only then pay for making it */
    SYS2(mkdir, target, 0755);
    result = SYS5(mount, source, target, type, flags, data);
  }
  return result;
}

static const char *next_word(const char *at) {
  while (*at && *at != ' ' && *at != '\n') at++;
  while (*at == ' ' || *at == '\n') at++;
  return at;
}

char *parameter(const char *name) {
  static char value[256];
  char *last = 0;
  for (const char *at = cmdline; *at; at = next_word(at)) {
    const char *found = after(at, name);
    if (!found) continue;
    ulong n = 0;
    while (found[n] && found[n] != ' ' && found[n] != '\n' && n < sizeof value - 1) n++;
    memcpy(value, found, n);
    value[n] = 0;
    last = value;
  }
  return last;
}

int flag(const char *name) {
  for (const char *at = cmdline; *at; at = next_word(at)) {
    const char *rest = after(at, name);
    if (rest && (!*rest || *rest == ' ' || *rest == '\n')) return 1;
  }
  return 0;
}

static void read_file(const char *path, char *buffer, ulong size) {
  int fd = (int)SYS3(open, path, O_RDONLY | O_CLOEXEC, 0);
  ulong used = 0;
  if (fd < 0) return;
  for (;;) {
    ssize n = SYS3(read, fd, buffer + used, size - 1 - used);
    if (n <= 0) break;
    used += (ulong)n;
  }
  buffer[used] = 0;
  SYS1(close, fd);
}

/* --- a kernel's modules ----------------------------------------------------------------------------------------- */

/* Loads what /modules/order names, line by line: the initramfs of a kernel that has its drivers apart. 0 if there are none. */
static int load_modules(void) {
  static char order[MODULES_BYTES], path[256] = "/modules/";
  read_file("/modules/order", order, sizeof order);
  for (char *name = order; *name;) {
    ulong n = 0;
    while (name[n] && name[n] != '\n') n++;
    if (n >= sizeof path - 9) break;
    memcpy(path + 9, name, n);
    path[9 + n] = 0;
    int fd = (int)SYS3(open, path, O_RDONLY | O_CLOEXEC, 0);
    if (SYS3(finit_module, fd, "", 0) < 0) SAY("cannot load ", path);
    SYS1(close, fd);
    name += name[n] ? n + 1 : n;
  }
  return order[0] != 0;
}

/* --- the terminal ----------------------------------------------------------------------------------------------- */

int late_console(void) {
  for (int waited = 0; waited < CONSOLE_WAIT_MS; waited += 10) {
    int fd = (int)SYS3(open, "/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
    if (fd >= 0) return fd;
    sleep_ms(10);
  }
  return -1;
}

/* A console that came with a module: the kernel had none to give us, and the port is where it would be. */
static void take_console(void) {
  int fd = late_console();
  if (fd < 0) return;
  fd = (int)SYS3(fcntl, fd, F_DUPFD_CLOEXEC, 3);
  port = (int)SYS3(fcntl, port, F_DUPFD_CLOEXEC, 3);
  for (int n = 0; n < 3; n++) SYS2(dup2, fd, n);
  SYS1(close, fd);
}

static void set_terminal(const struct options *options) {
  struct termios now, wanted;
  if (SYS3(ioctl, 0, TCGETS, &now) < 0) return;
  wanted = now;
  if (options->tty) {
    wanted.c_iflag = ICRNL | IXON;
    wanted.c_oflag = OPOST | ONLCR;
    wanted.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
    struct winsize size = {(unsigned short)options->rows, (unsigned short)options->cols, 0, 0};
    if (size.ws_row || size.ws_col) SYS3(ioctl, 0, TIOCSWINSZ, &size);
  } else {
    /* Bytes as they are: the only character with a meaning is ^D, the end of the host's input. */
    memset(wanted.c_cc, 0, sizeof wanted.c_cc);
    wanted.c_cc[VEOF] = 4;
    wanted.c_cc[VMIN] = 1;
    wanted.c_iflag = 0;
    wanted.c_oflag = 0;
    wanted.c_lflag = ICANON;
  }
  for (ulong i = 0; i < sizeof now; i++)
    if (((char *)&now)[i] != ((char *)&wanted)[i]) {
      SYS3(ioctl, 0, TCSETS, &wanted);
      return;
    }
}

/* /dev/console cannot be a controlling terminal; the terminal behind it can. */
static void open_real_tty(void) {
  static char name[] = "/dev/ttyS0";
  unsigned device = 0;
  if (SYS3(ioctl, 0, TIOCGDEV, &device) < 0) return;
  unsigned major = device >> 8 & 0xfff, minor = (device & 0xff) | (device >> 12 & 0xfff00);
  if (major == 229 && minor < 10) memcpy(name, "/dev/hvc0", 10), name[8] = (char)('0' + minor);
  else if (major == 4 && minor >= 64 && minor < 74) name[9] = (char)('0' + minor - 64);
  else return;
  int fd = (int)SYS3(open, name, O_RDWR | O_NOCTTY, 0);
  if (fd < 0) return;
  for (int i = 0; i < 3; i++) SYS2(dup2, fd, i);
  if (fd > 2) SYS1(close, fd);
}

void use_terminal(const struct options *options) {
  if (options->tty) open_real_tty();
  set_terminal(options);
}

/* --- running ---------------------------------------------------------------------------------------------------- */

void shorten_search(void) {
  static char found[sizeof path_env];
  char *to = found;
  for (const char *from = search; *from;) {
    ulong n = 0;
    while (from[n] && from[n] != ':') n++;
    memcpy(to, from, n);
    to[n] = 0;
    from += from[n] ? n + 1 : n;
    if (SYS2(access, to, 0) < 0) continue;
    to += n;
    *to++ = ':';
  }
  *(to == found ? to : to - 1) = 0;
  search = found;
}

/* Tries args[0] along PATH, then as an applet of busybox, so that the initramfs needs no link for each. */
static long exec_command(void) {
  static char file[4352];
  const char *name = args[0];
  if (contains(name, '/')) return SYS3(execve, name, args, env);
  long result = -ENOENT;
  const char *list = search;
  for (int i = 0; env[i]; i++)
    if (env[i] != path_env && after(env[i], "PATH=")) list = env[i] + 5;
  ulong name_size = length(name) + 1;
  if (name_size > 256 || name_size == 1) return -ENOENT;
  for (;;) {
    ulong n = 0;
    while (list[n] && list[n] != ':') n++;
    if (n && n < 4096) {
      memcpy(file, list, n);
      file[n] = '/';
      memcpy(file + n + 1, name, name_size);
      long tried = SYS3(execve, file, args, env);
      if (tried != -ENOENT && tried != -ENOTDIR) result = tried;
    }
    if (!list[n]) break;
    list += n + 1;
  }
  if (result == -ENOENT) SYS3(execve, "/bin/busybox", args, env);
  return result;
}

/* 0 if a command would stay who this is: the kernel takes 2^32 - 1 for "as it is", and 2^32 for 0. */
static int become(ulong uid, ulong gid) {
  if (!uid && !gid && !group_count) return 1;
  /* Its streams are its own: so it can open them again by /dev/stdout. */
  for (int fd = 0; fd < 3; fd++) SYS3(fchown, fd, uid, -1);
  return uid <= MAX_ID && gid <= MAX_ID && SYS2(setgroups, group_count, groups) >= 0 &&
         SYS3(setresgid, gid, gid, gid) >= 0 && SYS3(setresuid, uid, uid, uid) >= 0;
}

/* Makes a directory and those above it, as far as they are missing. */
static void make_directories(const char *path) {
  static char at[PATH_BYTES];
  for (ulong n = 0; n < sizeof at - 1; n++) {
    if (n && (path[n] == '/' || !path[n])) SYS2(mkdir, at, 0755);
    if (!path[n]) return;
    at[n] = path[n];
    at[n + 1] = 0;
  }
}

static __attribute__((noreturn)) void child(const struct options *options) {
  ulong none = 0;
  SYS4(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof none);
  if (options->tty || options->session) SYS0(setsid);
  if (options->tty) SYS3(ioctl, 0, TIOCSCTTY, 1);
  int status = 127;
  if (options->cwd && options->make_cwd) make_directories(options->cwd);
  if (!become(options->uid, options->gid)) {
    SAY("the command's user is none that Linux has");
  } else if (options->cwd && SYS1(chdir, options->cwd) < 0) {
    SAY("cannot enter directory ", options->cwd);
  } else {
    long result = exec_command();
    const char *why = result == -ENOENT || result == -ENOTDIR ? ": not found"
                      : result == -EACCES                     ? ": permission denied"
                      : result == -ENOEXEC                    ? ": not a program"
                      : result == -E2BIG                      ? ": too many arguments"
                                                              : ": cannot be run";
    if (result != -ENOENT && result != -ENOTDIR) status = 126;
    SAY(args[0], why);
  }
  for (;;) SYS1(exit, status);
}

/* The child shares this memory until it execs or exits (vfork): no page table is copied. */
__attribute__((noinline)) long start(const struct options *options) {
  long pid = SYS5(clone, 0x4000 /* CLONE_VFORK */ | 0x100 /* CLONE_VM */ | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) child(options);
  return pid;
}

static void unmount_disks(void) {
  read_file("/proc/self/mounts", mounts, sizeof mounts);
  ulong n = length(mounts);
  while (n) { /* from the last to the first: those on top go first */
    mounts[--n] = 0;
    while (n && mounts[n - 1] != '\n') n--;
    char *line = mounts + n;
    if (!after(line, "/dev/")) continue;
    char *target = line;
    while (*target && *target != ' ') target++;
    if (!*target) continue;
    char *end = ++target;
    while (*end && *end != ' ') end++;
    *end = 0; /* names with blanks are escaped: the two calls fail, sync has been done */
    if (equal(target, "/") || SYS2(umount2, target, 0) < 0) SYS5(mount, 0, target, 0, MS_REMOUNT | MS_RDONLY, 0);
  }
}

__attribute__((noreturn)) void finish(int status, int reboot) {
  SYS3(ioctl, 0, TCSBRK, 1); /* tcdrain: the last bytes leave the serial port first */
  SYS2(kill, -1, SIGKILL);
  SYS0(sync);
  unmount_disks();
  out(PORT_EXIT_STATUS, (unsigned char)status);
  if (!reboot) out(PORT_SLEEP_CONTROL, SLEEP_S5);
  SYS4(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
       reboot ? LINUX_REBOOT_CMD_RESTART : LINUX_REBOOT_CMD_POWER_OFF, 0);
  for (;;) sleep_ms(1000000);
}

int exit_status(int status) {
  return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}

/* What init takes when it looks: a dead child; busybox's halt, poweroff and reboot; and a wish for the end. */
static const ulong handled =
    SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGUSR1) | SIGNAL_BIT(SIGUSR2) | SIGNAL_BIT(SIGTERM) | SIGNAL_BIT(SIGINT);

/*
 * Waits at the stop port, and passes on what comes there as the kernel does Ctrl-Alt-Del: by SIGINT to PID 1, whoever that is
 * by then. A process of its own, since PID 1 may become another program, which ends this one with all others; our own must not.
 */
static void listen_for_stop(int for_another) {
  if (SYS5(clone, SIGCHLD, 0, 0, 0, 0) != 0) return;
  ulong none = 0;
  if (for_another) SYS4(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof none);
  int fd = -1;
  for (int waited = 0; waited < STOP_WAIT_MS; waited += 10) {
    if ((fd = (int)SYS3(open, "/dev/vport0p1", O_RDWR | O_CLOEXEC, 0)) >= 0) break;
    sleep_ms(10);
  }
  char byte;
  while (SYS3(read, fd, &byte, 1) == 1) SYS2(kill, 1, SIGINT);
  for (;;) SYS1(exit, 0);
}

/* The first time all programs are asked to end, the second time nobody is asked. */
static void wind_up(long command, int tty) {
  static int asked;
  if (asked++) finish(128 + SIGKILL, 0);
  SYS2(kill, -1, SIGTERM);
  if (tty) SYS2(kill, command, SIGHUP); /* a shell at a terminal does not end of SIGTERM */
  SYS2(kill, -1, SIGCONT);
}

static __attribute__((noreturn)) void supervise(long command, int tty) {
  /* Where a kernel knows Ctrl-Alt-Del, it is SIGINT to us, and not a reset at once. */
  SYS4(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, 0);
  for (;;) {
    long signal = SYS4(rt_sigtimedwait, &handled, 0, 0, sizeof handled);
    if (signal == SIGINT) wind_up(command, tty);
    if (signal == SIGTERM) finish(0, 1);                       /* busybox reboot */
    if (signal == SIGUSR1 || signal == SIGUSR2) finish(0, 0);  /* busybox halt, poweroff */
    for (;;) {
      int status = 0;
      long pid = SYS4(wait4, -1, &status, WNOHANG, 0);
      if (pid <= 0) break;
      if (pid == command) {
        mark_full_root();
        finish(exit_status(status), 0);
      }
    }
  }
}

__attribute__((noreturn, used)) void init_main(void) {
  /* First of all, the mark. The initramfs has the node; a root disk started directly gets it with devtmpfs. */
  open_port();
  out(PORT_MARK, MARK_INIT);

  SYS4(rt_sigprocmask, 2 /* SIG_SETMASK */, &handled, 0, sizeof handled);

  struct options options = {.tty = 1};
  env[0] = path_env, env[1] = home_env, env[2] = term_env;
  read_command(&options);

  int modules = load_modules();
  mount_on("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
  mount_on("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
  mount_on("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
  if (port < 0) {
    open_port();
    out(PORT_MARK, MARK_INIT);
  }
  read_file("/proc/cmdline", cmdline, sizeof cmdline);
  if (modules && port < 3 && parameter("console=")) take_console();
  if (flag("noxsave")) set_env(tunables_env, 0);
  unsigned char offer = 0;
  SYS4(pread64, port, &offer, 1, PORT_MARK);
  int has_channel = offer == OFFER_CHANNEL && !options.given;
  if (has_channel) open_agent();
  int waits = has_channel && root_waits();
  int entered = waits ? 0 : enter_root();
  if (entered < 0) finish(127, 0);
  set_up_network(parameter("ip="));
  if (!waits) write_resolv_conf();

  char *other = entered && !options.given ? parameter("init=") : 0;
  if (offer == OFFER_STOP_PORT) listen_for_stop(other != 0);

  if (!options.given) {
    if (has_channel) serve_channel(waits);
    if (waits && enter_late_root() < 0) finish(127, 0);
    if (other) { /* a distribution's own init takes over */
      ulong none = 0;
      SYS4(rt_sigprocmask, 2, &none, 0, sizeof none);
      args[0] = other;
      SYS3(execve, other, args, env);
      SAY("cannot run init=", other, "; starting a shell");
    }
  }
  if (!args[0]) args[0] = "/bin/sh";
  use_terminal(&options);

  out(PORT_MARK, MARK_COMMAND);
  supervise(start(&options), options.tty);
}

__asm__(".globl _start\n_start: xor %ebp, %ebp\n and $-16, %rsp\n call init_main\n");
