#include "lost_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>

namespace {

constexpr size_t kMaxWatched = 4096;
constexpr uintptr_t kPageBytes = 4096;

struct Watched {
  std::atomic<uintptr_t> start{0};
  std::atomic<uintptr_t> end{0};  // 0: free
  std::atomic<int> event_fd{-1};
};

// A signal handler has no argument of ours: this table is the process's, as the signal is.
Watched table[kMaxWatched];
std::atomic<size_t> used{0};
std::mutex mutex;
struct sigaction previous;

void OnSigbus(int number, siginfo_t* info, void*) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (size_t i = 0; i < used.load(); i++) {
    if (address < table[i].start.load() || address >= table[i].end.load()) continue;
    void* page = reinterpret_cast<void*>(address & ~(kPageBytes - 1));
    if (::mmap(page, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(table[i].event_fd.load(), &one, sizeof one);
    errno = saved_errno;
    return;
  }
  // Not ours: the access is repeated, and ends as it would have.
  ::sigaction(number, &previous, nullptr);
}

}  // namespace

namespace lost_pages {

bool Watch(const void* start, size_t size, int event_fd) {
  std::lock_guard lock(mutex);
  size_t i = 0;
  while (i < used.load() && table[i].end.load() != 0) i++;
  if (i == kMaxWatched) return false;
  if (used.load() == 0) {
    struct sigaction action {};
    action.sa_sigaction = OnSigbus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &previous);
  }
  table[i].event_fd.store(event_fd);
  table[i].start.store(reinterpret_cast<uintptr_t>(start));
  table[i].end.store(reinterpret_cast<uintptr_t>(start) + size);
  if (i == used.load()) used.store(i + 1);
  return true;
}

void Forget(const void* start, size_t size) {
  const auto from = reinterpret_cast<uintptr_t>(start);
  std::lock_guard lock(mutex);
  for (size_t i = 0; i < used.load(); i++) {
    if (table[i].start.load() >= from && table[i].end.load() <= from + size) table[i].end.store(0);
  }
}

}  // namespace lost_pages
