/*
 * The agent: a program beside init that does in the machine what the host asks for (docs/agent.md). It listens on vsock, by a socket that
 * init gives it: so whoever hears of it from init finds it.
 */
#include "../agent/protocol.h"
#include "init.h"

/* <sys/socket.h>, <linux/vm_sockets.h>, <fcntl.h> */
enum {
  FAMILY_VSOCK = 40,
  SOCKET_STREAM = 1,
  BACKLOG = 64,
  EMPTY_PATH = 0x1000, /* AT_EMPTY_PATH */
  LISTENER = 3,        /* the descriptor that it inherits */
};
static const __u32 ANY_CID = 0xffffffff;

struct vsock_address {
  __u16 family, reserved;
  __u32 port, cid;
  __u8 rest[4];
};

static int program = -1;
static long process;
/* As it is before a command brings variables of its own. */
static char *environment[OWN_ENV + 1];

void open_agent(void) {
  unsigned char offer = 0;
  SYS4(pread64, port, &offer, 1, PORT_AGENT);
  if (offer != OFFER_AGENT) return;
  program = (int)SYS3(open, "/agent", O_RDONLY | O_CLOEXEC, 0);
  if (program < 0) SAY("there is no /agent: make the guest anew (tsvm guest build)");
  for (int i = 0; i < OWN_ENV; i++) environment[i] = env[i];
}

int has_agent(void) {
  return program >= 0;
}

/* Terminals: a root of the initramfs alone has none yet. */
static void mount_terminals(void) {
  if (SYS2(access, "/dev/pts/ptmx", 0) < 0) mount_on("devpts", "/dev/pts", "devpts", 0, DEVPTS_OPTIONS);
}

static int listen_for_agent(void) {
  struct vsock_address address = {FAMILY_VSOCK, 0, AGENT_PORT, ANY_CID, {0}};
  int fd = (int)SYS3(socket, FAMILY_VSOCK, SOCKET_STREAM | O_CLOEXEC, 0);
  if (fd >= 0 && SYS3(bind, fd, &address, sizeof address) >= 0 && SYS2(listen, fd, BACKLOG) >= 0) return fd;
  SAY("the agent has no vsock to listen on");
  SYS1(close, fd);
  return -1;
}

static __attribute__((noreturn)) void become_agent(int listener, int console) {
  static char *arguments[] = {"agent", 0};
  ulong none = 0;
  SYS4(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof none);
  SYS0(setsid);
  int file = (int)SYS3(fcntl, program, F_DUPFD_CLOEXEC, LISTENER + 1);
  int null = (int)SYS3(open, "/dev/null", O_RDWR | O_CLOEXEC, 0);
  for (int fd = 0; fd < LISTENER; fd++) SYS2(dup2, fd == 2 && console >= 0 ? console : null, fd);
  SYS2(dup2, listener, LISTENER);
  SYS3(fcntl, LISTENER, F_SETFD, 0);
  SYS5(execveat, file, "", arguments, environment, EMPTY_PATH);
  SAY("/agent cannot be run");
  for (;;) SYS1(exit, 127);
}

/* As start() does it: the child shares this memory until it execs. */
static __attribute__((noinline)) void start_agent(int console) {
  mount_terminals();
  int listener = listen_for_agent();
  if (listener < 0) return;
  long pid = SYS5(clone, 0x4000 /* CLONE_VFORK */ | 0x100 /* CLONE_VM */ | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) become_agent(listener, console);
  SYS1(close, listener);
  if (pid > 0) process = pid;
}

void run_agent(int console) {
  if (program < 0) return;
  if (!process) start_agent(console);
  if (process) out(PORT_MARK, MARK_AGENT);
}

void bury_agent(long pid) {
  if (pid == process) process = 0;
}
