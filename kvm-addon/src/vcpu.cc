#include "vcpu.h"

#include "kvm_api.h"

#include <algorithm>
#include <cerrno>
#include <string>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"
#include "stats.h"
#include "structs.h"
#include "uncounted_buffer.h"
#include "variable_list.h"

namespace {
// KVM takes fewer than MAX_IO_MSRS (256) in one call: arch/x86/kvm/x86.c.
constexpr size_t kMaxMsrs = 255;
// KVM_MAX_CPUID_ENTRIES, arch/x86/include/asm/kvm_host.h.
constexpr uint32_t kMaxCpuidEntries = 256;
constexpr size_t kDebugRegisters = 8;
using CpuidList = VariableList<kvm_cpuid2, kvm_cpuid_entry2>;
using MsrList = VariableList<kvm_msrs, kvm_msr_entry>;
}  // namespace

Napi::Function Vcpu::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeVcpu",
      {InstanceAccessor<&Vcpu::Id>("id"), InstanceAccessor<&Vcpu::RunPage>("runPage"),
       InstanceAccessor<&Vcpu::CountersArray>("counters"), InstanceAccessor<&Vcpu::Running>("running"),
       InstanceMethod<&Vcpu::SetOnExit>("onExit"), InstanceMethod<&Vcpu::Run>("run"),
       InstanceMethod<&Vcpu::Kick>("kick"), InstanceMethod<&Vcpu::GetStruct>("getStruct"),
       InstanceMethod<&Vcpu::SetStruct>("setStruct"), InstanceMethod<&Vcpu::GetCpuid>("getCpuid"),
       InstanceMethod<&Vcpu::SetCpuid>("setCpuid"), InstanceMethod<&Vcpu::GetMsrs>("getMsrs"),
       InstanceMethod<&Vcpu::SetMsrs>("setMsrs"), InstanceMethod<&Vcpu::SetGuestDebug>("setGuestDebug"),
       InstanceMethod<&Vcpu::Translate>("translate"), InstanceMethod<&Vcpu::KvmclockCtrl>("kvmclockCtrl"),
       InstanceMethod<&Vcpu::ReadStats>("readStats"), InstanceMethod<&Vcpu::Close>("close")});
}

Vcpu::Vcpu(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  auto& opened = ConstructorArgument<Opened>(info);
  vm_ = std::move(opened.vm);
  id_ = opened.id;
  fd_ = std::move(opened.fd);
  run_page_ = std::move(opened.run_page);
  counters_ = std::make_shared<Counters>();
  thread_.reset(new VcpuThread(id_, fd_.get(), reinterpret_cast<kvm_run*>(run_page_->data()), counters_.get(), this));
  const int error = thread_->Start();
  if (error != 0) throw ErrnoError(env, error, "pthread_create");
  const auto run_page_buffer = UncountedArrayBuffer(env, run_page_->data(), run_page_->size());
  // A cycle of properties: the collector sees it whole.
  KeepAlive(run_page_buffer, "_vcpu", Value());
  KeepAlive(Value(), "_runPage", run_page_buffer);
  const auto counters_buffer = SharedArrayBuffer(env, counters_, counters_->values, sizeof counters_->values);
  counters_array_ = Napi::Reference<Napi::TypedArray>::New(
      Napi::Float64Array::New(env, Counters::kCount, counters_buffer, 0), 1);
  vm_->vcpus.push_back(this);
}

void Vcpu::CloseNative() {
  if (!fd_.valid()) return;
  thread_->Stop();
  vm_->hub->Forget(this);
  SetRunning(false);
  std::erase(vm_->vcpus, this);
  stats_.reset();
  fd_.reset();
}

std::unique_ptr<Mapping> Vcpu::CloseAndDetach() {
  if (!fd_.valid()) return nullptr;
  CloseNative();
  RunPageBuffer().Detach();
  return std::move(run_page_);
}

