#pragma once

#include "plan.h"
#include "sys.h"

// As much as a pipe that is ready takes without waiting: PIPE_BUF.
#define CHUNK_BYTES 4096

// main.c
void report(uint32_t kind, uint32_t list, uint32_t step, uint32_t value);
_Noreturn void fail(uint32_t list, uint32_t step, long error);
_Noreturn void leave(int status);

// seal.c: goes on as a copy of this program that nobody can change
void seal_program(void);

// path.c
#define PATH_MAKE 1      // what is missing: directories, and a directory or a file at the end
#define PATH_DIRECTORY 2 // it must be one
#define PATH_FILE 4      // it must be none
#define PATH_NO_LINKS 8  // refuse those that are followed otherwise
#define PATH_OUTSIDE 16  // it must not be the root, nor lie in what is kept
struct path_rules {
  uint64_t flags;
  int proc;         // a /proc of this process's
  const char *kept; // paths in which nothing is made
};
// Opens a path for its descriptor (O_PATH). Returns that or a negative errno; EXDEV: it leads to what is kept.
long path_below(int root, const char *path, const struct path_rules *rules);
void put_number(char *to, unsigned number); // in digits

// relay.c
struct direction { // what goes one way between two descriptors
  int from, to;    // -1: there will be no more
  int file, pipe;  // of an input that is a file: where it is read, and the end of the command's pipe that the command has as well
  size_t held, sent;
  size_t read; // from the beginning
  char bytes[CHUNK_BYTES];
};
enum way { WAY_IN, WAY_OUT, WAY_ERROR, WAYS };
// Puts pipes in the place of standard streams that are files. The ends and the files of those are ways[]; the others are closed.
long relay_files(struct direction *ways);
void forget_files(const struct direction *ways); // in another process, which has inherited them
struct poll_fd next_of(const struct direction *way);
long move(struct direction *way); // a negative errno; 0: there will be no more
void end_of(struct direction *way);
void give_back(const struct direction *way); // what a file was read for, and nobody took

// reopen.c
int is_node(int fd); // whether a FIFO has a name
// Puts a stream in the place of itself whose node cannot be changed by way of it. A negative errno if that cannot be.
long reopen_read_only(int fd, const struct stat *facts);
// A terminal for output, where a write takes what there is room for: whether it waits is said for all who have it open. Others as they are.
int without_waiting(int terminal);

// steps.c
struct plan *read_plan(void);
long slot_value(uint32_t index); // negative: empty
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
