// Guest memory: a sealed memfd and its mapping.
#pragma once

#include <napi.h>

#include <memory>

#include "fd.h"
#include "mapping.h"

class Memory : public Napi::ObjectWrap<Memory> {
 public:
  struct Opened {
    Fd fd;
    std::shared_ptr<Mapping> mapping;
  };
  static Napi::Function Define(Napi::Env env);
  static Napi::Value Create(const Napi::CallbackInfo& info);

  explicit Memory(const Napi::CallbackInfo& info);

  // Empty once closed.
  const std::shared_ptr<Mapping>& mapping() const { return mapping_; }

 private:
  Napi::Value SizeBytes(const Napi::CallbackInfo& info);
  Napi::Value Buffer(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  Fd fd_;
  // SAFETY: shared by this object, every VM that has a slot in it, and the ArrayBuffer; the last to go unmaps. Guest, devices
  // and host I/O write at any time: reads that can lie are copied once, in src/memory.
  std::shared_ptr<Mapping> mapping_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};
