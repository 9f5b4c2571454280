// Descriptors of a folder that is shared: what holds a file, what has one open, and what is told of each.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>
#include <unordered_set>

#include "io_threads.h"

// Words of 64 bits in which a call tells what it found: FolderFacts of src/host/fs/folder-io.ts.
enum Word {
  kDev, kIno, kMode, kLinks, kUid, kGid, kRdev, kSize, kBlocks, kBlockSize,
  // Seconds, and nanoseconds behind them.
  kAtime, kMtime = kAtime + 2, kCtime = kMtime + 2, kBorn = kCtime + 2, kDescriptor = kBorn + 2, kWords
};
using Words = int64_t*;

inline constexpr int kHold = O_PATH | O_NOFOLLOW | O_CLOEXEC;
// Whatever it is, opening it waits for nobody and becomes nobody's terminal.
inline constexpr int kOpen = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

inline void TimeTo(const statx_timestamp& time, Words words) {
  words[0] = time.tv_sec;
  words[1] = time.tv_nsec;
}

// `name` in the folder `fd`, or `fd` itself for "".
inline int64_t StatTo(int fd, const char* name, Words words) {
  struct statx found;
  constexpr int kFlags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  const int64_t result = Result([&] { return ::statx(fd, name, kFlags, STATX_BASIC_STATS | STATX_BTIME, &found); });
  if (result < 0) return result;
  words[kDev] = static_cast<int64_t>(::makedev(found.stx_dev_major, found.stx_dev_minor));
  words[kIno] = static_cast<int64_t>(found.stx_ino);
  words[kMode] = found.stx_mode;
  words[kLinks] = found.stx_nlink;
  words[kUid] = found.stx_uid;
  words[kGid] = found.stx_gid;
  words[kRdev] = static_cast<int64_t>(::makedev(found.stx_rdev_major, found.stx_rdev_minor));
  words[kSize] = static_cast<int64_t>(found.stx_size);
  words[kBlocks] = static_cast<int64_t>(found.stx_blocks);
  words[kBlockSize] = found.stx_blksize;
  TimeTo(found.stx_atime, words + kAtime);
  TimeTo(found.stx_mtime, words + kMtime);
  TimeTo(found.stx_ctime, words + kCtime);
  TimeTo(found.stx_mask & STATX_BTIME ? found.stx_btime : statx_timestamp{}, words + kBorn);
  words[kDescriptor] = -1;
  return 0;
}

// Path of what a descriptor holds: the kernel takes it to exactly that, and no further.
class Path {
 public:
  explicit Path(int64_t fd) { std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d", static_cast<int>(fd)); }
  const char* c_str() const { return text_.data(); }

 private:
  std::array<char, 32> text_;
};

// The descriptors of one share: it closes no other, and none is left open when it goes.
class FolderDescriptors {
 public:
  ~FolderDescriptors() {
    for (const int fd : open_) ::close(fd);
  }

  // Keeps what `open` opens. The last quarter of the process's descriptors is not for shares: the kernel gives the lowest number
  // that is free, so one that lies beyond tells that the others are taken, by whomever.
  template <typename Open>
  int64_t Take(Open open) {
    const int64_t fd = Result(open);
    if (fd < 0) return fd;
    if (fd >= Limit()) {
      ::close(static_cast<int>(fd));
      return -ENFILE;
    }
    return Keep(fd);
  }

  // Keeps as Take(), for what cannot be unmade: Room() was asked before.
  template <typename Open>
  int64_t TakeMade(Open open) {
    const int64_t fd = Result(open);
    return fd < 0 ? fd : Keep(fd);
  }

  // Returns 0 if there is one more.
  int64_t Room(int any) {
    const int64_t fd = Result([&] { return ::fcntl(any, F_DUPFD_CLOEXEC, 0); });
    if (fd < 0) return fd;
    ::close(static_cast<int>(fd));
    return fd < Limit() ? 0 : -ENFILE;
  }

  int64_t Close(int64_t fd) {
    {
      std::lock_guard lock(mutex_);
      if (open_.erase(static_cast<int>(fd)) == 0) return -EBADF;
    }
    return ::close(static_cast<int>(fd)) == 0 || errno == EINTR ? 0 : -errno;
  }

  // Holds `name`, and tells what it is.
  int64_t Find(int dir, const std::string& name, Words words) {
    return Told(Take([&] { return ::openat(dir, name.c_str(), kHold); }), words);
  }

  // Has `make` make `name`, and holds what is there then.
  template <typename Make>
  int64_t Made(int dir, const std::string& name, Words words, Make make) {
    if (const int64_t error = Room(dir)) return error;
    if (const int64_t error = Result(make)) return error;
    return Told(TakeMade([&] { return ::openat(dir, name.c_str(), kHold); }), words);
  }

  // Holds what `file` has open, and tells what it is; closes `file` if it cannot.
  int64_t FileTold(int64_t file, Words words) {
    if (file < 0) return file;
    const int64_t held = Told(TakeMade([&] { return ::open(Path(file).c_str(), O_PATH | O_CLOEXEC); }), words);
    if (held < 0) {
      Close(file);
      return held;
    }
    words[kDescriptor] = held;
    return file;
  }

  int64_t Told(int64_t fd, Words words) {
    if (fd < 0) return fd;
    const int64_t result = StatTo(static_cast<int>(fd), "", words);
    if (result == 0) return fd;
    Close(fd);
    return result;
  }

 private:
  static int64_t Limit() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    return static_cast<int64_t>(limit.rlim_cur / 4 * 3);
  }

  int64_t Keep(int64_t fd) {
    std::lock_guard lock(mutex_);
    open_.insert(static_cast<int>(fd));
    return fd;
  }

  std::mutex mutex_;
  std::unordered_set<int> open_;
};
