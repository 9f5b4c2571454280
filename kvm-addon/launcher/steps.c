// Reads the plan, looks whether it is one, and runs its steps.
#include "launcher.h"

#define EMPTY (-4096L) // no result and no errno

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

// Whether a list of `size` bytes each lies in the plan, where such things may begin.
static int lies_within(const struct plan *plan, const struct list *list, uint64_t size) {
  return list->offset % 8 == 0 && list->offset >= sizeof *plan && list->offset <= plan->size &&
         list->count <= (plan->size - list->offset) / size;
}

static int is_sound_step(const struct plan *plan, const struct step *step) {
  for (int i = 0; i < 6; i++) {
    uint64_t value = step->values[i];
    switch (step->arguments[i]) {
      case ARGUMENT_NUMBER:
        break;
      case ARGUMENT_DATA:
        if (value < sizeof *plan || value >= plan->size) return 0;
        break;
      case ARGUMENT_SLOT:
        if (value >= SLOTS) return 0;
        break;
      default:
        return 0;
    }
  }
  // The kernel is told how long its structures are; a path and a list of them are ours to read.
  return step->number != STEP_PATH ||
         (step->arguments[0] == ARGUMENT_SLOT && step->arguments[1] == ARGUMENT_DATA &&
          step->arguments[2] == ARGUMENT_NUMBER && (step->values[4] == 0 || step->arguments[4] == ARGUMENT_DATA));
}

static int is_sound(const struct plan *plan) {
  const struct list *lists[] = {&plan->host, &plan->init, &plan->command, &plan->keeper,
                                &plan->cleanup, &plan->agent, &plan->launcher};
  uint64_t data = sizeof *plan; // where the steps have ended
  for (int i = 0; i < 7; i++) {
    if (!lies_within(plan, lists[i], sizeof(struct step))) return 0;
    const struct step *steps = (const void *)((const char *)plan + lists[i]->offset);
    for (uint32_t j = 0; j < lists[i]->count; j++) {
      if (!is_sound_step(plan, &steps[j])) return 0;
    }
    uint64_t end = lists[i]->offset + (uint64_t)lists[i]->count * sizeof(struct step);
    if (end > data) data = end;
  }
  if (!lies_within(plan, &plan->relocations, 8) || (plan->terminal && plan->pts >= SLOTS)) return 0;
  const uint32_t(*pairs)[2] = (const void *)((const char *)plan + plan->relocations.offset);
  for (uint32_t i = 0; i < plan->relocations.count; i++) {
    if (pairs[i][0] % 8 != 0 || pairs[i][0] < data || pairs[i][0] + 8ull > plan->relocations.offset) return 0;
    if (pairs[i][1] < sizeof *plan || pairs[i][1] >= plan->size) return 0;
  }
  return 1;
}

struct plan *read_plan(void) {
  for (int i = 0; i < SLOTS; i++) slots[i] = EMPTY;
  struct plan head;
  read_whole((char *)&head, sizeof head);
  if (head.magic != PLAN_MAGIC || head.size < sizeof head || head.size > PLAN_MAX_BYTES) {
    fail(LIST_NONE, OWN_PLAN, -EINVAL);
  }
  const long PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS = 0x22;
  // With zeros behind it, so that every string in it ends.
  long at = sys6(__NR_mmap, 0, head.size + 2, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (at < 0) fail(LIST_NONE, OWN_PLAN, at);
  struct plan *plan = (struct plan *)at;
  *plan = head;
  read_whole((char *)plan + sizeof head, head.size - sizeof head);
  if (!is_sound(plan)) fail(LIST_NONE, OWN_PLAN, -EINVAL);
  const uint32_t(*pairs)[2] = (const void *)((char *)plan + plan->relocations.offset);
  for (uint32_t i = 0; i < plan->relocations.count; i++) {
    *(uint64_t *)((char *)plan + pairs[i][0]) = (uint64_t)((char *)plan + pairs[i][1]);
  }
  return plan;
}

long slot_value(uint32_t index) { return slots[index]; }

static long argument(const struct plan *plan, const struct step *step, int i) {
  switch (step->arguments[i]) {
    case ARGUMENT_DATA:
      return (long)((const char *)plan + step->values[i]);
    case ARGUMENT_SLOT:
      return slots[step->values[i]];
    default:
      return (long)step->values[i];
  }
}

static int has_empty_slot(const struct step *step) {
  for (int i = 0; i < 6; i++) {
    if (step->arguments[i] == ARGUMENT_SLOT && slots[step->values[i]] == EMPTY) return 1;
  }
  return 0;
}

static long run_step(const struct plan *plan, const struct step *step) {
  long values[6];
  for (int i = 0; i < 6; i++) values[i] = argument(plan, step, i);
  if (step->number == STEP_PATH) {
    struct path_rules rules = {(uint64_t)values[2], (int)values[3], (const char *)values[4]};
    return path_below((int)values[0], (const char *)values[1], &rules);
  }
  return sys6(step->number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

long run_steps(const struct plan *plan, const struct list *list, uint32_t *failed) {
  const struct step *steps = (const void *)((const char *)plan + list->offset);
  for (uint32_t i = 0; i < list->count; i++) {
    const struct step *step = &steps[i];
    long result = has_empty_slot(step) ? EMPTY : run_step(plan, step);
    if (result < 0 && result > EMPTY) {
      if (-result != step->ignored[0] && -result != step->ignored[1]) {
        *failed = i;
        return result;
      }
      result = EMPTY;
    }
    if (step->slot < SLOTS) slots[step->slot] = result;
  }
  return 0;
}
