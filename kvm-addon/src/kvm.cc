#include "kvm.h"

#include <fcntl.h>
#include "kvm_api.h"

#include <cerrno>
#include <string>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"
#include "variable_list.h"
#include "vm.h"

Napi::Function Kvm::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeKvm",
      {InstanceMethod<&Kvm::ApiVersion>("apiVersion"), InstanceMethod<&Kvm::CheckExtension>("checkExtension"),
       InstanceMethod<&Kvm::SupportedCpuid>("supportedCpuid"), InstanceMethod<&Kvm::MsrIndexList>("msrIndexList"),
       InstanceMethod<&Kvm::CreateVm>("createVm"), InstanceMethod<&Kvm::Close>("close")});
}

Napi::Value Kvm::Open(const Napi::CallbackInfo& info) {
  Fd fd(::open(info[0].As<Napi::String>().Utf8Value().c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) throw ErrnoError(info.Env(), errno, "open");
  return Construct(AddonData::Of(info.Env()).kvm, &fd);
}

Kvm::Kvm(const Napi::CallbackInfo& info) : ObjectWrap(info), fd_(std::move(ConstructorArgument<Fd>(info))) {}

Napi::Value Kvm::ApiVersion(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), IOCTL(info.Env(), fd_.get(), KVM_GET_API_VERSION, 0UL));
}

Napi::Value Kvm::CheckExtension(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           IOCTL(info.Env(), fd_.get(), KVM_CHECK_EXTENSION, Integer<uint32_t>(info[0])));
}

Napi::Value Kvm::SupportedCpuid(const Napi::CallbackInfo& info) {
  for (uint32_t count = 128;; count *= 2) {
    VariableList<kvm_cpuid2, kvm_cpuid_entry2> list(count);
    list->nent = count;
    if (::ioctl(fd_.get(), KVM_GET_SUPPORTED_CPUID, list.get()) == 0) {
      return CopyBytes(info.Env(), list.entries(), list->nent * sizeof(kvm_cpuid_entry2));
    }
    if (errno != E2BIG) throw ErrnoError(info.Env(), errno, "KVM_GET_SUPPORTED_CPUID");
  }
}

Napi::Value Kvm::MsrIndexList(const Napi::CallbackInfo& info) {
  // E2BIG comes with the number that there are.
  uint32_t count = 0;
  for (;;) {
    VariableList<kvm_msr_list, uint32_t> list(count);
    list->nmsrs = count;
    const int result = ::ioctl(fd_.get(), KVM_GET_MSR_INDEX_LIST, list.get());
    if (result < 0 && errno != E2BIG) throw ErrnoError(info.Env(), errno, "KVM_GET_MSR_INDEX_LIST");
    if (result == 0) {
      auto indices = Napi::Uint32Array::New(info.Env(), list->nmsrs);
      std::copy_n(list.entries(), list->nmsrs, indices.Data());
      return indices;
    }
    count = list->nmsrs;
  }
}

Napi::Value Kvm::CreateVm(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Vm::Opened opened;
  opened.run_page_bytes = static_cast<size_t>(IOCTL(env, fd_.get(), KVM_GET_VCPU_MMAP_SIZE, 0UL));
  opened.fd = Fd(IOCTL(env, fd_.get(), KVM_CREATE_VM, 0UL));
  return Construct(AddonData::Of(env).vm, &opened);
}
