/* Where the kernel begins. The stack has the number of arguments, the arguments, a 0, and the environment. */
#include "agent.h"

__attribute__((noreturn, used)) void agent_begins(ulong *stack) {
  run_agent((char **)(stack + 1 + stack[0] + 1));
}

/* The stack is aligned to 16 bytes where a process begins; a function expects it 8 below that. */
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall agent_begins\n");
