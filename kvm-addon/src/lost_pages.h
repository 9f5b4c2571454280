// Files that are mapped into guest memory can be truncated by anybody. Reading a page that is gone raises SIGBUS, which
// would end the process without a word. Here such a page becomes a page of zeroes and an eventfd tells.
#pragma once

#include <cstddef>
#include <cstdint>

// SAFETY: Watch(), Forget() on the JavaScript threads, under a lock; the handler reads the table with atomics only. Whoever
// watches forgets before it unmaps or closes `event_fd`.
namespace lost_pages {

// False if the table is full.
bool Watch(const void* start, size_t size, int event_fd);
void Forget(const void* start, size_t size);

}  // namespace lost_pages
