// An eventfd: what KVM signals (ioeventfd) or hears (irqfd).
#pragma once

#include <napi.h>

#include <memory>

#include "event_hub.h"
#include "fd.h"

class EventFd : public Napi::ObjectWrap<EventFd>, private EnvironmentBound {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Value Create(const Napi::CallbackInfo& info);

  explicit EventFd(const Napi::CallbackInfo& info);
  ~EventFd() override;

  int fd() const { return fd_.get(); }

 private:
  void Signal(const Napi::CallbackInfo& info);
  void Listen(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void OnEnvironmentExit() override { poll_.reset(); }
  void OnReadable();

  std::shared_ptr<EventHub> hub_;
  Fd fd_;
  std::unique_ptr<UvHandle> poll_;
  Napi::FunctionReference callback_;  // weak: this object's property keeps it
};
