/* Prints the frequency of this CPU's time stamp counter in kHz, which the kernel knows and does not tell. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct sample { uint64_t tsc, ns, width; };

/* The counter at a time: of many readings the one between whose ends the counter advanced least. */
static struct sample now(void) {
  struct sample best = {0, 0, UINT64_MAX};
  for (int i = 0; i < 200; i++) {
    struct timespec t;
    uint64_t before = __rdtsc();
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    uint64_t after = __rdtsc();
    if (after - before < best.width)
      best = (struct sample){before + (after - before) / 2, t.tv_sec * 1000000000ull + t.tv_nsec, after - before};
  }
  return best;
}

int main(void) {
  struct sample a = now();
  nanosleep(&(struct timespec){0, 50000000}, NULL);
  struct sample b = now();
  printf("%.0f\n", (double)(b.tsc - a.tsc) * 1e6 / (double)(b.ns - a.ns));
}
