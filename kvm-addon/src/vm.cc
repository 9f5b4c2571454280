#include "vm.h"

#include "kvm_api.h"
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"
#include "event_fd.h"
#include "memory.h"
#include "stats.h"
#include "structs.h"
#include "vcpu.h"

VmState::VmState(std::shared_ptr<EventHub> the_hub, Fd vm_fd, size_t page_bytes)
    : hub(std::move(the_hub)), run_page_bytes(page_bytes), fd(std::move(vm_fd)), streams(hub) {
  hub->Bind(this);
}

void VmState::Close() {
  if (!fd.valid()) return;
  while (!vcpus.empty()) vcpus.back()->CloseNative();
  streams.Close();
  fast_registers = FastRegisters();
  stats.reset();
  fd.reset();
  slots.clear();
  hub->Unbind(this);
}

bool VmState::AnyRunning() const {
  return std::any_of(vcpus.begin(), vcpus.end(), [](const Vcpu* vcpu) { return vcpu->running(); });
}

Napi::Function Vm::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeVm",
      {InstanceMethod<&Vm::CheckExtension>("checkExtension"), InstanceMethod<&Vm::SetTssAddr>("setTssAddr"),
       InstanceMethod<&Vm::SetIdentityMapAddr>("setIdentityMapAddr"),
       InstanceMethod<&Vm::CreateIrqchip>("createIrqchip"), InstanceMethod<&Vm::CreatePit2>("createPit2"),
       InstanceMethod<&Vm::SetMemorySlot>("setMemorySlot"), InstanceMethod<&Vm::CreateVcpu>("createVcpu"),
       InstanceMethod<&Vm::GetStruct>("getStruct"), InstanceMethod<&Vm::SetStruct>("setStruct"),
       InstanceMethod<&Vm::IrqLine>("irqLine"),
       InstanceMethod<&Vm::Irqfd>("irqfd"), InstanceMethod<&Vm::Ioeventfd>("ioeventfd"),
       InstanceMethod<&Vm::SetFastRegisters>("setFastRegisters"), InstanceMethod<&Vm::OnStream>("onStream"),
       InstanceMethod<&Vm::ReadStats>("readStats"), InstanceMethod<&Vm::Close>("close")});
}

Vm::Vm(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  auto& opened = ConstructorArgument<Opened>(info);
  state_ = std::make_shared<VmState>(AddonData::Of(info.Env()).hub, std::move(opened.fd), opened.run_page_bytes);
}

Napi::Value Vm::CheckExtension(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), IOCTL(info.Env(), fd(), KVM_CHECK_EXTENSION, Integer<uint32_t>(info[0])));
}

void Vm::SetTssAddr(const Napi::CallbackInfo& info) {
  IOCTL(info.Env(), fd(), KVM_SET_TSS_ADDR, Integer<uint32_t>(info[0]));
}

void Vm::SetIdentityMapAddr(const Napi::CallbackInfo& info) {
  const auto addr = Integer<uint64_t>(info[0]);
  IOCTL(info.Env(), fd(), KVM_SET_IDENTITY_MAP_ADDR, &addr);
}

void Vm::CreateIrqchip(const Napi::CallbackInfo& info) { IOCTL(info.Env(), fd(), KVM_CREATE_IRQCHIP, 0UL); }

void Vm::CreatePit2(const Napi::CallbackInfo& info) {
  kvm_pit_config config{};
  config.flags = Integer<uint32_t>(info[0]);
  IOCTL(info.Env(), fd(), KVM_CREATE_PIT2, &config);
}

void Vm::SetMemorySlot(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  kvm_userspace_memory_region region{};
  region.slot = Integer<uint32_t>(info[0]);
  region.flags = Integer<uint32_t>(info[1]);
  region.guest_phys_addr = Integer<uint64_t>(info[2]);
  region.memory_size = Integer<uint64_t>(info[3]);

  std::shared_ptr<Mapping> mapping;
  if (region.memory_size != 0) {
    mapping = Unwrapped<Memory>(info[4], AddonData::Of(env).memory).mapping();
    const auto offset = Integer<uint64_t>(info[5]);
    if (!mapping || offset > mapping->size() || region.memory_size > mapping->size() - offset) {
      throw Napi::RangeError::New(env, "kvm_addon: the slot is not inside the memory");
    }
    region.userspace_addr = reinterpret_cast<uint64_t>(mapping->data() + offset);
  }
  IOCTL(env, fd(), KVM_SET_USER_MEMORY_REGION, &region);
  if (mapping) {
    state_->slots[region.slot] = std::move(mapping);
  } else {
    state_->slots.erase(region.slot);
  }
}

Napi::Value Vm::CreateVcpu(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Vcpu::Opened opened;
  opened.vm = state_;
  opened.id = Integer<uint32_t>(info[0]);
  opened.fd = Fd(IOCTL(env, fd(), KVM_CREATE_VCPU, opened.id));
  void* address =
      ::mmap(nullptr, state_->run_page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, opened.fd.get(), 0);
  if (address == MAP_FAILED) throw ErrnoError(env, errno, "mmap");
  opened.run_page = std::make_unique<Mapping>(address, state_->run_page_bytes);
  const Napi::Object vcpu = Construct(AddonData::Of(env).vcpu, &opened);
  KeepAlive(vcpu, "_vm", Value());
  return vcpu;
}

