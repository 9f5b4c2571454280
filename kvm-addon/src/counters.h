// Counts kept by one vCPU thread and read by JavaScript as doubles.
#pragma once

#include <atomic>

struct Counters {
  static constexpr int kRuns = 0;
  static constexpr int kPosted = 1;
  static constexpr int kLoads = 2;
  static constexpr int kClearBits = 3;
  static constexpr int kStreamed = 4;
  static constexpr int kInterrupted = 5;
  static constexpr int kThreadId = 6; // no count: what gettid(2) says of the thread
  static constexpr int kReasons = 8;
  static constexpr int kReasonCount = 40;
  static constexpr int kCount = kReasons + kReasonCount;

  // SAFETY: owned by whoever holds the shared_ptr: the vCPU and its ArrayBuffer. Written by the vCPU's thread only, read by
  // JavaScript without a lock: an aligned double is written whole.
  alignas(64) double values[kCount] = {};

  void Set(int index, double to) {
    std::atomic_ref<double>(values[index]).store(to, std::memory_order_relaxed);
  }

  void Add(int index) {
    std::atomic_ref<double> value(values[index]);
    value.store(value.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};
