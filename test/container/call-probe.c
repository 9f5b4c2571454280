/* Makes system calls that a container's filter decides on by their arguments, and prints the errno of each. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result) {
  printf("%s %d\n", what, result < 0 ? errno : 0);
  fflush(stdout);
}

static long child(long pid) {
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, 0, 0);
  return pid;
}

int main(void) {
  int pair[2];
  struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  static const struct {
    const char *name;
    int family;
  } families[] = {{"unix", 1}, {"inet", 2}, {"inet6", 10}, {"key", 15}, {"netlink", 16}, {"packet", 17}, {"alg", 38}, {"vsock", 40}};
  for (unsigned i = 0; i < sizeof families / sizeof families[0]; i++) {
    long type = families[i].family >= 16 && families[i].family <= 17 ? 3 : 1;
    say(families[i].name, syscall(SYS_socket, families[i].family, type, 0));
  }
  say("pair", syscall(SYS_socketpair, 1, 1, 0, pair));
  say("alg-pair", syscall(SYS_socketpair, 38, 5, 0, pair));
  say("clone", child(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)));
  say("clone-user", child(syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, 0, 0, 0, 0)));
  say("clone3", child(syscall(SYS_clone3, &args, sizeof args)));
  say("personality", syscall(SYS_personality, 0xffffffff));
  say("no-random-addresses", syscall(SYS_personality, 0x40000));
  say("keyctl", syscall(SYS_keyctl, 0, 0));
  say("mount", syscall(SYS_mount, 0, 0, 0, 0, 0));
  return 0;
}
