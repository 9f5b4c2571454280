#include "host_files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "errno_worker.h"
#include "errors.h"

namespace {

// A system call, which fills a buffer with what it returns, if it is given one.
class CallWorker : public ErrnoWorker {
 public:
  using Call = std::function<ssize_t(std::vector<uint8_t>&)>;

  CallWorker(Napi::Env env, const char* name, size_t room, Call call)
      : ErrnoWorker(env, name), name_(name), buffer_(room), call_(std::move(call)) {}

 protected:
  void Execute() override {
    do {
      length_ = call_(buffer_);
    } while (length_ < 0 && errno == EINTR);
    if (length_ < 0) Fail(errno, name_);
  }
  Napi::Value Outcome() override {
    if (buffer_.empty()) return Env().Undefined();
    return CopyBytes(Env(), buffer_.data(), static_cast<size_t>(length_));
  }

 private:
  const char* name_;
  std::vector<uint8_t> buffer_;
  Call call_;
  ssize_t length_ = 0;
};

// XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h.
constexpr size_t kMaxXattrBytes = 65536;

std::string Text(const Napi::Value& value) { return value.As<Napi::String>().Utf8Value(); }

}  // namespace

Napi::Value Rename(const Napi::CallbackInfo& info) {
  return ErrnoWorker::Run(new CallWorker(
      info.Env(), "renameat2", 0,
      [from = Text(info[0]), to = Text(info[1]), flags = Integer<unsigned>(info[2])](std::vector<uint8_t>&) {
        return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags);
      }));
}

Napi::Value GetXattr(const Napi::CallbackInfo& info) {
  return ErrnoWorker::Run(new CallWorker(
      info.Env(), "getxattr", kMaxXattrBytes, [path = Text(info[0]), name = Text(info[1])](std::vector<uint8_t>& value) {
        return ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
      }));
}

Napi::Value ListXattr(const Napi::CallbackInfo& info) {
  return ErrnoWorker::Run(
      new CallWorker(info.Env(), "listxattr", kMaxXattrBytes, [path = Text(info[0])](std::vector<uint8_t>& names) {
        return ::listxattr(path.c_str(), reinterpret_cast<char*>(names.data()), names.size());
      }));
}

Napi::Value SetXattr(const Napi::CallbackInfo& info) {
  const auto bytes = Bytes(info[2]);
  return ErrnoWorker::Run(new CallWorker(
      info.Env(), "setxattr", 0,
      [path = Text(info[0]), name = Text(info[1]), value = std::vector<uint8_t>(bytes.begin(), bytes.end()),
       flags = Integer<int>(info[3])](std::vector<uint8_t>&) {
        return ::setxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags);
      }));
}

Napi::Value RemoveXattr(const Napi::CallbackInfo& info) {
  return ErrnoWorker::Run(
      new CallWorker(info.Env(), "removexattr", 0, [path = Text(info[0]), name = Text(info[1])](std::vector<uint8_t>&) {
        return ::removexattr(path.c_str(), name.c_str());
      }));
}

Napi::Value Flock(const Napi::CallbackInfo& info) {
  const bool shared = info[1].As<Napi::String>().Utf8Value() == "shared";
  if (::flock(Integer<int>(info[0]), (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  throw ErrnoError(info.Env(), errno, "flock");
}

Napi::Value Fallocate(const Napi::CallbackInfo& info) {
  return ErrnoWorker::Run(
      new CallWorker(info.Env(), "fallocate", 0,
                     [fd = Integer<int>(info[0]), mode = Integer<int>(info[1]), offset = Integer<off_t>(info[2]),
                      length = Integer<off_t>(info[3])](std::vector<uint8_t>&) { return ::fallocate(fd, mode, offset, length); }));
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
