// System calls on an open file, on threads of the object's own.
#pragma once

#include <napi.h>

#include "io_threads.h"

class DiskIo : public Napi::ObjectWrap<DiskIo> {
 public:
  static Napi::Function Define(Napi::Env env);
  // openDiskIo(fd, threads, onDone)
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit DiskIo(const Napi::CallbackInfo& info);

 private:
  struct Opened {
    int fd;
    size_t threads;
    Napi::Function on_done;
  };

  Napi::Value TryRead(const Napi::CallbackInfo& info);
  void Submit(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  const int fd_;
  IoThreads threads_;
};