namespace {

const StructIoctls& VmStruct(const Napi::Value& name) {
  const std::string wanted = name.As<Napi::String>().Utf8Value();
  for (const auto& entry : kVmStructs) {
    if (entry.name == wanted) return entry;
  }
  throw Napi::RangeError::New(name.Env(), "kvm_addon: no such structure of a VM");
}

// Of the three only this one has an argument: its first word says which chip is meant.
void SetChipId(const StructIoctls& entry, uint8_t* bytes, const Napi::Value& id) {
  if (entry.get != KVM_GET_IRQCHIP) return;
  const auto chip_id = Integer<uint32_t>(id);
  std::memcpy(bytes, &chip_id, sizeof chip_id);
}

}  // namespace

Napi::Value Vm::GetStruct(const Napi::CallbackInfo& info) {
  const StructIoctls& entry = VmStruct(info[0]);
  auto bytes = Napi::Uint8Array::New(info.Env(), entry.size);
  SetChipId(entry, bytes.Data(), info[1]);
  CheckedIoctl(info.Env(), fd(), entry.get, entry.get_name, IoctlArgument(bytes.Data()));
  return bytes;
}

void Vm::SetStruct(const Napi::CallbackInfo& info) {
  const StructIoctls& entry = VmStruct(info[0]);
  const auto bytes = Bytes(info[1]);
  if (bytes.size() != entry.size) throw Napi::RangeError::New(info.Env(), "kvm_addon: wrong size of structure");
  std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  SetChipId(entry, copy.data(), info[2]);
  CheckedIoctl(info.Env(), fd(), entry.set, entry.set_name, IoctlArgument(copy.data()));
}

void Vm::IrqLine(const Napi::CallbackInfo& info) {
  kvm_irq_level level{};
  level.irq = Integer<uint32_t>(info[0]);
  level.level = Integer<uint32_t>(info[1]);
  IOCTL(info.Env(), fd(), KVM_IRQ_LINE, &level);
}

void Vm::Irqfd(const Napi::CallbackInfo& info) {
  const auto& constructor = AddonData::Of(info.Env()).event_fd;
  kvm_irqfd argument{};
  argument.fd = static_cast<uint32_t>(Unwrapped<EventFd>(info[0], constructor).fd());
  argument.gsi = Integer<uint32_t>(info[1]);
  if (!info[2].ToBoolean()) argument.flags |= KVM_IRQFD_FLAG_DEASSIGN;
  if (!info[3].IsUndefined()) {
    argument.flags |= KVM_IRQFD_FLAG_RESAMPLE;
    argument.resamplefd = static_cast<uint32_t>(Unwrapped<EventFd>(info[3], constructor).fd());
  }
  IOCTL(info.Env(), fd(), KVM_IRQFD, &argument);
}

void Vm::Ioeventfd(const Napi::CallbackInfo& info) {
  kvm_ioeventfd argument{};
  argument.fd = Unwrapped<EventFd>(info[0], AddonData::Of(info.Env()).event_fd).fd();
  if (Integer<uint32_t>(info[1]) == 0) argument.flags |= KVM_IOEVENTFD_FLAG_PIO;
  argument.addr = Integer<uint64_t>(info[2]);
  argument.len = Integer<uint32_t>(info[3]);
  if (!info[4].IsUndefined()) {
    argument.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    argument.datamatch = Integer<uint64_t>(info[4]);
  }
  if (!info[5].ToBoolean()) argument.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
  IOCTL(info.Env(), fd(), KVM_IOEVENTFD, &argument);
}

void Vm::SetFastRegisters(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!state_->fd.valid()) throw ErrnoError(env, EBADF, "setFastRegisters");
  if (state_->AnyRunning()) throw ErrnoError(env, EBUSY, "setFastRegisters");
  if (!info[0].IsArray()) throw Napi::TypeError::New(env, "kvm_addon: not an array");
  FastRegisters next(info[0].As<Napi::Array>());
  state_->streams.Flush();
  state_->fast_registers = std::move(next);
  state_->streams.Watch(env, &state_->fast_registers);
}

void Vm::OnStream(const Napi::CallbackInfo& info) {
  const Napi::Function callback = Callback(info[0]);
  KeepAlive(Value(), "_onStream", callback);
  state_->streams.SetCallback(callback);
}

Napi::Value Vm::ReadStats(const Napi::CallbackInfo& info) { return ::ReadStats(info.Env(), state_->fd, state_->stats); }

void Vm::Close(const Napi::CallbackInfo&) {
  std::vector<std::unique_ptr<Mapping>> run_pages;
  const std::vector<Vcpu*> vcpus = state_->vcpus;
  for (Vcpu* vcpu : vcpus) run_pages.push_back(vcpu->CloseAndDetach());
  state_->Close();
  if (run_pages.empty()) return;
  // The last that the kernel has of the VM. One that ran takes it a grace period of RCU to destroy, some 16 ms of waiting.
  // SAFETY: the thread owns all that it touches, and the addon's code is never unloaded (-z nodelete).
  try {
    std::thread([pages = std::move(run_pages)] {}).detach();
  } catch (const std::system_error&) {
    // No thread to be had: they were unmapped here.
  }
}
