#include "stream_delivery.h"

#include "arguments.h"
#include "errors.h"

namespace {
// After a delivery bytes may gather for this long. Short enough for an echo, long enough for hundreds of bytes.
constexpr uint64_t kQuietMs = 2;
}  // namespace

void StreamDelivery::OnBytes(bool half_full) {
  if (!announced_.exchange(true) || half_full) hub_->Post(this);
}

void StreamDelivery::Watch(Napi::Env env, const FastRegisters* registers) {
  registers_ = registers;
  if (registers->streams().empty() || timer_ || hub_->closed()) return;
  auto handle = std::make_unique<UvHandle>(hub_, UV_TIMER, this);
  const int result = uv_timer_init(hub_->loop(), handle->get());
  if (result < 0) throw ErrnoError(env, -result, "uv_timer_init");
  handle->Opened();
  uv_unref(handle->get());
  timer_ = std::move(handle);
}

bool StreamDelivery::Flush() {
  if (registers_ == nullptr) return false;
  bool any = false;
  // A callback may close the VM: registers_ is then gone, and with it the rings.
  for (size_t i = 0; registers_ != nullptr && i < registers_->streams().size(); i++) {
    const FastRegisters::Stream& stream = registers_->streams()[i];
    batch_.clear();
    stream.ring->Take(batch_);
    if (batch_.empty()) continue;
    any = true;
    Napi::Env env = hub_->env();
    Napi::HandleScope scope(env);
    const Napi::Function callback = callback_.IsEmpty() ? Napi::Function() : callback_.Value();
    if (callback.IsEmpty()) continue;
    EventHub::Call(callback, {Napi::Number::New(env, stream.index), CopyBytes(env, batch_.data(), batch_.size())});
  }
  return any;
}

void StreamDelivery::OnPosted() {
  Flush();
  StartQuietTime();
}

void StreamDelivery::OnQuietTime() {
  if (Flush()) {
    StartQuietTime();
    return;
  }
  if (registers_ == nullptr) return;
  announced_.store(false);
  // A byte put just before that was not announced by anyone.
  for (const auto& stream : registers_->streams()) {
    if (!stream.ring->Empty() && !announced_.exchange(true)) StartQuietTime();
  }
}

void StreamDelivery::StartQuietTime() {
  if (!timer_) return;
  uv_timer_start(
      timer_->get(),
      [](uv_handle_s* timer) {
        EventHub::FromLoop([timer] { static_cast<StreamDelivery*>(uv_handle_get_data(timer))->OnQuietTime(); });
      },
      kQuietMs, 0);
}

void StreamDelivery::Close() {
  hub_->Forget(this);
  timer_.reset();
  registers_ = nullptr;
}
