/* What the parts of init share: init.c boots and runs a command, channel.c takes it from the host, net.c sets the network up. */
#ifndef TSVM_INIT_H
#define TSVM_INIT_H

#include "sys.h"

#define SIGNAL_BIT(number) (1ul << ((number) - 1))

/* Port I/O through /dev/port: the file offset is the port. */
enum { PORT_MARK = 0x5f0, PORT_EXIT_STATUS = 0x5f1, PORT_SLEEP_CONTROL = 0x600 };
enum { MARK_INIT = 1, MARK_EXEC = 2, MARK_READY = 3, MARK_DONE = 4 };
/* What PORT_MARK reads as when the machine has a channel, or a port to ask for its end. */
enum { MACHINE_HAS_CHANNEL = 'C', MACHINE_HAS_STOP_PORT = 'S' };

enum { MAX_ARGS = 4096 }; /* words of a command; 32 KiB of untouched bss */

/* What a command is to be run with. */
struct options {
  int tty;
  int session; /* a session and process group of its own, also without a terminal */
  int no_stdin;
  unsigned rows, cols;
  const char *cwd;
  unsigned long uid, gid;
  int given; /* a command file was there */
};

extern int port;
extern char *args[MAX_ARGS + 1];

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
/* Serves the host for ever, or returns because the channel is not there. */
void serve_channel(void);

#endif
