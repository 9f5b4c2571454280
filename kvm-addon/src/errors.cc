#include "errors.h"

#include <cerrno>
#include <string>

#include "uv.h"

Napi::Error ErrnoError(Napi::Env env, int error, const char* syscall) {
  const char* name = uv_err_name(-error);
  Napi::Error failure = Napi::Error::New(env, std::string(name) + ": " + uv_strerror(-error) + ", " + syscall);
  failure.Set("code", Napi::String::New(env, name));
  failure.Set("errno", Napi::Number::New(env, -error));
  failure.Set("syscall", Napi::String::New(env, syscall));
  return failure;
}

int RepeatedIoctl(int fd, unsigned long request, unsigned long argument) {
  int result;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

int CheckedIoctl(Napi::Env env, int fd, unsigned long request, const char* name, unsigned long argument) {
  const int result = RepeatedIoctl(fd, request, argument);
  if (result < 0) throw ErrnoError(env, errno, name);
  return result;
}
