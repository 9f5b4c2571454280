#include "disk_io.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>

#include "addon_data.h"
#include "arguments.h"

Napi::Function DiskIo::Define(Napi::Env env) {
  return DefineClass(env, "NativeDiskIo",
                     {InstanceMethod<&DiskIo::TryRead>("tryRead"), InstanceMethod<&DiskIo::Submit>("submit"),
                      InstanceMethod<&DiskIo::Close>("close")});
}

Napi::Value DiskIo::Open(const Napi::CallbackInfo& info) {
  Opened opened{Integer<int>(info[0]), Integer<uint8_t>(info[1]), Callback(info[2])};
  return Construct(AddonData::Of(info.Env()).disk_io, &opened);
}

DiskIo::DiskIo(const Napi::CallbackInfo& info)
    : ObjectWrap(info),
      fd_(ConstructorArgument<Opened>(info).fd),
      threads_(info.This().As<Napi::Object>(), ConstructorArgument<Opened>(info).threads,
               ConstructorArgument<Opened>(info).on_done) {}

// tryRead(buffers, offset)
Napi::Value DiskIo::TryRead(const Napi::CallbackInfo& info) {
  return threads_.TryRead(fd_, info[0], info[1]);
}

// submit(id, 'read' | 'write', buffers, offset); submit(id, 'sync'); submit(id, 'allocate', mode, offset, length)
void DiskIo::Submit(const Napi::CallbackInfo& info) {
  const std::string call = info[1].As<Napi::String>().Utf8Value();
  const int fd = fd_;
  if (call == "sync") {
    threads_.Submit(info[0], [fd] { return Result([&] { return ::fdatasync(fd); }); });
  } else if (call == "allocate") {
    threads_.Submit(info[0], [fd, mode = Integer<int>(info[2]), offset = Integer<off_t>(info[3]),
                              length = Integer<off_t>(info[4])] {
      return Result([&] { return ::fallocate(fd, mode, offset, length); });
    });
  } else {
    threads_.Submit(info[0], [fd, transfer = call == "read" ? ::preadv : ::pwritev, buffers = Buffers(info[2]),
                              offset = Integer<off_t>(info[3])] {
      return Result([&] { return transfer(fd, buffers.data(), static_cast<int>(buffers.size()), offset); });
    });
  }
}

void DiskIo::Close(const Napi::CallbackInfo&) { threads_.Close(); }
