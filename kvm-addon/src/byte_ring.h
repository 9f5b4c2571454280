// A bounded ring of bytes between vCPU threads, which put, and the JavaScript thread, which takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <span>
#include <vector>

class ByteRing {
 public:
  explicit ByteRing(size_t capacity) : bytes_(capacity) {}

  // Puts all or nothing. Returns how many bytes are held now, or 0 if there was no room.
  size_t Put(std::span<const uint8_t> data) {
    std::lock_guard lock(mutex_);
    if (data.size() > bytes_.size() - size_) return 0;
    const size_t tail = (head_ + size_) % bytes_.size();
    const size_t first = std::min(data.size(), bytes_.size() - tail);
    std::memcpy(&bytes_[tail], data.data(), first);
    std::memcpy(bytes_.data(), data.data() + first, data.size() - first);
    size_ += data.size();
    return size_;
  }

  // Appends all that is held to `out`.
  void Take(std::vector<uint8_t>& out) {
    std::lock_guard lock(mutex_);
    const size_t first = std::min(size_, bytes_.size() - head_);
    out.insert(out.end(), bytes_.begin() + head_, bytes_.begin() + head_ + first);
    out.insert(out.end(), bytes_.begin(), bytes_.begin() + (size_ - first));
    head_ = size_ = 0;
  }

  bool Empty() {
    std::lock_guard lock(mutex_);
    return size_ == 0;
  }

  size_t capacity() const { return bytes_.size(); }

 private:
  std::mutex mutex_;
  std::vector<uint8_t> bytes_;
  size_t head_ = 0;
  size_t size_ = 0;
};
