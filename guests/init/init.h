/*
 * What the parts of init share: init.c boots and runs a command, root.c enters the root, channel.c takes the command from the host, agent.c
 * runs the agent, net.c sets the network up.
 */
#ifndef TSVM_INIT_H
#define TSVM_INIT_H

#include "protocol.h"
#include "sys.h"

#define SIGNAL_BIT(number) (1ul << ((number) - 1))

enum {
  MAX_ARGS = 4096, /* words of a command; 32 KiB of untouched bss */
  OWN_ENV = 4,     /* variables of init itself */
};
#define DEVPTS_OPTIONS "mode=620,ptmxmode=666"

/* What a command is to be run with. */
struct options {
  int tty;
  int session; /* a session and process group of its own, also without a terminal */
  int no_stdin;
  unsigned rows, cols;
  const char *cwd;
  int make_cwd;
  unsigned long uid, gid;
  int given; /* a command file was there */
};

extern int port;
extern char *args[MAX_ARGS + 1];
extern char *env[]; /* ends with 0 */

/* Mounts a file system at a directory, which is made if it is missing. */
long mount_on(const char *source, const char *target, const char *type, long flags, const char *data);
/* The last value of `name=` on the kernel's command line, cut off at the next blank, until it is called again; 0 if absent. */
char *parameter(const char *name);
/* Whether `name` is a word of it by itself. */
int flag(const char *name);
void out(int at, unsigned char value);
void sleep_ms(long ms);
/* Strings as in /.tsvm/command: options up to an empty one, then argv. */
void parse_command(char *text, const char *end, struct options *options);
/* One option that may come at any time; 0 if it is not such a one. */
int apply_now(const char *text);
/*
 * Opens a console that comes late, or -1: a virtio-console with ports becomes a terminal in a worker of the kernel's, which may not have
 * come to it when PID 1 starts, and one that is a module's only when that is loaded.
 */
int late_console(void);
void use_terminal(const struct options *options);
/* Leaves out what is not there of the directories that are searched for a command. */
void shorten_search(void);
/* Starts args, and returns its process once it runs. */
long start(const struct options *options);
/* The exit status as a shell tells it. */
int exit_status(int status);
__attribute__((noreturn)) void finish(int status, int reboot);
/* `ip`: the value of that parameter, which is changed; or 0. */
void set_up_network(char *ip);
/* Writes the name server of `ip` to /etc/resolv.conf, once the root is the one that the command sees. */
void write_resolv_conf(void);
/* Whether what is written to the root is kept apart from it. */
extern int root_is_covered;
/* Whether the root is entered with the command only: its disk may be another in each copy of a saved machine. */
int root_waits(void);
/* Mounts the root that the command line names, and moves into it: 1; 0 if there is none to enter, -1 if it cannot be. */
int enter_root(void);
/* The same for a root that waited, with what else is done in it; -1 if it cannot be. */
int enter_late_root(void);
/* Tells the monitor if nothing more can be written to the root. */
void mark_full_root(void);
/* Opens the agent's program, if the machine is to have it: before another root is entered. */
void open_agent(void);
int has_agent(void);
/* Starts the agent in the root that there is, unless it runs, and tells the monitor. `console`: for what it says, or -1. */
void run_agent(int console);
/* Takes note that a process has ended, which may be the agent. */
void bury_agent(long pid);
/* Serves the host for ever, or returns because the channel is not there. `late_root`: it is entered before the command runs. */
void serve_channel(int late_root);

#endif