// A vCPU that runs keeps itself, its VM and Node alive.
void Vcpu::SetRunning(bool running) {
  if (running == running_) return;
  running_ = running;
  vm_->hub->CountRunning(running ? 1 : -1);
  if (running) {
    Ref();
  } else {
    Unref();
  }
}

void Vcpu::OnPosted() {
  Napi::Env env = Env();
  Napi::HandleScope scope(env);
  [[maybe_unused]] const Napi::Object self = Value();  // kept by the scope, if a callback below closes or drops us
  // What the guest wrote to streams happened before this exit.
  vm_->streams.Flush();
  if (!running_) return;
  const int error = thread_->error();
  SetRunning(false);
  const Napi::Function callback = on_exit_.IsEmpty() ? Napi::Function() : on_exit_.Value();
  if (!callback.IsEmpty()) EventHub::Call(callback, {Napi::Number::New(env, error)});
}

Napi::Value Vcpu::Id(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), id_); }
Napi::Value Vcpu::RunPage(const Napi::CallbackInfo&) { return RunPageBuffer(); }
Napi::ArrayBuffer Vcpu::RunPageBuffer() { return Value().Get("_runPage").As<Napi::ArrayBuffer>(); }
Napi::Value Vcpu::CountersArray(const Napi::CallbackInfo&) { return counters_array_.Value(); }
Napi::Value Vcpu::Running(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), running_); }

void Vcpu::SetOnExit(const Napi::CallbackInfo& info) {
  const Napi::Function callback = Callback(info[0]);
  KeepAlive(Value(), "_onExit", callback);
  on_exit_ = Napi::Weak(callback);
}

int Vcpu::StoppedFd(Napi::Env env, const char* syscall) const {
  if (running_) throw ErrnoError(env, EBUSY, syscall);
  return fd_.get();
}

void Vcpu::Run(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (StoppedFd(env, "KVM_RUN") < 0) throw ErrnoError(env, EBADF, "KVM_RUN");
  thread_->Go(&vm_->fast_registers);
  SetRunning(true);
}

void Vcpu::Kick(const Napi::CallbackInfo&) {
  if (fd_.valid()) thread_->Kick(running_);
}

namespace {

const StructIoctls& VcpuStruct(const Napi::Value& name) {
  const std::string wanted = name.As<Napi::String>().Utf8Value();
  for (const auto& entry : kVcpuStructs) {
    if (entry.name == wanted) return entry;
  }
  throw Napi::RangeError::New(name.Env(), "kvm_addon: no such structure of a vCPU");
}

}  // namespace

Napi::Value Vcpu::GetStruct(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const StructIoctls& entry = VcpuStruct(info[0]);
  auto bytes = Napi::Uint8Array::New(env, entry.size);
  CheckedIoctl(env, StoppedFd(env, entry.get_name), entry.get, entry.get_name, IoctlArgument(bytes.Data()));
  return bytes;
}

void Vcpu::SetStruct(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const StructIoctls& entry = VcpuStruct(info[0]);
  const auto bytes = Bytes(info[1]);
  if (bytes.size() != entry.size) throw Napi::RangeError::New(env, "kvm_addon: wrong size of structure");
  CheckedIoctl(env, StoppedFd(env, entry.set_name), entry.set, entry.set_name, IoctlArgument(bytes.data()));
}

Napi::Value Vcpu::GetCpuid(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  CpuidList list(kMaxCpuidEntries);
  list->nent = kMaxCpuidEntries;
  IOCTL(env, StoppedFd(env, "KVM_GET_CPUID2"), KVM_GET_CPUID2, list.get());
  // Not every kernel says how many it wrote. What it did not write is zero, and no leaf that means something is.
  const kvm_cpuid_entry2 none{};
  uint32_t count = list->nent;
  while (count > 0 && std::memcmp(&list.entries()[count - 1], &none, sizeof none) == 0) count--;
  return CopyBytes(env, list.entries(), count * sizeof(kvm_cpuid_entry2));
}

