// A virtual CPU: its state, its run page, its thread.
#pragma once

#include <napi.h>

#include <memory>

#include "counters.h"
#include "event_hub.h"
#include "fd.h"
#include "mapping.h"
#include "vcpu_thread.h"
#include "vm.h"

class Vcpu : public Napi::ObjectWrap<Vcpu>, private Postable, private VcpuThread::Listener {
 public:
  struct Opened {
    std::shared_ptr<VmState> vm;
    uint32_t id;
    Fd fd;
    std::unique_ptr<Mapping> run_page;
  };
  static Napi::Function Define(Napi::Env env);

  explicit Vcpu(const Napi::CallbackInfo& info);
  ~Vcpu() override { CloseNative(); }

  bool running() const { return running_; }
  // Joins the thread and closes. Calls nothing in JavaScript.
  void CloseNative();
  // Also takes the run page from JavaScript. While it is mapped the vCPU and its VM stay in the kernel.
  std::unique_ptr<Mapping> CloseAndDetach();

 private:
  void OnExit() override { vm_->hub->Post(this); }
  void OnStream(bool half_full) override { vm_->streams.OnBytes(half_full); }
  void OnPosted() override;

  Napi::Value Id(const Napi::CallbackInfo& info);
  Napi::Value RunPage(const Napi::CallbackInfo& info);
  Napi::Value CountersArray(const Napi::CallbackInfo& info);
  Napi::Value Running(const Napi::CallbackInfo& info);
  void SetOnExit(const Napi::CallbackInfo& info);
  void Run(const Napi::CallbackInfo& info);
  void Kick(const Napi::CallbackInfo& info);
  Napi::Value GetStruct(const Napi::CallbackInfo& info);
  void SetStruct(const Napi::CallbackInfo& info);
  Napi::Value GetCpuid(const Napi::CallbackInfo& info);
  void SetCpuid(const Napi::CallbackInfo& info);
  Napi::Value GetMsrs(const Napi::CallbackInfo& info);
  Napi::Value SetMsrs(const Napi::CallbackInfo& info);
  void SetGuestDebug(const Napi::CallbackInfo& info);
  Napi::Value Translate(const Napi::CallbackInfo& info);
  Napi::Value KvmclockCtrl(const Napi::CallbackInfo& info);
  Napi::Value ReadStats(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo&) { CloseAndDetach().reset(); }

  // KVM's lock on a vCPU is held for as long as it runs: an ioctl would block this thread. Returns the descriptor.
  int StoppedFd(Napi::Env env, const char* syscall) const;
  void SetRunning(bool running);
  Napi::ArrayBuffer RunPageBuffer();

  std::shared_ptr<VmState> vm_;
  uint32_t id_;
  Fd fd_;
  Fd stats_;
  // SAFETY: struct kvm_run, mapped from the vCPU; while running() the thread and KVM write it, otherwise JavaScript, through
  // an ArrayBuffer that is detached before it is unmapped, or collected together with this object.
  std::unique_ptr<Mapping> run_page_;
  std::shared_ptr<Counters> counters_;
  std::unique_ptr<VcpuThread> thread_;
  Napi::Reference<Napi::TypedArray> counters_array_;
  Napi::FunctionReference on_exit_;  // weak: this object's property keeps it
  bool running_ = false;
};
