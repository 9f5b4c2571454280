// A virtual machine: memory slots, interrupt controllers, eventfds.
#pragma once

#include <napi.h>

#include <map>
#include <memory>
#include <vector>

#include "event_hub.h"
#include "fast_registers.h"
#include "fd.h"
#include "mapping.h"
#include "stream_delivery.h"

class Vcpu;

// What a VM and its vCPUs share. JavaScript thread only, but for what vCPU threads are handed by Vcpu.
class VmState final : private EnvironmentBound {
 public:
  VmState(std::shared_ptr<EventHub> the_hub, Fd vm_fd, size_t page_bytes);
  VmState(const VmState&) = delete;
  VmState& operator=(const VmState&) = delete;
  ~VmState() { Close(); }

  // Joins the threads, closes the vCPUs and the VM. Calls nothing in JavaScript.
  void Close();
  bool AnyRunning() const;

  const std::shared_ptr<EventHub> hub;
  const size_t run_page_bytes;
  Fd fd;
  Fd stats;
  // SAFETY: KVM maps these pages into the guest by their host address, and keeps no reference of its own: the mapping must
  // outlive every vCPU thread. Close() joins them before it lets go.
  std::map<uint32_t, std::shared_ptr<Mapping>> slots;
  std::vector<Vcpu*> vcpus;  // each removes itself
  FastRegisters fast_registers;
  StreamDelivery streams;

 private:
  void OnEnvironmentExit() override { Close(); }
};

class Vm : public Napi::ObjectWrap<Vm> {
 public:
  struct Opened {
    Fd fd;
    size_t run_page_bytes;
  };
  static Napi::Function Define(Napi::Env env);

  explicit Vm(const Napi::CallbackInfo& info);

 private:
  Napi::Value CheckExtension(const Napi::CallbackInfo& info);
  void SetTssAddr(const Napi::CallbackInfo& info);
  void SetIdentityMapAddr(const Napi::CallbackInfo& info);
  void CreateIrqchip(const Napi::CallbackInfo& info);
  void CreatePit2(const Napi::CallbackInfo& info);
  void SetMemorySlot(const Napi::CallbackInfo& info);
  Napi::Value CreateVcpu(const Napi::CallbackInfo& info);
  Napi::Value GetStruct(const Napi::CallbackInfo& info);
  void SetStruct(const Napi::CallbackInfo& info);
  void IrqLine(const Napi::CallbackInfo& info);
  void Irqfd(const Napi::CallbackInfo& info);
  void Ioeventfd(const Napi::CallbackInfo& info);
  void SetFastRegisters(const Napi::CallbackInfo& info);
  void OnStream(const Napi::CallbackInfo& info);
  Napi::Value ReadStats(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  int fd() const { return state_->fd.get(); }

  std::shared_ptr<VmState> state_;
};
