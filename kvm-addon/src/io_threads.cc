#include "io_threads.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"

namespace {

// Most disks and folders rest most of the time, and a process may have thousands.
constexpr std::chrono::seconds kIdle{1};

}  // namespace

std::vector<iovec> Buffers(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  const uint32_t count = array.Length();
  std::vector<iovec> buffers;
  buffers.reserve(count);
  for (uint32_t i = 0; i < count; i++) {
    const std::span<uint8_t> bytes = Bytes(array.Get(i));
    buffers.push_back({bytes.data(), bytes.size()});
  }
  return buffers;
}

// State that the threads share with the object, and that outlives whichever goes first.
struct IoThreads::Threads : std::enable_shared_from_this<IoThreads::Threads> {
  struct Request {
    int32_t id;
    Call call;
  };
  struct Completion {
    int32_t id;
    int64_t result;
  };

  size_t most;
  std::shared_ptr<EventHub> hub;
  // Null when it has let go of the threads.
  IoThreads* owner;

  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable ended;
  std::deque<Request> requests;
  std::vector<Completion> done;
  size_t running = 0;
  size_t idle = 0;
  bool closing = false;

  void Submit(Request request) {
    std::lock_guard lock(mutex);
    requests.push_back(std::move(request));
    if (idle >= requests.size() || running == most) {
      work.notify_one();
      return;
    }
    try {
      std::thread([self = shared_from_this()] { self->Run(); }).detach();
      running++;
    } catch (const std::system_error&) {
      // Those that there are will do it.
      if (running > 0) return;
      requests.pop_back();
      throw;
    }
  }

  void Run() {
    std::unique_lock lock(mutex);
    for (;;) {
      idle++;
      work.wait_for(lock, kIdle, [this] { return closing || !requests.empty(); });
      idle--;
      if (closing || requests.empty()) break;
      const Request request = std::move(requests.front());
      requests.pop_front();
      lock.unlock();
      const int64_t result = request.call();
      lock.lock();
      done.push_back({request.id, result});
      // Those that follow before the JavaScript thread looks are taken with it.
      if (done.size() == 1 && owner) hub->Post(owner);
    }
    running--;
    ended.notify_all();
  }

  void Close() {
    std::unique_lock lock(mutex);
    closing = true;
    requests.clear();
    work.notify_all();
    ended.wait(lock, [this] { return running == 0; });
    owner = nullptr;
  }
};

IoThreads::IoThreads(Napi::Object owner, size_t most, Napi::Function on_done)
    : env_(owner.Env()),
      hub_(AddonData::Of(owner.Env()).hub),
      threads_(std::make_shared<Threads>()),
      owner_(Napi::Weak(owner)) {
  threads_->most = most;
  threads_->hub = hub_;
  threads_->owner = this;
  KeepAlive(owner, "_onDone", on_done);
  on_done_ = Napi::Weak(on_done);
  hub_->Bind(this);
}

IoThreads::~IoThreads() {
  OnEnvironmentExit();
  hub_->Unbind(this);
}

void IoThreads::Submit(const Napi::Value& id, Call call) {
  if (!threads_) throw ErrnoError(env_, EBADF, "submit");
  try {
    threads_->Submit({Integer<int32_t>(id), std::move(call)});
  } catch (const std::system_error& error) {
    throw ErrnoError(env_, error.code().value(), "pthread_create");
  }
  if (in_flight_++ > 0) return;
  hub_->CountRunning(1);
  owner_.Ref();
}

Napi::Value IoThreads::TryRead(int fd, const Napi::Value& buffers, const Napi::Value& offset) const {
  if (!threads_) throw ErrnoError(env_, EBADF, "preadv2");
  const std::vector<iovec> into = Buffers(buffers);
  const ssize_t bytes = ::preadv2(fd, into.data(), static_cast<int>(into.size()), Integer<off_t>(offset), RWF_NOWAIT);
  return Napi::Number::New(env_, static_cast<double>(bytes < 0 ? -errno : bytes));
}

void IoThreads::Rest() {
  in_flight_ = 0;
  hub_->CountRunning(-1);
  owner_.Unref();
}

void IoThreads::OnPosted() {
  std::vector<Threads::Completion> done;
  {
    std::lock_guard lock(threads_->mutex);
    std::swap(done, threads_->done);
  }
  Napi::HandleScope scope(env_);
  [[maybe_unused]] const Napi::Object owner = owner_.Value();  // alive to the end of this, at least
  in_flight_ -= done.size();
  if (in_flight_ == 0) Rest();
  auto results = Napi::Float64Array::New(env_, done.size() * 2);
  for (size_t i = 0; i < done.size(); i++) {
    results[2 * i] = done[i].id;
    results[2 * i + 1] = static_cast<double>(done[i].result);
  }
  const Napi::Function callback = on_done_.Value();
  if (!callback.IsEmpty()) EventHub::Call(callback, {results});
}

void IoThreads::OnEnvironmentExit() {
  if (!threads_) return;
  threads_->Close();
  threads_.reset();
  hub_->Forget(this);
  if (in_flight_ > 0) Rest();
}
