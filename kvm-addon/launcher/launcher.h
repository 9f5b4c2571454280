#pragma once

#include "plan.h"
#include "sys.h"

// main.c
void report(uint32_t kind, uint32_t list, uint32_t step, uint32_t value);
_Noreturn void fail(uint32_t list, uint32_t step, long error);
_Noreturn void leave(int status);

// steps.c
struct plan *read_plan(void);
// Runs a list's steps in order. Returns 0, or the negative errno of the step that failed, which is then in *failed.
long run_steps(const struct plan *plan, const struct list *list, uint32_t *failed);

// terminal.c
int send_terminal(int socket, int window_of, const struct plan *plan); // the slave's descriptor, or a negative errno
int receive_terminal(int socket);
void set_window(int terminal, int window_of, const struct plan *plan);
long take_terminal(int slave); // as this process's controlling terminal and standard streams

// init.c
_Noreturn void be_init(const struct plan *plan, int socket);

// One of <sys/wait.h>'s statuses as a shell's: the exit code, or 128 + the signal.
static inline int shell_status(uint32_t status) {
  return (status & 0x7f) == 0 ? (int)(status >> 8 & 0xff) : 128 + (int)(status & 0x7f);
}
