// System calls on files that Node lacks: locks, hole punching, files in memory, the size of block devices,
// pipes, attributes and exact times.
#pragma once

#include <napi.h>

Napi::Value Flock(const Napi::CallbackInfo& info);
Napi::Value Fallocate(const Napi::CallbackInfo& info);
Napi::Value MakeFifo(const Napi::CallbackInfo& info);
Napi::Value SetXattr(const Napi::CallbackInfo& info);
Napi::Value SetTimes(const Napi::CallbackInfo& info);
Napi::Value Memfd(const Napi::CallbackInfo& info);
Napi::Value BlockDeviceBytes(const Napi::CallbackInfo& info);
