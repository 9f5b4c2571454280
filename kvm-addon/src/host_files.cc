#include "host_files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>
#include <span>
#include <string>

#include "arguments.h"
#include "errno_worker.h"
#include "errors.h"

namespace {

class FallocateWorker : public ErrnoWorker {
 public:
  FallocateWorker(Napi::Env env, int fd, int mode, off_t offset, off_t length)
      : ErrnoWorker(env, "fallocate"), fd_(fd), mode_(mode), offset_(offset), length_(length) {}

 protected:
  void Execute() override {
    int result;
    do {
      result = ::fallocate(fd_, mode_, offset_, length_);
    } while (result < 0 && errno == EINTR);
    if (result < 0) Fail(errno, "fallocate");
  }

 private:
  const int fd_;
  const int mode_;
  const off_t offset_;
  const off_t length_;
};

}  // namespace

Napi::Value Flock(const Napi::CallbackInfo& info) {
  const bool shared = info[1].As<Napi::String>().Utf8Value() == "shared";
  if (::flock(Integer<int>(info[0]), (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  throw ErrnoError(info.Env(), errno, "flock");
}

Napi::Value Fallocate(const Napi::CallbackInfo& info) {
  return ErrnoWorker::Run(new FallocateWorker(info.Env(), Integer<int>(info[0]), Integer<int>(info[1]), Integer<off_t>(info[2]),
                                              Integer<off_t>(info[3])));
}

Napi::Value MakeFifo(const Napi::CallbackInfo& info) {
  if (::mkfifo(Text(info[0]).c_str(), Integer<mode_t>(info[1])) < 0) throw ErrnoError(info.Env(), errno, "mkfifo");
  return info.Env().Undefined();
}

Napi::Value SetXattr(const Napi::CallbackInfo& info) {
  const std::span<uint8_t> value = Bytes(info[2]);
  if (::lsetxattr(Text(info[0]).c_str(), Text(info[1]).c_str(), value.data(), value.size(), 0) < 0) {
    throw ErrnoError(info.Env(), errno, "lsetxattr");
  }
  return info.Env().Undefined();
}

Napi::Value SetTimes(const Napi::CallbackInfo& info) {
  const timespec time{Integer<time_t>(info[1]), Integer<long>(info[2])};
  const timespec both[2] = {time, time};
  if (::utimensat(AT_FDCWD, Text(info[0]).c_str(), both, AT_SYMLINK_NOFOLLOW) < 0) {
    throw ErrnoError(info.Env(), errno, "utimensat");
  }
  return info.Env().Undefined();
}

Napi::Value Memfd(const Napi::CallbackInfo& info) {
  const int fd = ::memfd_create(info[0].As<Napi::String>().Utf8Value().c_str(), MFD_CLOEXEC);
  if (fd < 0) throw ErrnoError(info.Env(), errno, "memfd_create");
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value BlockDeviceBytes(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  IOCTL(info.Env(), Integer<int>(info[0]), BLKGETSIZE64, &bytes);
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}
