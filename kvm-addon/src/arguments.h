// JavaScript values as C++ ones. The callers in TypeScript have validated: a failure here is a bug in tsvm.
#pragma once

#include <napi.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

// A whole number that fits T and a double.
template <typename T>
T Integer(const Napi::Value& value) {
  constexpr double kMaxSafe = 9007199254740991.0;
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  const double max = static_cast<double>(std::numeric_limits<T>::max());
  if (!(number >= static_cast<double>(std::numeric_limits<T>::min()) && number <= std::fmin(max, kMaxSafe)) ||
      number != std::trunc(number)) {
    throw Napi::RangeError::New(value.Env(), "kvm_addon: not an integer of the expected width");
  }
  return static_cast<T>(number);
}

// The elements of a typed array. Valid until JavaScript runs again.
template <typename T>
std::span<T> Elements(const Napi::Value& value, napi_typedarray_type type) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Napi::TypeError::New(value.Env(), "kvm_addon: not a typed array of the expected kind");
  }
  auto array = value.As<Napi::TypedArrayOf<T>>();
  return {array.Data(), array.ElementLength()};
}

inline std::span<uint8_t> Bytes(const Napi::Value& value) { return Elements<uint8_t>(value, napi_uint8_array); }

// Bytes as they are; a path ends at the first that is null.
inline std::string Text(const Napi::Value& value) {
  const std::span<uint8_t> bytes = Bytes(value);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline Napi::Function Callback(const Napi::Value& value) {
  if (!value.IsFunction()) throw Napi::TypeError::New(value.Env(), "kvm_addon: not a function");
  return value.As<Napi::Function>();
}

inline Napi::Uint8Array CopyBytes(Napi::Env env, const void* data, size_t size) {
  auto array = Napi::Uint8Array::New(env, size);
  if (size != 0) std::memcpy(array.Data(), data, size);
  return array;
}

// A property that keeps `value` alive as long as `object`, through the garbage collector: a strong reference held by
// C++ would make every callback that mentions its object immortal.
inline void KeepAlive(Napi::Object object, const char* name, Napi::Value value) {
  napi_property_descriptor property{};
  property.utf8name = name;
  property.value = value;
  property.attributes = static_cast<napi_property_attributes>(napi_writable | napi_configurable);
  NAPI_THROW_IF_FAILED_VOID(object.Env(), napi_define_properties(object.Env(), object, 1, &property));
}
