#include "uncounted_buffer.h"

#include <dlfcn.h>

#include <memory>
#include <new>

namespace {

// v8-array-buffer.h and v8-isolate.h, unchanged from Node 20 (V8 11.3) on. Their headers are not on every machine.
class BackingStore;
using Deleter = void (*)(void*, size_t, void*);

struct Destroy {
  void (*destructor)(BackingStore*);
  void operator()(BackingStore* store) const {
    destructor(store);
    ::operator delete(static_cast<void*>(store));
  }
};

// Returned through memory, as std::unique_ptr<v8::BackingStore> is.
struct UniqueStore {
  BackingStore* store = nullptr;
  ~UniqueStore() {}
};

struct V8 {
  void* (*current_isolate)();
  UniqueStore (*new_backing_store)(void*, size_t, Deleter, void*);
  void* (*new_array_buffer)(void* isolate, std::shared_ptr<BackingStore>);
  void (*destructor)(BackingStore*);
  Deleter empty_deleter;

  V8() {
    Find("_ZN2v87Isolate10GetCurrentEv", current_isolate);
    Find("_ZN2v811ArrayBuffer15NewBackingStoreEPvmPFvS1_mS1_ES1_", new_backing_store);
    Find("_ZN2v811ArrayBuffer3NewEPNS_7IsolateESt10shared_ptrINS_12BackingStoreEE", new_array_buffer);
    Find("_ZN2v812BackingStoreD1Ev", destructor);
    Find("_ZN2v812BackingStore12EmptyDeleterEPvmS1_", empty_deleter);
  }

  bool complete() const {
    return current_isolate && new_backing_store && new_array_buffer && destructor && empty_deleter;
  }

 private:
  template <typename Function>
  static void Find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(RTLD_DEFAULT, name));
  }
};

}  // namespace

Napi::ArrayBuffer UncountedArrayBuffer(Napi::Env env, void* data, size_t size) {
  static const V8 v8;
  if (!v8.complete()) return Napi::ArrayBuffer::New(env, data, size);
  const UniqueStore made = v8.new_backing_store(data, size, v8.empty_deleter, nullptr);
  std::shared_ptr<BackingStore> store(made.store, Destroy{v8.destructor});
  // A napi_value is a v8::Local.
  const auto buffer = static_cast<napi_value>(v8.new_array_buffer(v8.current_isolate(), std::move(store)));
  return Napi::ArrayBuffer(env, buffer);
}
