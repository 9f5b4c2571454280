// A TAP interface of the host's: Ethernet frames behind a virtio_net_hdr_v1, one a read and one a write.
#pragma once

#include <napi.h>

#include <memory>

#include "event_hub.h"
#include "fd.h"

class Tap : public Napi::ObjectWrap<Tap>, private EnvironmentBound {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit Tap(const Napi::CallbackInfo& info);
  ~Tap() override;

 private:
  struct Opened {
    Fd fd;
    int mtu;
  };

  Napi::Value Mtu(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  void SetOffloads(const Napi::CallbackInfo& info);
  void Listen(const Napi::CallbackInfo& info);
  void Mute(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void OnEnvironmentExit() override { poll_.reset(); }
  void OnReadable();

  std::shared_ptr<EventHub> hub_;
  Fd fd_;
  int mtu_;
  std::unique_ptr<UvHandle> poll_;
  Napi::FunctionReference callback_;  // weak: this object's property keeps it
};
