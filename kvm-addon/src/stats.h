// KVM_GET_STATS_FD, for a VM or a vCPU.
#pragma once

#include "kvm_api.h"
#include <napi.h>

#include <cerrno>
#include <vector>

#include "arguments.h"
#include "errors.h"
#include "fd.h"

// Reads the statistics whole. `stats` is opened at the first call and kept by the caller.
inline Napi::Uint8Array ReadStats(Napi::Env env, const Fd& of, Fd& stats) {
  if (!stats.valid()) stats = Fd(IOCTL(env, of.get(), KVM_GET_STATS_FD, 0UL));
  std::vector<uint8_t> bytes;
  constexpr size_t kChunk = 16384;
  for (size_t size = 0;;) {
    bytes.resize(size + kChunk);
    const ssize_t got = ::pread(stats.get(), bytes.data() + size, kChunk, static_cast<off_t>(size));
    if (got < 0) throw ErrnoError(env, errno, "pread");
    if (got == 0) return CopyBytes(env, bytes.data(), size);
    size += static_cast<size_t>(got);
  }
}
