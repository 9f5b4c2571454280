// Takes what 'stream' registers gathered to JavaScript: at once after a silence, in batches during a flood.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <vector>

#include "event_hub.h"
#include "fast_registers.h"

class StreamDelivery final : private Postable {
 public:
  explicit StreamDelivery(std::shared_ptr<EventHub> hub) : hub_(std::move(hub)) {}
  StreamDelivery(const StreamDelivery&) = delete;
  StreamDelivery& operator=(const StreamDelivery&) = delete;
  ~StreamDelivery() { Close(); }

  // On a vCPU's thread, after bytes were put into a ring.
  void OnBytes(bool half_full);

  // On the JavaScript thread from here on. `registers` belongs to the owner of this object.
  void Watch(Napi::Env env, const FastRegisters* registers);
  void SetCallback(Napi::Function callback) { callback_ = Napi::Weak(callback); }
  // Hands over everything that is held. True if there was something.
  bool Flush();
  // No vCPU may run any more.
  void Close();

 private:
  void OnPosted() override;
  void OnQuietTime();
  void StartQuietTime();

  std::shared_ptr<EventHub> hub_;
  const FastRegisters* registers_ = nullptr;
  // Set: JavaScript was told, or will look by itself soon. Threads need not post.
  std::atomic<bool> announced_{false};
  std::unique_ptr<UvHandle> timer_;
  std::vector<uint8_t> batch_;
  Napi::FunctionReference callback_;  // weak: the VM's property keeps it
};
