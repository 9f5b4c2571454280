/* The agent in a process with the C library: memory is from malloc(), so that sanitizers see its bounds. */
#include "../../../guests/agent/agent.h"

void *calloc(ulong count, ulong size);
void free(void *memory);
void *memmove(void *to, const void *from, ulong size);

void *allocate(ulong size) {
  return calloc(1, size);
}

void release(void *memory, ulong size) {
  (void)size;
  free(memory);
}

void move_down(void *to, const void *from, ulong size) {
  memmove(to, from, size);
}

int main(int count, char **arguments, char **environment) {
  (void)count, (void)arguments;
  run_agent(environment);
}
