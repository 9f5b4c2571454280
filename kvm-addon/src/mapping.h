// An owned memory mapping, and the ArrayBuffer through which JavaScript sees it.
#pragma once

#include <napi.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "lost_pages.h"

class Mapping {
 public:
  Mapping(void* address, size_t size) : address_(address), size_(size) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (watched_) lost_pages::Forget(address_, size_);
    ::munmap(address_, size_);
  }

  uint8_t* data() const { return static_cast<uint8_t*>(address_); }
  size_t size() const { return size_; }

  // From now on a file of somebody else's lies under a part of it.
  void WatchLostPages(int event_fd) {
    if (!watched_) watched_ = lost_pages::Watch(address_, size_, event_fd);
  }

 private:
  void* address_;
  size_t size_;
  bool watched_ = false;
};

// SAFETY: the pages belong to the Mapping. The ArrayBuffer's finalizer holds one reference, so they stay mapped until the
// buffer was collected or detached, whatever else let go of them; who writes is said where the Mapping is made. At most
// one ArrayBuffer may exist for a mapping at a time, since V8 wants backing stores distinct.
template <typename Owner>
Napi::ArrayBuffer SharedArrayBuffer(Napi::Env env, const std::shared_ptr<Owner>& owner, void* data, size_t size) {
  auto* keep = new std::shared_ptr<Owner>(owner);
  return Napi::ArrayBuffer::New(
      env, data, size, [](Napi::Env, void*, std::shared_ptr<Owner>* kept) { delete kept; }, keep);
}
