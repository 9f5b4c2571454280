#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "addon_data.h"
#include "arguments.h"
#include "errno_worker.h"
#include "errors.h"
#include "event_fd.h"
#include "uncounted_buffer.h"

namespace {

constexpr size_t kPageBytes = 4096;

// Documentation/admin-guide/mm/pagemap.rst
constexpr uint64_t kPagePresent = 1ULL << 63;
constexpr uint64_t kPageSwapped = 1ULL << 62;
constexpr uint64_t kPageFileOrShared = 1ULL << 61;
constexpr size_t kPagemapChunk = 16 * 1024;

// Pages in ascending order as pairs of first page and count.
class PageRuns {
 public:
  void Add(size_t first, size_t count = 1) {
    if (!runs_.empty() && first <= runs_.back().first + runs_.back().second) {
      const size_t end = std::max(runs_.back().first + runs_.back().second, first + count);
      runs_.back().second = end - runs_.back().first;
    } else {
      runs_.emplace_back(first, count);
    }
  }

  static PageRuns Union(const PageRuns& a, const PageRuns& b) {
    std::vector<std::pair<size_t, size_t>> all(a.runs_);
    all.insert(all.end(), b.runs_.begin(), b.runs_.end());
    std::sort(all.begin(), all.end());
    PageRuns result;
    for (const auto& [first, count] : all) result.Add(first, count);
    return result;
  }

  Napi::Uint32Array ToArray(Napi::Env env) const {
    auto array = Napi::Uint32Array::New(env, runs_.size() * 2);
    for (size_t i = 0; i < runs_.size(); i++) {
      array[2 * i] = static_cast<uint32_t>(runs_[i].first);
      array[2 * i + 1] = static_cast<uint32_t>(runs_[i].second);
    }
    return array;
  }

 private:
  std::vector<std::pair<size_t, size_t>> runs_;
};

// Of the mapping: pages that are this process's own copies.
PageRuns AnonymousPages(Napi::Env env, const Mapping& mapping) {
  const Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) throw ErrnoError(env, errno, "open");
  const size_t first = reinterpret_cast<uintptr_t>(mapping.data()) / kPageBytes;
  const size_t pages = mapping.size() / kPageBytes;
  PageRuns runs;
  std::vector<uint64_t> entries(std::min(pages, kPagemapChunk));
  for (size_t page = 0; page < pages;) {
    const size_t count = std::min(pages - page, entries.size());
    const ssize_t got = ::pread(pagemap.get(), entries.data(), count * sizeof(uint64_t),
                                static_cast<off_t>((first + page) * sizeof(uint64_t)));
    if (got <= 0) throw ErrnoError(env, got < 0 ? errno : EIO, "pread");
    const size_t read = static_cast<size_t>(got) / sizeof(uint64_t);
    for (size_t i = 0; i < read; i++) {
      const uint64_t entry = entries[i];
      if ((entry & (kPagePresent | kPageSwapped)) != 0 && (entry & kPageFileOrShared) == 0) runs.Add(page + i);
    }
    page += read;
  }
  return runs;
}

// Of the file: pages that are not holes.
PageRuns FilePages(Napi::Env env, int fd, size_t size) {
  PageRuns runs;
  off_t at = 0;
  const auto end = static_cast<off_t>(size);
  while (at < end) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    const off_t hole = data < 0 ? -1 : ::lseek(fd, data, SEEK_HOLE);
    if (data < 0 || hole < 0) throw ErrnoError(env, errno, "lseek");
    const size_t first = static_cast<size_t>(data) / kPageBytes;
    runs.Add(first, (static_cast<size_t>(hole) + kPageBytes - 1) / kPageBytes - first);
    at = hole;
  }
  return runs;
}

void* Map(Napi::Env env, void* at, size_t size, int flags, int fd, off_t offset) {
  void* address = ::mmap(at, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, offset);
  if (address == MAP_FAILED) throw ErrnoError(env, errno, "mmap");
  // A hint: core dumps without guest memory.
  ::madvise(address, size, MADV_DONTDUMP);
  return address;
}

// SAFETY: holds what it works on. TypeScript waits for it before it freezes the memory.
class ReleaseWorker : public ErrnoWorker {
 public:
  ReleaseWorker(Napi::Env env, std::shared_ptr<Fd> fd, std::shared_ptr<Mapping> mapping,
                std::vector<std::pair<size_t, size_t>> runs)
      : ErrnoWorker(env, "release"), fd_(std::move(fd)), mapping_(std::move(mapping)), runs_(std::move(runs)) {}

 protected:
  void Execute() override {
    for (const auto& [first, count] : runs_) {
      const size_t offset = first * kPageBytes;
      const size_t length = count * kPageBytes;
      if (fd_ && ::fallocate(fd_->get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                             static_cast<off_t>(length)) < 0) {
        Fail(errno, "fallocate");
      }
      if (::madvise(mapping_->data() + offset, length, MADV_DONTNEED) < 0) Fail(errno, "madvise");
    }
  }

 private:
  // Empty if the memfd is to stay as it is.
  std::shared_ptr<Fd> fd_;
  std::shared_ptr<Mapping> mapping_;
  std::vector<std::pair<size_t, size_t>> runs_;
};

}  // namespace

