// The one door from vCPU threads to the JavaScript thread, one per environment (main thread or worker).
#pragma once

#include <napi.h>

#include <initializer_list>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "uv.h"

class EventHub;

// Something a thread posts, and that is then called on the JavaScript thread.
class Postable {
 public:
  virtual void OnPosted() = 0;

 protected:
  ~Postable() = default;
};

// Something that must let go of threads and libuv handles before the environment dies.
class EnvironmentBound {
 public:
  virtual void OnEnvironmentExit() = 0;

 protected:
  ~EnvironmentBound() = default;
};

// An owned libuv handle. Its memory is freed by the loop, some time after the destructor.
class UvHandle {
 public:
  UvHandle(std::shared_ptr<EventHub> hub, int type, void* data);
  UvHandle(const UvHandle&) = delete;
  UvHandle& operator=(const UvHandle&) = delete;
  ~UvHandle();

  // To be called once the uv_*_init function succeeded: from then on the loop must close the handle.
  void Opened();
  uv_handle_s* get() const { return handle_; }

 private:
  std::shared_ptr<EventHub> hub_;
  uv_handle_s* handle_;
  bool opened_ = false;
};

class EventHub : public std::enable_shared_from_this<EventHub> {
 public:
  explicit EventHub(Napi::Env env);
  // Opens the loop's handle. Apart from the constructor, since it needs shared_from_this().
  void Open();

  // From any thread. What is posted must stay alive until it was called or forgotten.
  void Post(Postable* item);
  // On the JavaScript thread: `item` will not be called any more. Its threads must have ended.
  void Forget(Postable* item);

  // Keeps Node alive while `delta`s sum up to more than zero.
  void CountRunning(int delta);

  void Bind(EnvironmentBound* item) { bound_.insert(item); }
  void Unbind(EnvironmentBound* item) { bound_.erase(item); }
  bool closed() const { return closed_; }

  // Runs what a libuv callback has to do. Making values fails once the environment is going away (a terminated worker), and
  // then nobody is left to be told.
  template <typename Body>
  static void FromLoop(Body body) {
    try {
      body();
    } catch (const Napi::Error&) {
    }
  }

  // Calls into JavaScript from the loop; what the callback throws becomes an uncaught exception.
  static void Call(Napi::Function callback, std::initializer_list<napi_value> arguments);

  Napi::Env env() const { return env_; }
  uv_loop_s* loop() const { return loop_; }

 private:
  friend class UvHandle;
  void Drain();
  void Shutdown();
  void HandleClosed();

  Napi::Env env_;
  uv_loop_s* loop_ = nullptr;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  std::unique_ptr<UvHandle> async_;
  std::mutex mutex_;
  std::vector<Postable*> posted_;    // under mutex_
  std::vector<Postable*> draining_;  // JavaScript thread only, as everything below
  std::unordered_set<EnvironmentBound*> bound_;
  int running_ = 0;
  int open_handles_ = 0;
  bool closed_ = false;
};
