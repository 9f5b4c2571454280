#include "host_files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/mman.h>

#include <cerrno>
#include <string>

#include "arguments.h"
#include "errors.h"

namespace {

class FallocateWorker : public Napi::AsyncWorker {
 public:
  FallocateWorker(Napi::Env env, int fd, int mode, off_t offset, off_t length)
      : AsyncWorker(env, "fallocate"),
        deferred_(Napi::Promise::Deferred::New(env)),
        fd_(fd),
        mode_(mode),
        offset_(offset),
        length_(length) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    do {
      error_ = ::fallocate(fd_, mode_, offset_, length_) < 0 ? errno : 0;
    } while (error_ == EINTR);
  }
  void OnOK() override {
    if (error_ == 0) {
      deferred_.Resolve(Env().Undefined());
    } else {
      deferred_.Reject(ErrnoError(Env(), error_, "fallocate").Value());
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  int fd_;
  int mode_;
  off_t offset_;
  off_t length_;
  int error_ = 0;
};

}  // namespace

Napi::Value Flock(const Napi::CallbackInfo& info) {
  const bool shared = info[1].As<Napi::String>().Utf8Value() == "shared";
  if (::flock(Integer<int>(info[0]), (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  throw ErrnoError(info.Env(), errno, "flock");
}

Napi::Value Fallocate(const Napi::CallbackInfo& info) {
  auto* worker = new FallocateWorker(info.Env(), Integer<int>(info[0]), Integer<int>(info[1]), Integer<off_t>(info[2]),
                                     Integer<off_t>(info[3]));
  worker->Queue();
  return worker->promise();
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
