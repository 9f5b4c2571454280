/*
 * Bytes of commands: an output goes to the session that reads it as far as that has room, and waits in its pipe otherwise; without a session
 * the last of it is kept.
 */
#include "process.h"

enum { PIECE_BYTES = MAX_PAYLOAD_BYTES };

static char piece[PIECE_BYTES];

static void close_waiter(struct waiter *waiter) {
  if (waiter->fd < 0) return;
  stop_watching(waiter);
  SYS1(close, waiter->fd);
  waiter->fd = -1;
}

static int is_terminal(const struct process *process) {
  return process->output_count < OUTPUTS;
}

/* --- input -------------------------------------------------------------------------------------------------------- */

static void close_input(struct input *input) {
  close_waiter(&input->waiter);
  ring_clear(&input->queue);
}

/* Writes what it can: what went, or an error. */
static long put(struct input *input, const char *bytes, ulong size) {
  long sent = SYS3(write, input->waiter.fd, bytes, size);
  return sent == -EAGAIN || sent == -EINTR ? 0 : sent;
}

static void done_with(struct process *process, ulong size) {
  ulong older = size < process->input.older ? size : process->input.older;
  process->input.older -= older;
  if (process->session) consumed(process->session, size - older);
}

/* The input of a terminal does not end; who reads it is told so. */
static void finish_input(struct process *process) {
  if (!is_terminal(process)) return close_input(&process->input);
  char end = end_character(process->input.waiter.fd);
  if (end) put(&process->input, &end, 1);
  process->input.ended = 0;
}

static void input_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  struct input *input = (struct input *)waiter; /* its first member */
  struct process *process = input->process;
  while (input->queue.used) {
    const char *bytes;
    ulong size = ring_front(&input->queue, &bytes);
    long sent = put(input, bytes, size);
    if (sent == 0) return;
    if (sent < 0) { /* nobody reads it any more */
      sent = (long)input->queue.used;
      close_input(input);
      done_with(process, (ulong)sent);
      return;
    }
    ring_drop(&input->queue, (ulong)sent);
    done_with(process, (ulong)sent);
  }
  ring_clear(&input->queue);
  watch_for(waiter, 0);
  if (input->ended) finish_input(process);
}

void write_input(struct process *process, const char *bytes, ulong size) {
  struct input *input = &process->input;
  ulong sent = 0;
  int open = input->waiter.fd >= 0 && !input->ended;
  if (open && !input->queue.used) {
    long result = put(input, bytes, size);
    open = result >= 0;
    if (!open) close_input(input);
    else sent = (ulong)result;
  }
  if (open && sent < size && ring_put(&input->queue, bytes + sent, size - sent) >= 0)
    watch_for(&input->waiter, EPOLLOUT);
  else
    sent = size;
  done_with(process, sent);
}

/* The queue has room for two windows; a third session in a row finds what the first two sent dropped. */
void adopt_input(struct process *process) {
  struct input *input = &process->input;
  if (input->queue.used > WINDOW_BYTES) {
    ring_clear(&input->queue);
    if (input->waiter.fd >= 0) watch_for(&input->waiter, 0);
  }
  input->older = input->queue.used;
}

void end_input(struct process *process) {
  if (process->input.waiter.fd < 0) return;
  process->input.ended = 1;
  if (!process->input.queue.used) finish_input(process);
}

/* --- output ------------------------------------------------------------------------------------------------------- */

static void keep(struct output *output, const char *bytes, ulong size) {
  struct ring *kept = &output->kept;
  ulong excess = kept->used + size > KEPT_BYTES ? kept->used + size - KEPT_BYTES : 0;
  if (excess) ring_drop(kept, excess);
  output->dropped += ring_put(kept, bytes, size) < 0 ? size : excess;
}

/* Whether nothing is kept any more. */
static int send_kept(struct output *output) {
  while (output->kept.used) {
    const char *bytes;
    ulong size = ring_front(&output->kept, &bytes);
    ulong sent = send_data(output->process->session, output->stream, bytes, size);
    ring_drop(&output->kept, sent);
    if (sent < size) return 0;
  }
  ring_clear(&output->kept);
  return 1;
}

static void output_ready(struct waiter *waiter, unsigned events) {
  (void)events;
  read_output((struct output *)waiter); /* its first member */
}