Napi::Function Memory::Define(Napi::Env env) {
  return DefineClass(env, "NativeMemory",
                     {InstanceAccessor<&Memory::SizeBytes>("sizeBytes"), InstanceAccessor<&Memory::Buffer>("buffer"),
                      InstanceMethod<&Memory::Freeze>("freeze"), InstanceMethod<&Memory::MapMemory>("mapMemory"),
                      InstanceMethod<&Memory::MapFile>("mapFile"), InstanceMethod<&Memory::DataPages>("dataPages"),
                      InstanceMethod<&Memory::Release>("release"),
                      InstanceMethod<&Memory::Close>("close")});
}

Napi::Value Memory::Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto size = Integer<size_t>(info[0]);
  const std::string name = info[1].As<Napi::String>().Utf8Value();

  Opened opened;
  opened.fd = std::make_shared<Fd>(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const int fd = opened.fd->get();
  if (fd < 0) throw ErrnoError(env, errno, "memfd_create");
  if (::ftruncate(fd, static_cast<off_t>(size)) < 0) throw ErrnoError(env, errno, "ftruncate");
  // A file that shrinks under its mapping would kill the process with SIGBUS.
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
    throw ErrnoError(env, errno, "F_ADD_SEALS");
  }
  opened.mapping = std::make_shared<Mapping>(Map(env, nullptr, size, MAP_SHARED, fd, 0), size);
  opened.frozen = false;
  return Construct(AddonData::Of(env).memory, &opened);
}

Memory::Memory(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  auto& opened = ConstructorArgument<Opened>(info);
  fd_ = std::move(opened.fd);
  mapping_ = std::move(opened.mapping);
  frozen_ = opened.frozen;
  const auto buffer = UncountedArrayBuffer(info.Env(), mapping_->data(), mapping_->size());
  // A cycle of properties: the collector sees it whole.
  KeepAlive(buffer, "_memory", Value());
  KeepAlive(Value(), "_buffer", buffer);
}

void Memory::RequireOpen(Napi::Env env, const char* syscall) const {
  if (!mapping_) throw ErrnoError(env, EBADF, syscall);
}

Napi::Value Memory::SizeBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), mapping_ ? static_cast<double>(mapping_->size()) : 0);
}

Napi::Value Memory::Buffer(const Napi::CallbackInfo&) { return Value().Get("_buffer"); }

void Memory::Freeze(const Napi::CallbackInfo& info) {
  RequireOpen(info.Env(), "mmap");
  if (frozen_) return;
  Map(info.Env(), mapping_->data(), mapping_->size(), MAP_PRIVATE | MAP_FIXED, fd_->get(), 0);
  frozen_ = true;
}

void Memory::MapMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  RequireOpen(env, "mmap");
  const Memory& source = Unwrapped<Memory>(info[0], AddonData::Of(env).memory);
  source.RequireOpen(env, "mmap");
  if (!source.frozen_ || source.mapping_->size() != mapping_->size()) {
    throw Napi::RangeError::New(env, "kvm_addon: not frozen, or of another size");
  }
  Map(env, mapping_->data(), mapping_->size(), MAP_PRIVATE | MAP_FIXED, source.fd_->get(), 0);
  fd_ = source.fd_;
  frozen_ = true;
}

void Memory::MapFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  RequireOpen(env, "mmap");
  const auto file = Integer<int>(info[0]);
  const auto file_offset = Integer<off_t>(info[1]);
  const auto offset = Integer<size_t>(info[2]);
  const auto length = Integer<size_t>(info[3]);
  const EventFd& lost = Unwrapped<EventFd>(info[4], AddonData::Of(env).event_fd);
  if (offset % kPageBytes != 0 || length % kPageBytes != 0 || length == 0 || offset > mapping_->size() ||
      length > mapping_->size() - offset) {
    throw Napi::RangeError::New(env, "kvm_addon: the file does not go there");
  }
  KeepAlive(Value(), "_lost", info[4]);
  Map(env, mapping_->data() + offset, length, MAP_PRIVATE | MAP_FIXED, file, file_offset);
  mapping_->WatchLostPages(lost.fd());
}

Napi::Value Memory::DataPages(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  RequireOpen(env, "lseek");
  PageRuns runs = FilePages(env, fd_->get(), mapping_->size());
  return PageRuns::Union(runs, AnonymousPages(env, *mapping_)).ToArray(env);
}

Napi::Value Memory::Release(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  RequireOpen(env, "madvise");
  const auto pairs = Elements<uint32_t>(info[0], napi_uint32_array);
  const size_t pages = mapping_->size() / kPageBytes;
  std::vector<std::pair<size_t, size_t>> runs;
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    const size_t first = pairs[i];
    const size_t count = pairs[i + 1];
    if (first > pages || count > pages - first) {
      throw Napi::RangeError::New(env, "kvm_addon: pages beyond the memory");
    }
    runs.emplace_back(first, count);
  }
  return ErrnoWorker::Run(new ReleaseWorker(env, frozen_ ? nullptr : fd_, mapping_, std::move(runs)));
}

void Memory::Close(const Napi::CallbackInfo&) {
  if (!mapping_) return;
  Value().Get("_buffer").As<Napi::ArrayBuffer>().Detach();
  mapping_.reset();
  fd_.reset();
}
