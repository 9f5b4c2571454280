/* A ring of bytes. */
#include "ring.h"

long ring_put(struct ring *ring, const char *bytes, ulong size) {
  if (!ring->bytes) ring->bytes = allocate(ring->size);
  if (!ring->bytes) return -ENOMEM;
  ulong at = ring->start + ring->used;
  if (at >= ring->size) at -= ring->size;
  ulong first = ring->size - at < size ? ring->size - at : size;
  memcpy(ring->bytes + at, bytes, first);
  memcpy(ring->bytes, bytes + first, size - first);
  ring->used += size;
  return 0;
}

ulong ring_front(const struct ring *ring, const char **bytes) {
  *bytes = ring->bytes + ring->start;
  return ring->size - ring->start < ring->used ? ring->size - ring->start : ring->used;
}

void ring_drop(struct ring *ring, ulong size) {
  ring->used -= size;
  ring->start += size;
  if (ring->start >= ring->size) ring->start -= ring->size;
  if (!ring->used) ring->start = 0; /* few bytes touch few pages */
}

void ring_clear(struct ring *ring) {
  release(ring->bytes, ring->size);
  ring->bytes = 0;
  ring->start = ring->used = 0;
}
