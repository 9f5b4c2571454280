// Reads the plan and runs its steps.
#include "launcher.h"

static long slots[SLOTS];

static void read_whole(char *to, size_t length) {
  while (length > 0) {
    long count = SYS3(__NR_read, CONTROL_FD, to, length);
    if (count == -EINTR) continue;
    if (count <= 0) leave(1); // nobody is there to be told
    to += count;
    length -= (size_t)count;
  }
}

struct plan *read_plan(void) {
  struct plan head;
  read_whole((char *)&head, sizeof head);
  if (head.magic != PLAN_MAGIC || head.size < sizeof head || head.size > PLAN_MAX_BYTES) leave(1);
  const long PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS = 0x22;
  long at = sys6(__NR_mmap, 0, head.size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (at < 0) fail(LIST_NONE, 0, at);
  struct plan *plan = (struct plan *)at;
  *plan = head;
  read_whole((char *)plan + sizeof head, head.size - sizeof head);
  const uint32_t(*pairs)[2] = (const void *)((char *)plan + plan->relocations.offset);
  for (uint32_t i = 0; i < plan->relocations.count; i++) {
    *(uint64_t *)((char *)plan + pairs[i][0]) = (uint64_t)((char *)plan + pairs[i][1]);
  }
  return plan;
}

static long argument(const struct plan *plan, const struct step *step, int i) {
  switch (step->arguments[i]) {
    case ARGUMENT_DATA:
      return (long)((const char *)plan + step->values[i]);
    case ARGUMENT_SLOT:
      return slots[step->values[i] % SLOTS];
    default:
      return (long)step->values[i];
  }
}

long run_steps(const struct plan *plan, const struct list *list, uint32_t *failed) {
  const struct step *steps = (const void *)((const char *)plan + list->offset);
  for (uint32_t i = 0; i < list->count; i++) {
    const struct step *step = &steps[i];
    long result = sys6(step->number, argument(plan, step, 0), argument(plan, step, 1), argument(plan, step, 2),
                       argument(plan, step, 3), argument(plan, step, 4), argument(plan, step, 5));
    if (result < 0 && result >= -4095) {
      if (-result != step->ignored[0] && -result != step->ignored[1]) {
        *failed = i;
        return result;
      }
      continue;
    }
    if (step->slot < SLOTS) slots[step->slot] = result;
  }
  return 0;
}
