#include "tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"

Napi::Function Tap::Define(Napi::Env env) {
  return DefineClass(env, "NativeTap",
                     {InstanceAccessor<&Tap::Mtu>("mtu"), InstanceMethod<&Tap::Read>("read"),
                      InstanceMethod<&Tap::Write>("write"), InstanceMethod<&Tap::SetOffloads>("setOffloads"),
                      InstanceMethod<&Tap::Listen>("listen"),
                      InstanceMethod<&Tap::Mute>("mute"), InstanceMethod<&Tap::Close>("close")});
}

Napi::Value Tap::Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string name = info[0].As<Napi::String>().Utf8Value();
  ifreq request{};
  if (name.empty() || name.size() >= sizeof request.ifr_name) {
    throw Napi::RangeError::New(env, "kvm_addon: not the name of an interface");
  }
  std::memcpy(request.ifr_name, name.data(), name.size());

  // First: TUNSETIFF makes an interface that is not there, if it may, and nobody would be at its other end.
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) throw ErrnoError(env, errno, "socket");
  IOCTL(env, socket.get(), SIOCGIFMTU, &request);
  Opened opened{Fd(), request.ifr_mtu};

  opened.fd = Fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!opened.fd.valid()) throw ErrnoError(env, errno, "open");
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  IOCTL(env, opened.fd.get(), TUNSETIFF, &request);
  int header_bytes = 12;  // struct virtio_net_hdr_v1, whose header file is not C++
  IOCTL(env, opened.fd.get(), TUNSETVNETHDRSZ, &header_bytes);
  IOCTL(env, opened.fd.get(), TUNSETOFFLOAD, 0UL);
  return Construct(AddonData::Of(env).tap, &opened);
}

Tap::Tap(const Napi::CallbackInfo& info)
    : ObjectWrap(info),
      hub_(AddonData::Of(info.Env()).hub),
      fd_(std::move(ConstructorArgument<Opened>(info).fd)),
      mtu_(ConstructorArgument<Opened>(info).mtu) {
  hub_->Bind(this);
}

Tap::~Tap() { hub_->Unbind(this); }

Napi::Value Tap::Mtu(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), mtu_); }

Napi::Value Tap::Read(const Napi::CallbackInfo& info) {
  const std::span<uint8_t> target = Bytes(info[0]);
  ssize_t count;
  do {
    count = ::read(fd_.get(), target.data(), target.size());
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno != EAGAIN) throw ErrnoError(info.Env(), errno, "read");
  return Napi::Number::New(info.Env(), count < 0 ? 0 : static_cast<double>(count));
}

Napi::Value Tap::Write(const Napi::CallbackInfo& info) {
  const std::span<uint8_t> frame = Bytes(info[0]);
  ssize_t count;
  do {
    count = ::write(fd_.get(), frame.data(), frame.size());
  } while (count < 0 && errno == EINTR);
  // No error is thrown: a lost frame is what networks do, and a guest may lose as many as it likes.
  return Napi::Boolean::New(info.Env(), count >= 0);
}

void Tap::SetOffloads(const Napi::CallbackInfo& info) {
  if (!fd_.valid()) throw ErrnoError(info.Env(), EBADF, "TUNSETOFFLOAD");
  IOCTL(info.Env(), fd_.get(), TUNSETOFFLOAD, static_cast<unsigned long>(Integer<uint32_t>(info[0])));
}

void Tap::Listen(const Napi::CallbackInfo& info) {
  if (!fd_.valid()) throw ErrnoError(info.Env(), EBADF, "uv_poll_init");
  const Napi::Function callback = Callback(info[0]);
  KeepAlive(Value(), "_listener", callback);
  callback_ = Napi::Weak(callback);
  if (hub_->closed()) return;

  if (!poll_) {
    auto handle = std::make_unique<UvHandle>(hub_, UV_POLL, this);
    const int result = uv_poll_init(hub_->loop(), handle->get(), fd_.get());
    if (result < 0) throw ErrnoError(info.Env(), -result, "uv_poll_init");
    handle->Opened();
    uv_unref(handle->get());
    poll_ = std::move(handle);
  }
  const int result = uv_poll_start(poll_->get(), UV_READABLE, [](uv_handle_s* poll, int, int) {
    EventHub::FromLoop([poll] { static_cast<Tap*>(uv_handle_get_data(poll))->OnReadable(); });
  });
  if (result < 0) throw ErrnoError(info.Env(), -result, "uv_poll_start");
}

void Tap::Mute(const Napi::CallbackInfo&) {
  if (poll_) uv_poll_stop(poll_->get());
}

void Tap::OnReadable() {
  Napi::HandleScope scope(Env());
  const Napi::Function callback = callback_.Value();
  if (!callback.IsEmpty()) EventHub::Call(callback, {});
}

void Tap::Close(const Napi::CallbackInfo&) {
  // The poll first: libuv must not watch a number that somebody else may get.
  poll_.reset();
  // A TAP that stays keeps them, for whoever has it next and may not ask.
  int header_bytes = 10;  // struct virtio_net_hdr
  if (fd_.valid()) {
    ::ioctl(fd_.get(), TUNSETOFFLOAD, 0UL);
    ::ioctl(fd_.get(), TUNSETVNETHDRSZ, &header_bytes);
  }
  fd_.reset();
}
