// Threads of one object's own that make system calls for it: what a slow disk or folder keeps waiting waits here, and not in
// libuv's pool, where every other file is.
#pragma once

#include <napi.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <sys/uio.h>

#include "event_hub.h"

// The result of a system call, or its errno negated; made again when a signal interrupted it.
template <typename Call>
int64_t Result(Call call) {
  for (;;) {
    const int64_t result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

// The memory of an array of Uint8Arrays. Valid as long as the buffers are where they are.
std::vector<iovec> Buffers(const Napi::Value& value);

class IoThreads : Postable, EnvironmentBound {
 public:
  // Work of a thread; returns what Result() does.
  using Call = std::function<int64_t()>;

  // `on_done(results)`: an id and a result for each call that has ended, in a Float64Array.
  IoThreads(Napi::Object owner, size_t most, Napi::Function on_done);
  ~IoThreads();

  // Throws EBADF after Close().
  void Submit(const Napi::Value& id, Call call);
  // Reads at once what is in the page cache, on the calling thread. Returns the bytes, or an errno negated; throws EBADF after Close().
  Napi::Value TryRead(int fd, const Napi::Value& buffers, const Napi::Value& offset) const;
  // No thread does anything for the object any more. What has not begun is dropped; what has is waited for.
  void Close() { OnEnvironmentExit(); }

 private:
  struct Threads;

  // Notes that nothing is in flight any more.
  void Rest();
  void OnPosted() override;
  void OnEnvironmentExit() override;

  Napi::Env env_;
  std::shared_ptr<EventHub> hub_;
  std::shared_ptr<Threads> threads_;
  // Strong while calls are in flight: who waits for a result is perhaps known to nobody but the owner.
  Napi::ObjectReference owner_;
  Napi::FunctionReference on_done_;
  size_t in_flight_ = 0;
};
