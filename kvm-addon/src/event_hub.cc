#include "event_hub.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "errors.h"

UvHandle::UvHandle(std::shared_ptr<EventHub> hub, int type, void* data)
    : hub_(std::move(hub)), handle_(static_cast<uv_handle_s*>(std::calloc(1, uv_handle_size(type)))) {
  uv_handle_set_data(handle_, data);
}

void UvHandle::Opened() {
  opened_ = true;
  hub_->open_handles_++;
}

UvHandle::~UvHandle() {
  if (!opened_) {
    std::free(handle_);
    return;
  }
  uv_handle_set_data(handle_, new std::shared_ptr<EventHub>(std::move(hub_)));
  uv_close(handle_, [](uv_handle_s* handle) {
    std::unique_ptr<std::shared_ptr<EventHub>> hub(static_cast<std::shared_ptr<EventHub>*>(uv_handle_get_data(handle)));
    std::free(handle);
    (*hub)->HandleClosed();
  });
}

EventHub::EventHub(Napi::Env env) : env_(env) {
  NAPI_THROW_IF_FAILED_VOID(env, napi_get_uv_event_loop(env, &loop_));
}

void EventHub::Open() {
  auto handle = std::make_unique<UvHandle>(shared_from_this(), UV_ASYNC, this);
  const int result = uv_async_init(loop_, handle->get(), [](uv_handle_s* async) {
    static_cast<EventHub*>(uv_handle_get_data(async))->Drain();
  });
  if (result < 0) throw ErrnoError(env_, -result, "uv_async_init");
  handle->Opened();
  uv_unref(handle->get());
  async_ = std::move(handle);

  // SAFETY: the hook's argument is a reference of its own. It is dropped when the last handle has closed, and the
  // environment waits for that: no libuv callback finds the hub gone.
  auto* self = new std::shared_ptr<EventHub>(shared_from_this());
  const auto hook = [](napi_async_cleanup_hook_handle, void* argument) {
    std::unique_ptr<std::shared_ptr<EventHub>> hub(static_cast<std::shared_ptr<EventHub>*>(argument));
    (*hub)->Shutdown();
  };
  NAPI_THROW_IF_FAILED_VOID(env_, napi_add_async_cleanup_hook(env_, hook, self, &cleanup_));
}

void EventHub::Post(Postable* item) {
  {
    std::lock_guard lock(mutex_);
    posted_.push_back(item);
  }
  uv_async_send(async_->get());
}

void EventHub::Drain() {
  {
    std::lock_guard lock(mutex_);
    std::swap(posted_, draining_);
  }
  // A callback may forget items that are still to come: they are nulled, not erased.
  for (size_t i = 0; i < draining_.size(); i++) {
    if (Postable* item = draining_[i]) FromLoop([item] { item->OnPosted(); });
  }
  draining_.clear();
}

void EventHub::Forget(Postable* item) {
  std::replace(draining_.begin(), draining_.end(), item, static_cast<Postable*>(nullptr));
  std::lock_guard lock(mutex_);
  std::erase(posted_, item);
}

void EventHub::CountRunning(int delta) {
  const bool before = running_ > 0;
  running_ += delta;
  const bool after = running_ > 0;
  if (before == after || !async_) return;
  if (after) {
    uv_ref(async_->get());
  } else {
    uv_unref(async_->get());
  }
}

void EventHub::Call(Napi::Function callback, std::initializer_list<napi_value> arguments) {
  Napi::Env env = callback.Env();
  const napi_status status =
      napi_make_callback(env, nullptr, env.Global(), callback, arguments.size(), arguments.begin(), nullptr);
  if (status != napi_pending_exception) return;  // done, or the environment is going away
  napi_value error;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

void EventHub::Shutdown() {
  closed_ = true;
  // Each unbinds itself.
  while (!bound_.empty()) {
    EnvironmentBound* item = *bound_.begin();
    bound_.erase(bound_.begin());
    item->OnEnvironmentExit();
  }
  async_.reset();
}

void EventHub::HandleClosed() {
  open_handles_--;
  if (closed_ && open_handles_ == 0) napi_remove_async_cleanup_hook(cleanup_);
}
