#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <string>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"

Napi::Function Memory::Define(Napi::Env env) {
  return DefineClass(env, "NativeMemory",
                     {InstanceAccessor<&Memory::SizeBytes>("sizeBytes"), InstanceAccessor<&Memory::Buffer>("buffer"),
                      InstanceMethod<&Memory::Close>("close")});
}

Napi::Value Memory::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto size = Integer<size_t>(info[0]);
  const std::string name = info[1].As<Napi::String>().Utf8Value();

  Opened opened;
  opened.fd = Fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!opened.fd.valid()) throw ErrnoError(env, errno, "memfd_create");
  if (::ftruncate(opened.fd.get(), static_cast<off_t>(size)) < 0) throw ErrnoError(env, errno, "ftruncate");
  // A file that shrinks under its mapping would kill the process with SIGBUS.
  if (::fcntl(opened.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
    throw ErrnoError(env, errno, "F_ADD_SEALS");
  }
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, opened.fd.get(), 0);
  if (address == MAP_FAILED) throw ErrnoError(env, errno, "mmap");
  opened.mapping = std::make_shared<Mapping>(address, size);
  // A hint: core dumps without guest memory.
  ::madvise(address, size, MADV_DONTDUMP);
  return Construct(AddonData::Of(env).memory, &opened);
}

Memory::Memory(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  auto& opened = ConstructorArgument<Opened>(info);
  fd_ = std::move(opened.fd);
  mapping_ = std::move(opened.mapping);
  buffer_ = Napi::Reference<Napi::ArrayBuffer>::New(
      SharedArrayBuffer(info.Env(), mapping_, mapping_->data(), mapping_->size()), 1);
}

Napi::Value Memory::SizeBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), mapping_ ? static_cast<double>(mapping_->size()) : 0);
}

Napi::Value Memory::Buffer(const Napi::CallbackInfo&) { return buffer_.Value(); }

void Memory::Close(const Napi::CallbackInfo&) {
  if (!mapping_) return;
  buffer_.Value().Detach();
  mapping_.reset();
  fd_.reset();
}
