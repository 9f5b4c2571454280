// What files need and Node lacks: locks, hole punching, ways to rename, extended attributes, files in memory, the size of
// block devices.
#pragma once

#include <napi.h>

Napi::Value Flock(const Napi::CallbackInfo& info);
Napi::Value Fallocate(const Napi::CallbackInfo& info);
Napi::Value Rename(const Napi::CallbackInfo& info);
Napi::Value GetXattr(const Napi::CallbackInfo& info);
Napi::Value ListXattr(const Napi::CallbackInfo& info);
Napi::Value SetXattr(const Napi::CallbackInfo& info);
Napi::Value RemoveXattr(const Napi::CallbackInfo& info);
Napi::Value Memfd(const Napi::CallbackInfo& info);
Napi::Value BlockDeviceBytes(const Napi::CallbackInfo& info);
