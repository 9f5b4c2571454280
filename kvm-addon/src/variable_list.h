// KVM's structures that end in an array whose length stands in front.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

template <typename Header, typename Entry>
class VariableList {
 public:
  explicit VariableList(size_t count)
      : storage_(new(std::align_val_t{alignof(std::max_align_t)}) uint8_t[sizeof(Header) + count * sizeof(Entry)]()) {}

  Header* get() { return reinterpret_cast<Header*>(storage_.get()); }
  Header* operator->() { return get(); }
  Entry* entries() { return reinterpret_cast<Entry*>(storage_.get() + sizeof(Header)); }

 private:
  struct Free {
    void operator()(uint8_t* bytes) const { ::operator delete[](bytes, std::align_val_t{alignof(std::max_align_t)}); }
  };
  std::unique_ptr<uint8_t[], Free> storage_;
};
