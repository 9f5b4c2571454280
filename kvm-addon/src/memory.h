// Guest memory: a sealed memfd and its mapping, or a private view of another's or of files.
#pragma once

#include <napi.h>

#include <memory>

#include "fd.h"
#include "mapping.h"

class Memory : public Napi::ObjectWrap<Memory> {
 public:
  struct Opened {
    std::shared_ptr<Fd> fd;
    std::shared_ptr<Mapping> mapping;
    bool frozen;
  };
  static Napi::Function Define(Napi::Env env);
  static Napi::Value Create(const Napi::CallbackInfo& info);

  explicit Memory(const Napi::CallbackInfo& info);

  // Empty once closed.
  const std::shared_ptr<Mapping>& mapping() const { return mapping_; }

 private:
  Napi::Value SizeBytes(const Napi::CallbackInfo& info);
  Napi::Value Buffer(const Napi::CallbackInfo& info);
  void Freeze(const Napi::CallbackInfo& info);
  void MapMemory(const Napi::CallbackInfo& info);
  void MapFile(const Napi::CallbackInfo& info);
  Napi::Value DataPages(const Napi::CallbackInfo& info);
  Napi::Value Release(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  void RequireOpen(Napi::Env env, const char* syscall) const;

  // Shared by a memory and its forks.
  std::shared_ptr<Fd> fd_;
  // SAFETY: shared by this object, whose ArrayBuffer is a property, and every VM that has a slot in it; the last to go unmaps. Guest, devices
  // and host I/O write at any time: reads that can lie are copied once, in src/memory. What lies under an address may be
  // mapped anew (Freeze, MapFile), with the same contents or before anybody looks.
  std::shared_ptr<Mapping> mapping_;
  // The memfd does not change any more: this mapping and all others of it are private.
  bool frozen_ = false;
};
