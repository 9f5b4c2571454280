#include "disk_io.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "addon_data.h"
#include "arguments.h"
#include "errors.h"

namespace {

enum class Call { kRead, kWrite, kSync, kAllocate };

// Most disks rest most of the time, and a process may have thousands.
constexpr std::chrono::seconds kIdle{1};

// Valid as long as the buffers are where they are.
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

}  // namespace

struct DiskIo::Request {
  int32_t id;
  Call call;
  std::vector<iovec> buffers;
  off_t offset;
  // Of kAllocate.
  int mode;
  off_t length;
};

// What the threads share with the object, and outlives whichever goes first.
struct DiskIo::Threads : std::enable_shared_from_this<DiskIo::Threads> {
  struct Completion {
    int32_t id;
    int64_t result;
  };

  int fd;
  size_t most;
  std::shared_ptr<EventHub> hub;
  // Null when it has let go of the threads.
  DiskIo* owner;

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
      Request request = std::move(requests.front());
      requests.pop_front();
      lock.unlock();
      const int64_t result = Do(request);
      lock.lock();
      done.push_back({request.id, result});
      // Those that follow before the JavaScript thread looks are taken with it.
      if (done.size() == 1 && owner) hub->Post(owner);
    }
    running--;
    ended.notify_all();
  }

  int64_t Do(const Request& request) const {
    for (;;) {
      int64_t result = 0;
      const int count = static_cast<int>(request.buffers.size());
      switch (request.call) {
        case Call::kRead:
          result = ::preadv(fd, request.buffers.data(), count, request.offset);
          break;
        case Call::kWrite:
          result = ::pwritev(fd, request.buffers.data(), count, request.offset);
          break;
        case Call::kSync:
          result = ::fdatasync(fd);
          break;
        case Call::kAllocate:
          result = ::fallocate(fd, request.mode, request.offset, request.length);
          break;
      }
      if (result >= 0) return result;
      if (errno != EINTR) return -errno;
    }
  }

  // No thread does anything for the object any more. What has not begun is dropped; what has is waited for.
  void Close() {
    std::unique_lock lock(mutex);
    closing = true;
    requests.clear();
    work.notify_all();
    ended.wait(lock, [this] { return running == 0; });
    owner = nullptr;
  }
};

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
    : ObjectWrap(info), hub_(AddonData::Of(info.Env()).hub), threads_(std::make_shared<Threads>()) {
  const Opened& opened = ConstructorArgument<Opened>(info);
  threads_->fd = opened.fd;
  threads_->most = opened.threads;
  threads_->hub = hub_;
  threads_->owner = this;
  KeepAlive(Value(), "_onDone", opened.on_done);
  on_done_ = Napi::Weak(opened.on_done);
  hub_->Bind(this);
}

DiskIo::~DiskIo() {
  OnEnvironmentExit();
  hub_->Unbind(this);
}

// tryRead(buffers, offset)
Napi::Value DiskIo::TryRead(const Napi::CallbackInfo& info) {
  if (!threads_) throw ErrnoError(info.Env(), EBADF, "preadv2");
  const std::vector<iovec> buffers = Buffers(info[0]);
  const int count = static_cast<int>(buffers.size());
  const ssize_t bytes = ::preadv2(threads_->fd, buffers.data(), count, Integer<off_t>(info[1]), RWF_NOWAIT);
  return Napi::Number::New(info.Env(), static_cast<double>(bytes < 0 ? -errno : bytes));
}

// submit(id, 'read' | 'write', buffers, offset); submit(id, 'sync'); submit(id, 'allocate', mode, offset, length)
void DiskIo::Submit(const Napi::CallbackInfo& info) {
  if (!threads_) throw ErrnoError(info.Env(), EBADF, "submit");
  Request request{Integer<int32_t>(info[0]), Call::kSync, {}, 0, 0, 0};
  const std::string call = info[1].As<Napi::String>().Utf8Value();
  if (call == "allocate") {
    request.call = Call::kAllocate;
    request.mode = Integer<int>(info[2]);
    request.offset = Integer<off_t>(info[3]);
    request.length = Integer<off_t>(info[4]);
  } else if (call != "sync") {
    request.call = call == "read" ? Call::kRead : Call::kWrite;
    request.buffers = Buffers(info[2]);
    request.offset = Integer<off_t>(info[3]);
  }
  try {
    threads_->Submit(std::move(request));
  } catch (const std::system_error& error) {
    throw ErrnoError(info.Env(), error.code().value(), "pthread_create");
  }
  if (in_flight_++ > 0) return;
  hub_->CountRunning(1);
  // Who waits for the result is perhaps known to nobody but this object.
  Ref();
}

void DiskIo::Rest() {
  in_flight_ = 0;
  hub_->CountRunning(-1);
  Unref();
}

void DiskIo::OnPosted() {
  std::vector<Threads::Completion> done;
  {
    std::lock_guard lock(threads_->mutex);
    std::swap(done, threads_->done);
  }
  Napi::HandleScope scope(Env());
  [[maybe_unused]] const Napi::Object self = Value();  // alive to the end of this, at least
  in_flight_ -= done.size();
  if (in_flight_ == 0) Rest();
  auto results = Napi::Float64Array::New(Env(), done.size() * 2);
  for (size_t i = 0; i < done.size(); i++) {
    results[2 * i] = done[i].id;
    results[2 * i + 1] = static_cast<double>(done[i].result);
  }
  const Napi::Function callback = on_done_.Value();
  if (!callback.IsEmpty()) EventHub::Call(callback, {results});
}

void DiskIo::Close(const Napi::CallbackInfo&) { OnEnvironmentExit(); }

void DiskIo::OnEnvironmentExit() {
  if (!threads_) return;
  threads_->Close();
  threads_.reset();
  hub_->Forget(this);
  if (in_flight_ > 0) Rest();
}
