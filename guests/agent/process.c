/* Commands: the table of those that run or have ended, and the operations on them. */
#include "process.h"

enum { MAX_TERMINAL_SIDE = 65535, MAX_RECORD = KEPT_ARGUMENTS + 256 };

/* In the order of their numbers. */
static struct process *processes, **processes_end = &processes;
static int count;
static __u32 last_id;
static ulong ended; /* how many have */
static struct rlimit64 descriptors;
static struct command command; /* the one that is being started */

static struct process *find(long id) {
  struct process *process = processes;
  while (process && process->id != (ulong)id) process = process->next;
  return process;
}

static struct process *find_option(const struct request *request, const char **what) {
  *what = "id";
  return find(number_option(request, "id", 0xffffffff, 0));
}

static void forget(struct process *process) {
  struct process **at = &processes;
  while (*at != process) at = &(*at)->next;
  *at = process->next;
  if (!*at) processes_end = at;
  count--;
  close_streams(process);
  release(process, sizeof *process);
}

static ulong kept_bytes(const struct process *process) {
  ulong bytes = 0;
  for (int i = 0; i < process->output_count; i++) bytes += process->outputs[i].kept.used;
  return bytes;
}

static int is_kept(const struct process *process) {
  return process->ended && !process->session;
}

/* Those that ended first go first. Not to be called where a process is in use. */
static void forget_oldest(void) {
  for (;;) {
    struct process *oldest = 0;
    ulong kept = 0, bytes = 0;
    for (struct process *process = processes; process; process = process->next) {
      if (!is_kept(process)) continue;
      kept++;
      bytes += kept_bytes(process);
      if (!oldest || process->ended < oldest->ended) oldest = process;
    }
    if (kept <= 1 || (kept <= KEPT_ENDED && bytes <= KEPT_ENDED_BYTES)) return;
    forget(oldest);
  }
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

void conclude(struct process *process) {
  if (!process->ended || !process->session || !streams_are_done(process)) return;
  char digits[24];
  int signal = process->status & 0x7f;
  const char *value = decimal_long((ulong)(signal ? signal : process->status >> 8 & 0xff), digits);
  const char *const parts[] = {signal ? "signal=" : "exited=", value, process->out_of_memory ? "oom=" : 0, "1", 0};
  reply(process->session, parts, 1);
}

void reap_processes(void) {
  int status;
  for (long pid; (pid = SYS4(wait4, -1, &status, WNOHANG, 0)) > 0;) {
    struct process *process = processes;
    while (process && (process->ended || process->pid != pid)) process = process->next;
    if (!process) continue;
    process->ended = ++ended;
    process->status = status;
    process->out_of_memory = ended_for_memory(process);
    finish_streams(process);
  }
  forget_oldest();
}

/* --- exec and attach ---------------------------------------------------------------------------------------------- */

static void process_data(struct session *session, const char *bytes, ulong size) {
  write_input(session->own, bytes, size);
}

static void process_end(struct session *session) {
  end_input(session->own);
}

static void process_room(struct session *session, int stream) {
  struct process *process = session->own;
  read_output(&process->outputs[stream - STREAM_OUT]);
}

static void process_closed(struct session *session) {
  struct process *process = session->own;
  if (!process || process->session != session) return;
  process->session = 0;
  resume_streams(process);
}

static long send_signal(struct process *process, long number) {
  if (process->ended) return -ESRCH;
  if (number == SIGKILL) process->killed_by_host = 1;
  return SYS2(kill, -(long)process->pid, number);
}

static int read_size(const char *text, struct winsize *size) {
  ulong rows = number(&text);
  if (*text++ != 'x') return 0;
  ulong columns = number(&text);
  if (*text || rows > MAX_TERMINAL_SIDE || columns > MAX_TERMINAL_SIDE) return 0;
  *size = (struct winsize){(unsigned short)rows, (unsigned short)columns, 0, 0};
  return 1;
}

static void process_control(struct session *session, const char *text) {
  struct process *process = session->own;
  const char *value;
  struct winsize size;
  if ((value = after(text, "signal="))) {
    ulong signal = number(&value);
    if (!*value && signal <= LAST_SIGNAL) send_signal(process, (long)signal);
  } else if ((value = after(text, "size=")) && read_size(value, &size) && process->input.waiter.fd >= 0) {
    set_terminal_size(process->input.waiter.fd, &size);
  }
}

static void keep_arguments(struct process *process) {
  for (char **at = command.arguments; *at; at++) {
    const char *text = **at ? *at : "''"; /* an empty string ends a record */
    ulong size = length(text) + 1;
    if (size > KEPT_ARGUMENTS - process->argument_bytes) return;
    memcpy(process->arguments + process->argument_bytes, text, size);
    process->argument_bytes += size;
  }
}

static void reply_started(struct process *process, const char *const *more, int last) {
  char id[24], pid[24];
  const char *parts[9] = {"id=", decimal_long(process->id, id), "pid=", decimal_long((ulong)process->pid, pid)};
  for (int i = 0; more && more[i]; i++) parts[4 + i] = more[i];
  reply(process->session, parts, last);
}

static long start(struct process *process, struct request *request, const char **what) {
  long rows = number_option(request, "rows", MAX_TERMINAL_SIDE, 0);
  long columns = number_option(request, "cols", MAX_TERMINAL_SIDE, 0);
  long terminal = number_option(request, "tty", 1, 0);
  if (rows < 0 || columns < 0 || terminal < 0) {
    *what = "terminal";
    return -EINVAL;
  }
  long error = read_command(&command, request, what);
  if (error < 0) return error;
  command.terminal = (int)terminal;
  process->output_count = terminal ? 1 : OUTPUTS;
  const struct winsize size = {(unsigned short)rows, (unsigned short)columns, 0, 0};
  *what = terminal ? "terminal" : "streams";
  error = open_streams(process, &command, &size, number_option(request, "input", 1, 1) == 1);
  if (error < 0) return error;
  keep_arguments(process);
  SYS2(clock_gettime, CLOCK_OF_DAY, &process->started);
  process->kills = memory_kills();
  return start_command(&command, what);
}

static long begin_exec(struct session *session, struct request *request, const char **what) {
  *what = "processes";
  forget_oldest();
  if (count >= MAX_PROCESSES) return -EAGAIN;
  struct process *process = allocate(sizeof *process);
  if (!process) return -ENOMEM;
  for (int i = 0; i < OUTPUTS; i++) process->outputs[i].waiter.fd = -1;
  process->input.waiter.fd = -1;
  memset(&command, 0, sizeof command);
  for (int i = 0; i < 3; i++) command.streams[i] = -1;
  command.descriptors = descriptors;
  long pid = start(process, request, what);
  free_command(&command);
  if (pid < 0) {
    close_streams(process);
    release(process, sizeof *process);
    return pid;
  }
  process->pid = (int)pid;
  process->id = ++last_id;
  *processes_end = process;
  processes_end = &process->next;
  count++;
  process->session = session;
  session->own = process;
  watch_outputs(process);
  reply_started(process, 0, number_option(request, "detached", 1, 0) == 1);
  return 0;
}

static long begin_attach(struct session *session, struct request *request, const char **what) {
  struct process *process = find_option(request, what);
  if (!process) return -ESRCH;
  if (process->session) finish_session(process->session, EALREADY, "attach");
  adopt_input(process);
  process->session = session;
  session->own = process;
  char first[24], second[24];
  const char *const dropped[] = {"dropped1=", decimal_long(process->outputs[0].dropped, first),
                                 "dropped2=", decimal_long(process->outputs[1].dropped, second), 0};
  for (int i = 0; i < OUTPUTS; i++) process->outputs[i].dropped = 0;
  reply_started(process, dropped, 0);
  resume_streams(process);
  return 0;
}

/* --- the others --------------------------------------------------------------------------------------------------- */

static long begin_signal(struct session *session, struct request *request, const char **what) {
  struct process *process = find_option(request, what);
  if (!process) return -ESRCH;
  *what = "signal";
  long signal = number_option(request, "signal", LAST_SIGNAL, -EINVAL);
  if (signal < 0) return -EINVAL;
  long error = send_signal(process, signal);
  if (error >= 0) finish_session(session, 0, 0);
  return error;
}

static long begin_forget(struct session *session, struct request *request, const char **what) {
  struct process *process = find_option(request, what);
  if (!process) return -ESRCH;
  if (!process->ended || process->session) return -EBUSY;
  forget(process);
  finish_session(session, 0, 0);
  return 0;
}

static char *append(char *to, const char *text) {
  ulong size = length(text) + 1;
  memcpy(to, text, size);
  return to + size;
}

/* Nanoseconds have nine digits. */
static void write_time(const struct __kernel_timespec *time, char text[48]) {
  char digits[24];
  char *at = append(text, decimal_long((ulong)time->tv_sec, digits)) - 1;
  /* 1 before them, so that there are ten. */
  decimal_long(1000000000ul + (ulong)time->tv_nsec, digits);
  append(at, digits + 23 - 10);
  *at = '.';
}

static ulong write_record(const struct process *process, char *record) {
  char digits[24], text[48];
  char *at = append(record, decimal_long(process->id, digits));
  at = append(at, decimal_long((ulong)process->pid, digits));
  int signal = process->status & 0x7f;
  at = append(at, !process->ended ? "running" : signal ? "signal=" : "exited=");
  if (process->ended) at = append(at - 1, decimal_long((ulong)(signal ? signal : process->status >> 8 & 0xff), digits));
  write_time(&process->started, text);
  at = append(at, text);
  memcpy(at, process->arguments, process->argument_bytes);
  at += process->argument_bytes;
  *at++ = 0;
  return (ulong)(at - record);
}

/* `own` is the number of the last one told: others may come and go meanwhile. */
static void processes_room(struct session *session, int stream) {
  static char record[MAX_RECORD];
  for (struct process *process = processes; process; process = process->next) {
    if (process->id <= (ulong)session->own) continue;
    if (room_of(session, stream) < MAX_RECORD) return;
    send_data(session, stream, record, write_record(process, record));
    session->own = (void *)(ulong)process->id;
  }
  send_end(session, stream);
  finish_session(session, 0, 0);
}

static long begin_processes(struct session *session, struct request *request, const char **what) {
  (void)request, (void)what;
  processes_room(session, STREAM_OUT);
  return 0;
}

/* --- beginning ---------------------------------------------------------------------------------------------------- */

void prepare_processes(ulong most) {
  SYS4(prlimit64, 0, RLIMIT_NOFILE, 0, &descriptors);
  struct rlimit64 raised = {most, most};
  if (descriptors.rlim_max > most) raised.rlim_max = descriptors.rlim_max;
  if (SYS4(prlimit64, 0, RLIMIT_NOFILE, &raised, 0) >= 0) return;
  raised.rlim_cur = raised.rlim_max = descriptors.rlim_max;
  SYS4(prlimit64, 0, RLIMIT_NOFILE, &raised, 0);
}

#define STREAMED .data = process_data, .end = process_end, .room = process_room, .control = process_control, .closed = process_closed

const struct operation process_operations[] = {
    {.name = "exec",
     .options = "cwd makecwd uid gid groups env tty rows cols rlimit detached input",
     .operands = -1,
     .begin = begin_exec,
     STREAMED},
    {.name = "attach", .options = "id", .begin = begin_attach, STREAMED},
    {.name = "signal", .options = "id signal", .begin = begin_signal},
    {.name = "forget", .options = "id", .begin = begin_forget},
    {.name = "facts", .begin = begin_facts},
    {.name = "processes", .begin = begin_processes, .room = processes_room},
    {0},
};
