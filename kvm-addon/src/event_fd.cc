#include "event_fd.h"

#include <sys/eventfd.h>

#include <cerrno>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"

Napi::Function EventFd::Define(Napi::Env env) {
  return DefineClass(env, "NativeEventFd",
                     {InstanceMethod<&EventFd::Signal>("signal"), InstanceMethod<&EventFd::Listen>("listen"),
                      InstanceMethod<&EventFd::Close>("close")});
}

Napi::Value EventFd::Create(const Napi::CallbackInfo& info) {
  Fd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!fd.valid()) throw ErrnoError(info.Env(), errno, "eventfd");
  return Construct(AddonData::Of(info.Env()).event_fd, &fd);
}

EventFd::EventFd(const Napi::CallbackInfo& info)
    : ObjectWrap(info), hub_(AddonData::Of(info.Env()).hub), fd_(std::move(ConstructorArgument<Fd>(info))) {
  hub_->Bind(this);
}

EventFd::~EventFd() { hub_->Unbind(this); }

void EventFd::Signal(const Napi::CallbackInfo& info) {
  if (!fd_.valid()) throw ErrnoError(info.Env(), EBADF, "write");
  const uint64_t one = 1;
  // EAGAIN: the count is at its maximum, so it is not zero, which is all that a listener is told.
  if (::write(fd_.get(), &one, sizeof one) < 0 && errno != EAGAIN) throw ErrnoError(info.Env(), errno, "write");
}

void EventFd::Listen(const Napi::CallbackInfo& info) {
  if (!fd_.valid()) throw ErrnoError(info.Env(), EBADF, "uv_poll_init");
  const Napi::Function callback = Callback(info[0]);
  KeepAlive(Value(), "_listener", callback);
  callback_ = Napi::Weak(callback);
  if (poll_ || hub_->closed()) return;

  auto handle = std::make_unique<UvHandle>(hub_, UV_POLL, this);
  int result = uv_poll_init(hub_->loop(), handle->get(), fd_.get());
  if (result < 0) throw ErrnoError(info.Env(), -result, "uv_poll_init");
  handle->Opened();
  uv_unref(handle->get());
  result = uv_poll_start(handle->get(), UV_READABLE, [](uv_handle_s* poll, int, int) {
    EventHub::FromLoop([poll] { static_cast<EventFd*>(uv_handle_get_data(poll))->OnReadable(); });
  });
  if (result < 0) throw ErrnoError(info.Env(), -result, "uv_poll_start");
  poll_ = std::move(handle);
}

void EventFd::OnReadable() {
  uint64_t count;
  if (::read(fd_.get(), &count, sizeof count) != sizeof count) return;
  Napi::HandleScope scope(Env());
  const Napi::Function callback = callback_.Value();
  if (!callback.IsEmpty()) EventHub::Call(callback, {});
}

void EventFd::Close(const Napi::CallbackInfo&) {
  // The poll first: libuv must not watch a number that somebody else may get.
  poll_.reset();
  fd_.reset();
}
