/* What the parts for commands share: process.c has the table and its operations, streams.c moves bytes, command.c starts, terminal.c terminals. */
#ifndef TSVM_AGENT_PROCESS_H
#define TSVM_AGENT_PROCESS_H

#include "agent.h"
#include "ring.h"

enum { OUTPUTS = 2, KEPT_ARGUMENTS = 2048, MAX_GROUPS = 1024, MAX_LIMITS = RLIM_NLIMITS, MAX_ID = 0x7fffffff };

struct process;

/* An output of a command, from its pipe or terminal to the session that reads it, or to `kept`. */
struct output {
  struct waiter waiter; /* its fd is -1 when nothing more comes */
  struct process *process;
  int stream;
  struct ring kept;
  ulong dropped; /* bytes that nobody read */
  ulong left;    /* when the command has ended: what may still be read */
};

/* Its input: what has come and does not fit into the pipe waits in `queue`. */
struct input {
  struct waiter waiter; /* its fd is -1 when it is closed */
  struct process *process;
  struct ring queue;
  ulong older; /* bytes of it that came in a session before: this one has no credit for them */
  int ended;
};

struct process {
  struct process *next;
  __u32 id;
  int pid;
  ulong ended; /* the how-manieth to end; 0: it runs. It is reaped: `status` is what wait4() has */
  int status;
  int killed_by_host;
  int out_of_memory;
  ulong kills; /* memory_kills() when it began */
  int output_count; /* 1 with a terminal */
  struct __kernel_timespec started;
  struct session *session; /* that reads it, or 0 */
  struct input input;
  struct output outputs[OUTPUTS];
  ulong argument_bytes;
  char arguments[KEPT_ARGUMENTS]; /* as many as fit, whole */
};

/* What a command is started with, from its request. */
struct command {
  char **arguments, **environment;
  ulong memory; /* of both */
  const char *directory;
  int make_directory;
  long uid, gid; /* -1: as it is */
  int group_count;
  __u32 groups[MAX_GROUPS];
  int limit_count;
  struct { int resource; struct rlimit64 values; } limits[MAX_LIMITS];
  struct rlimit64 descriptors; /* the agent's own limit before it raised it */
  int terminal;
  int streams[3]; /* the command's ends, or -1; with a terminal, all are the first */
};

/* Fills `command` in from the request: less than 0 is the error, of the option `what`. free_command() is called in any case. */
long read_command(struct command *command, const struct request *request, const char **what);
void free_command(struct command *command);
/* Starts it: its number, or the error of the step `what`. */
long start_command(const struct command *command, const char **what);

/* Makes pipes or a terminal: the command's ends are in `command`, the agent's in `process`, both to be closed by their owners. */
long open_streams(struct process *process, struct command *command, const struct winsize *size, int has_input);
/* Its two ends: the agent's, and the command's. */
long open_terminal(int ends[2], const struct winsize *size);
void set_terminal_size(int terminal, const struct winsize *size);
/* The byte that is the end of input for who reads the terminal now, or 0. */
char end_character(int terminal);

void write_input(struct process *process, const char *bytes, ulong size);
void end_input(struct process *process);
/* Of a session that goes on where another has ended: what that one sent may still wait. */
void adopt_input(struct process *process);
void read_output(struct output *output);
/* Waits for what it writes. */
void watch_outputs(struct process *process);
/* After its session came or went. */
void resume_streams(struct process *process);
/* The command is dead: reads what it has left behind. */
void finish_streams(struct process *process);
/* Whether nothing of its outputs is left to be sent. */
int streams_are_done(const struct process *process);
void close_streams(struct process *process);
/* Sends the last reply if it has ended and all is sent. */
void conclude(struct process *process);

/* How many processes the kernel has ended for want of memory: in this machine or container. 0 if nothing tells. */
ulong memory_kills(void);
/* Whether it is likely that the command was one of them, or ended because one was. */
int ended_for_memory(const struct process *process);

/* The operation `facts`. */
long begin_facts(struct session *session, struct request *request, const char **what);

void prepare_processes(ulong descriptors);
void reap_processes(void);

#endif
