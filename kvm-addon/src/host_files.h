// System calls on files that Node lacks: locks, hole punching, files in memory, the size of block devices.
#pragma once

#include <napi.h>

Napi::Value Flock(const Napi::CallbackInfo& info);
Napi::Value Fallocate(const Napi::CallbackInfo& info);
Napi::Value Memfd(const Napi::CallbackInfo& info);
Napi::Value BlockDeviceBytes(const Napi::CallbackInfo& info);
