#include "fast_registers.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include "arguments.h"

namespace {

constexpr size_t kDefaultCapacity = 4096;
constexpr size_t kMaxCellBytes = 8;

// An access matches a register only if address, size, space and direction all do. Addresses have 53 bits at most.
constexpr uint64_t Key(uint64_t addr, size_t size, bool memory, bool write) {
  return addr << 6 | size << 2 | (memory ? 2U : 0U) | (write ? 1U : 0U);
}

// A cell may change while it is read. Natural sizes are read whole, so that the guest never sees half of an update.
void LoadCell(const uint8_t* cell, uint8_t* out, size_t size) {
  const auto whole = [&]<typename T>(T) {
    T& source = *reinterpret_cast<T*>(const_cast<uint8_t*>(cell));
    const T value = std::atomic_ref<T>(source).load(std::memory_order_acquire);
    std::memcpy(out, &value, sizeof value);
  };
  if (reinterpret_cast<uintptr_t>(cell) % size != 0) {
    std::memcpy(out, cell, size);
  } else if (size == 1) {
    whole(uint8_t{});
  } else if (size == 2) {
    whole(uint16_t{});
  } else if (size == 4) {
    whole(uint32_t{});
  } else {
    whole(uint64_t{});
  }
}

}  // namespace

FastRegisters::FastRegisters(const Napi::Array& registers) {
  Napi::Env env = registers.Env();
  for (uint32_t i = 0; i < registers.Length(); i++) {
    const auto item = registers.Get(i).As<Napi::Object>();
    const auto kind = item.Get("kind").As<Napi::String>().Utf8Value();
    const auto addr = Integer<uint64_t>(item.Get("addr"));
    const bool memory = Integer<uint32_t>(item.Get("space")) == 1;
    const auto cell = Bytes(item.Get("cell"));
    const auto require = [&](bool condition) {
      if (!condition) throw Napi::RangeError::New(env, "kvm_addon: bad fast register " + std::to_string(i));
    };

    Register entry{0, Kind::kLoad, cell.data(), nullptr};
    if (kind == "load") {
      require(cell.size() == 1 || cell.size() == 2 || cell.size() == 4 || cell.size() == kMaxCellBytes);
      entry.key = Key(addr, cell.size(), memory, false);
    } else if (kind == "clear-bits") {
      require(cell.size() == sizeof(uint32_t) && reinterpret_cast<uintptr_t>(cell.data()) % sizeof(uint32_t) == 0);
      entry.kind = Kind::kClearBits;
      entry.key = Key(addr, sizeof(uint32_t), memory, true);
    } else {
      require(kind == "stream" && cell.size() >= 1);
      const auto capacity = item.Get("capacityBytes");
      const size_t bytes = capacity.IsUndefined() ? kDefaultCapacity : Integer<uint32_t>(capacity);
      require(bytes >= 1);
      entry.kind = Kind::kStream;
      entry.key = Key(addr, 1, memory, true);
      entry.ring = streams_.emplace_back(Stream{i, std::make_unique<ByteRing>(bytes)}).ring.get();
    }
    registers_.push_back(entry);
    cells_.push_back(Napi::Reference<Napi::TypedArray>::New(item.Get("cell").As<Napi::TypedArray>(), 1));
  }
  std::sort(registers_.begin(), registers_.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
}

const FastRegisters::Register* FastRegisters::Find(uint64_t key) const {
  const auto found = std::lower_bound(registers_.begin(), registers_.end(), key,
                                      [](const Register& entry, uint64_t wanted) { return entry.key < wanted; });
  return found != registers_.end() && found->key == key ? &*found : nullptr;
}

FastRegisters::Outcome FastRegisters::Serve(kvm_run& run, Counters& counters) const {
  const bool memory = run.exit_reason == KVM_EXIT_MMIO;
  if (!memory && run.exit_reason != KVM_EXIT_IO) return Outcome::kUnserved;
  const bool write = memory ? run.mmio.is_write != 0 : run.io.direction == KVM_EXIT_IO_OUT;
  const uint64_t addr = memory ? run.mmio.phys_addr : run.io.port;
  const size_t size = memory ? run.mmio.len : run.io.size;
  const size_t count = memory ? 1 : run.io.count;
  uint8_t* data = memory ? run.mmio.data : reinterpret_cast<uint8_t*>(&run) + run.io.data_offset;
  const Register* entry = Find(Key(addr, size, memory, write));
  if (entry == nullptr) return Outcome::kUnserved;

  switch (entry->kind) {
    case Kind::kLoad:
      for (size_t i = 0; i < count; i++) LoadCell(entry->cell, data + i * size, size);
      counters.Add(Counters::kLoads);
      return Outcome::kServed;
    case Kind::kClearBits:
      for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        std::memcpy(&bits, data + i * size, sizeof bits);
        std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(entry->cell)).fetch_and(~bits);
      }
      counters.Add(Counters::kClearBits);
      return Outcome::kServed;
    case Kind::kStream: {
      if (std::atomic_ref<uint8_t>(*entry->cell).load(std::memory_order_acquire) != 1) return Outcome::kUnserved;
      const size_t held = entry->ring->Put({data, count});
      if (held == 0) return Outcome::kUnserved;
      counters.Add(Counters::kStreamed);
      const size_t half = entry->ring->capacity() / 2;
      return held > half && held - count <= half ? Outcome::kStreamedHalfFull : Outcome::kStreamed;
    }
  }
  return Outcome::kUnserved;
}
