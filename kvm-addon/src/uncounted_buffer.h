// An ArrayBuffer over memory that V8 does not count.
#pragma once

#include <napi.h>

// One that Node-API makes counts as memory that a garbage collection might free: the RAM of a machine, most of which is not
// even there, starts a full collection, milliseconds for each machine. Node-API has no other, so this asks V8 by name, and
// falls back to Node-API where V8 has changed.
// SAFETY: nothing is freed with the buffer. The caller keeps the memory until the buffer is detached or collected.
Napi::ArrayBuffer UncountedArrayBuffer(Napi::Env env, void* data, size_t size);