/* Reads once; whether there may be more at once. */
static int read_some(struct output *output) {
  struct process *process = output->process;
  ulong size = process->session ? room_of(process->session, output->stream) : PIECE_BYTES;
  if (!size) {
    watch_for(&output->waiter, 0);
    return 0;
  }
  if (size > PIECE_BYTES) size = PIECE_BYTES;
  if (process->ended && size > output->left) size = output->left;
  ssize got = size ? SYS3(read, output->waiter.fd, piece, size) : 0;
  if (got == -EINTR) return 1;
  if (got == -EAGAIN && !process->ended) {
    watch_for(&output->waiter, EPOLLIN);
    return 0;
  }
  if (got <= 0) {
    close_waiter(&output->waiter);
    return 0;
  }
  if (process->session) send_data(process->session, output->stream, piece, (ulong)got);
  else keep(output, piece, (ulong)got);
  output->left -= process->ended ? (ulong)got : 0;
  if (!process->ended) watch_for(&output->waiter, EPOLLIN);
  return process->ended != 0;
}

void read_output(struct output *output) {
  struct process *process = output->process;
  if (process->session && !send_kept(output)) {
    if (output->waiter.fd >= 0) watch_for(&output->waiter, 0);
    return;
  }
  while (output->waiter.fd >= 0 && read_some(output)) {}
  if (output->waiter.fd >= 0) return;
  if (process->session) send_end(process->session, output->stream);
  conclude(process);
}

void watch_outputs(struct process *process) {
  for (int i = 0; i < process->output_count; i++) watch_for(&process->outputs[i].waiter, EPOLLIN);
}

void resume_streams(struct process *process) {
  for (int i = 0; i < process->output_count; i++) read_output(&process->outputs[i]);
}

void finish_streams(struct process *process) {
  close_input(&process->input);
  for (int i = 0; i < process->output_count; i++) {
    struct output *output = &process->outputs[i];
    int left = 0;
    if (is_terminal(process)) left = KEPT_BYTES; /* it has been hung up: what is read is what was written */
    else if (output->waiter.fd >= 0) SYS3(ioctl, output->waiter.fd, FIONREAD, &left);
    output->left = (ulong)left;
  }
  resume_streams(process);
}

int streams_are_done(const struct process *process) {
  for (int i = 0; i < process->output_count; i++)
    if (process->outputs[i].waiter.fd >= 0 || process->outputs[i].kept.used) return 0;
  return 1;
}

void close_streams(struct process *process) {
  close_input(&process->input);
  for (int i = 0; i < process->output_count; i++) {
    close_waiter(&process->outputs[i].waiter);
    ring_clear(&process->outputs[i].kept);
  }
}

/* --- making ------------------------------------------------------------------------------------------------------- */

static long make_pipe(int *reads, int *writes) {
  int ends[2];
  long error = SYS2(pipe2, ends, O_CLOEXEC);
  if (error < 0) return error;
  *reads = ends[0];
  *writes = ends[1];
  return 0;
}

static long open_pipes(struct process *process, struct command *command, int has_input) {
  long error = make_pipe(&command->streams[0], &process->input.waiter.fd);
  if (error >= 0) error = make_pipe(&process->outputs[0].waiter.fd, &command->streams[1]);
  if (error >= 0) error = make_pipe(&process->outputs[1].waiter.fd, &command->streams[2]);
  if (error < 0) return error;
  if (!has_input) close_input(&process->input);
  else SYS3(fcntl, process->input.waiter.fd, F_SETFL, O_WRONLY | O_NONBLOCK);
  for (int i = 0; i < process->output_count; i++) SYS3(fcntl, process->outputs[i].waiter.fd, F_SETFL, O_RDONLY | O_NONBLOCK);
  return 0;
}

long open_streams(struct process *process, struct command *command, const struct winsize *size, int has_input) {
  process->input = (struct input){.waiter = {input_ready, -1, 0}, .process = process, .queue = {.size = 2 * WINDOW_BYTES}};
  for (int i = 0; i < OUTPUTS; i++) {
    process->outputs[i] = (struct output){
        .waiter = {output_ready, -1, 0}, .process = process, .stream = STREAM_OUT + i, .kept = {.size = KEPT_BYTES}};
  }
  if (!is_terminal(process)) return open_pipes(process, command, has_input);
  int ends[2];
  long error = open_terminal(ends, size);
  if (error < 0) return error;
  process->outputs[0].waiter.fd = ends[0];
  command->streams[0] = ends[1];
  /* A second descriptor: epoll knows each only once. */
  long input = SYS3(fcntl, ends[0], F_DUPFD_CLOEXEC, 0);
  process->input.waiter.fd = (int)input;
  return input < 0 ? input : 0;
}