void Vcpu::SetCpuid(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto bytes = Bytes(info[0]);
  const size_t count = bytes.size() / sizeof(kvm_cpuid_entry2);
  CpuidList list(count);
  list->nent = static_cast<uint32_t>(count);
  std::memcpy(list.entries(), bytes.data(), count * sizeof(kvm_cpuid_entry2));
  IOCTL(env, StoppedFd(env, "KVM_SET_CPUID2"), KVM_SET_CPUID2, list.get());
}

Napi::Value Vcpu::GetMsrs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto indices = Elements<uint32_t>(info[0], napi_uint32_array);
  std::vector<uint64_t> values;
  while (values.size() < indices.size()) {
    const size_t wanted = std::min(indices.size() - values.size(), kMaxMsrs);
    MsrList list(wanted);
    list->nmsrs = static_cast<uint32_t>(wanted);
    for (size_t i = 0; i < wanted; i++) list.entries()[i].index = indices[values.size() + i];
    const int got = IOCTL(env, StoppedFd(env, "KVM_GET_MSRS"), KVM_GET_MSRS, list.get());
    for (int i = 0; i < got; i++) values.push_back(list.entries()[i].data);
    if (static_cast<size_t>(got) < wanted) break;
  }
  auto result = Napi::BigUint64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), result.Data());
  return result;
}

Napi::Value Vcpu::SetMsrs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto indices = Elements<uint32_t>(info[0], napi_uint32_array);
  const auto values = Elements<uint64_t>(info[1], napi_biguint64_array);
  if (indices.size() != values.size()) throw Napi::RangeError::New(env, "kvm_addon: as many values as indices");
  size_t done = 0;
  while (done < indices.size()) {
    const size_t wanted = std::min(indices.size() - done, kMaxMsrs);
    MsrList list(wanted);
    list->nmsrs = static_cast<uint32_t>(wanted);
    for (size_t i = 0; i < wanted; i++) {
      list.entries()[i].index = indices[done + i];
      list.entries()[i].data = values[done + i];
    }
    const int set = IOCTL(env, StoppedFd(env, "KVM_SET_MSRS"), KVM_SET_MSRS, list.get());
    done += static_cast<size_t>(set);
    if (static_cast<size_t>(set) < wanted) break;
  }
  return Napi::Number::New(env, static_cast<double>(done));
}

void Vcpu::SetGuestDebug(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto registers = Elements<uint64_t>(info[1], napi_biguint64_array);
  if (registers.size() != kDebugRegisters) throw Napi::RangeError::New(env, "kvm_addon: eight debug registers");
  kvm_guest_debug debug{};
  debug.control = Integer<uint32_t>(info[0]);
  std::copy(registers.begin(), registers.end(), debug.arch.debugreg);
  IOCTL(env, StoppedFd(env, "KVM_SET_GUEST_DEBUG"), KVM_SET_GUEST_DEBUG, &debug);
}

Napi::Value Vcpu::Translate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsBigInt()) throw Napi::TypeError::New(env, "kvm_addon: not a bigint");
  bool lossless;
  kvm_translation translation{};
  translation.linear_address = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
  IOCTL(env, StoppedFd(env, "KVM_TRANSLATE"), KVM_TRANSLATE, &translation);
  if (!translation.valid) return env.Undefined();
  return Napi::Number::New(env, static_cast<double>(translation.physical_address));
}

Napi::Value Vcpu::KvmclockCtrl(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int result = RepeatedIoctl(StoppedFd(env, "KVM_KVMCLOCK_CTRL"), KVM_KVMCLOCK_CTRL, 0);
  if (result < 0 && errno != EINVAL) throw ErrnoError(env, errno, "KVM_KVMCLOCK_CTRL");
  return Napi::Boolean::New(env, result == 0);
}

Napi::Value Vcpu::ReadStats(const Napi::CallbackInfo& info) {
  // Opening takes KVM's lock on the vCPU, reading does not.
  if (!stats_.valid()) StoppedFd(info.Env(), "KVM_GET_STATS_FD");
  return ::ReadStats(info.Env(), fd_, stats_);
}
