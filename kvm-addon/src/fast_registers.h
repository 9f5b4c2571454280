// Guest accesses that are answered on the vCPU's thread, from tables that JavaScript keeps: no device is known here.
#pragma once

#include "kvm_api.h"
#include <napi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "byte_ring.h"
#include "counters.h"

class FastRegisters {
 public:
  FastRegisters() = default;
  // Reads the array of NativeFastRegister (binding.ts) and keeps its cells alive.
  explicit FastRegisters(const Napi::Array& registers);

  enum class Outcome { kUnserved, kServed, kStreamed, kStreamedHalfFull };

  // Called on a vCPU's thread after an exit. kUnserved: JavaScript must see it.
  Outcome Serve(kvm_run& run, Counters& counters) const;

  struct Stream {
    uint32_t index;
    std::unique_ptr<ByteRing> ring;
  };
  const std::vector<Stream>& streams() const { return streams_; }

 private:
  enum class Kind : uint8_t { kLoad, kClearBits, kStream };
  struct Register {
    uint64_t key;
    Kind kind;
    // SAFETY: the bytes of a typed array that belongs to a device in JavaScript. `cells_` keeps its buffer alive; the device
    // must not detach it. Both sides write: a 'load' cell and a stream's switch JavaScript only, a 'clear-bits' cell both,
    // atomically. Dies with this table, which is replaced only while no vCPU of the VM runs.
    uint8_t* cell;
    ByteRing* ring;
  };
  const Register* Find(uint64_t key) const;

  std::vector<Register> registers_;  // sorted by key
  std::vector<Stream> streams_;
  std::vector<Napi::Reference<Napi::TypedArray>> cells_;
};
