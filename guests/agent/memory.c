/* Memory by pages, and its bytes. */
#include "agent.h"

enum { PAGE_BYTES = 4096 };

void *memcpy(void *to, const void *from, ulong size) {
  void *result = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
  return result;
}

void *memset(void *to, int byte, ulong size) {
  void *result = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
  return result;
}

void move_down(void *to, const void *from, ulong size) {
  memcpy(to, from, size); /* from the lowest byte on */
}

static ulong whole_pages(ulong size) {
  return (size + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1ul);
}

void *allocate(ulong size) {
  long memory = SYS6(mmap, 0, whole_pages(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return (ulong)memory >= -(ulong)LAST_ERROR ? 0 : (void *)memory;
}

void release(void *memory, ulong size) {
  if (memory) SYS2(munmap, memory, whole_pages(size));
}
