// What the launcher is told to do: one message, made by src/container/plan.ts, which mirrors these structures.
#pragma once

#include <stdint.h>

#define PLAN_MAGIC 0x31504354u // "TCP1"
#define PLAN_MAX_BYTES (16u << 20)
#define SLOTS 256
// Number of a step that is no system call but path_below() of launcher.h; its arguments are a slot, a path, and struct path_rules' members.
#define STEP_PATH 0xffff0001u

// An argument of a step is a number, the address of bytes of the plan, or what an earlier step returned.
enum argument { ARGUMENT_NUMBER = 0, ARGUMENT_DATA = 1, ARGUMENT_SLOT = 2 };

// One system call.
struct step {
  uint32_t number;
  uint16_t slot;          // where its result is kept; SLOTS and more: nowhere
  uint16_t ignored[2];    // errors that are no failure: the slot stays empty, and steps that have it for an argument are left out
  uint8_t arguments[6];   // enum argument
  uint64_t values[6];
};

struct list {
  uint32_t offset; // of the first step in the plan
  uint32_t count;
};

struct plan {
  uint32_t magic;
  uint32_t size;               // of the whole message
  uint64_t clone_flags;        // CLONE_NEW*
  uint16_t terminal;           // 1: the command gets a pseudoterminal, whose other end is the launcher's stdin and stdout
  uint16_t pts;                // slot of process 1's that has the file system which terminals are made in
  uint16_t rows, columns;      // of it, where stdin is no terminal
  struct list host;            // what the launcher does before it clones, with the caller's privileges
  struct list init;            // what process 1 does before it starts the command
  struct list command;         // what the command's process does; the last step is its execve
  struct list keeper;          // what process 1 does once the command's process is there: it gives up what it does not need
  struct list cleanup;         // what the launcher does at the end if nobody is left who would
  struct list agent;           // what a process beside the command's does; the last step is its execveat. Empty: there is none
  struct list launcher;        // what the launcher does once process 1 is there
  struct list relocations;     // pairs of 32-bit offsets: at the first, put the address of the second
};

// What the launcher says, on REPORT_FD.
enum report_kind {
  REPORT_CREATED = 1, // value: the process id of process 1, which now waits for a byte on CONTROL_FD
  REPORT_FAILED = 2,  // list, step and errno of what failed
  REPORT_RUNNING = 3, // the command was executed
  REPORT_EXITED = 4,  // value: the command's status as wait4 has it
  REPORT_LOST = 5,    // value: errno of a file that takes no more of the command's output
};

enum report_list { LIST_NONE = 0, LIST_HOST = 1, LIST_INIT = 2, LIST_COMMAND = 3, LIST_KEEPER = 4, LIST_AGENT = 5, LIST_LAUNCHER = 6 };

// The launcher's own steps, of LIST_NONE.
enum own_step { OWN_PLAN, OWN_SIGNALS, OWN_SOCKETS, OWN_CLONE, OWN_SEAL, OWN_STREAMS };

struct report {
  uint32_t kind;
  uint32_t list;
  uint32_t step;
  uint32_t value;
};

#define CONTROL_FD 3 // the plan, then one byte when process 1 may go on; its end: whoever asked for this is gone
#define REPORT_FD 4

_Static_assert(sizeof(struct step) == 64 && sizeof(struct plan) == 88, "src/container/plan.ts writes these");
