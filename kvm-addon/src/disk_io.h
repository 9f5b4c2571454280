// System calls on an open file, on threads of the object's own: what a slow disk keeps waiting waits here, and not in libuv's
// pool, where every other file is.
#pragma once

#include <napi.h>

#include <memory>

#include "event_hub.h"

class DiskIo : public Napi::ObjectWrap<DiskIo>, Postable, EnvironmentBound {
 public:
  static Napi::Function Define(Napi::Env env);
  // openDiskIo(fd, threads, onDone)
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit DiskIo(const Napi::CallbackInfo& info);
  ~DiskIo() override;

 private:
  struct Request;
  struct Threads;
  struct Opened {
    int fd;
    size_t threads;
    Napi::Function on_done;
  };

  Napi::Value TryRead(const Napi::CallbackInfo& info);
  void Submit(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  // Nothing is in flight any more.
  void Rest();
  void OnPosted() override;
  void OnEnvironmentExit() override;

  std::shared_ptr<EventHub> hub_;
  std::shared_ptr<Threads> threads_;
  Napi::FunctionReference on_done_;
  size_t in_flight_ = 0;
};
