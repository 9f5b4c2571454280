// The functions of libuv that node exports and the addon uses.
//
// node-api-headers has no uv.h, and Node's own headers are a download. libuv 1 keeps its ABI, and Node-API promises
// that a libuv loop is behind napi_get_uv_event_loop(). Handles are opaque here: their size is asked of the library.
#pragma once

#include <cstddef>
#include <cstdint>

struct uv_loop_s;
struct uv_handle_s;

extern "C" {
size_t uv_handle_size(int type);
void uv_handle_set_data(uv_handle_s* handle, void* data);
void* uv_handle_get_data(const uv_handle_s* handle);
void uv_close(uv_handle_s* handle, void (*callback)(uv_handle_s*));
void uv_ref(uv_handle_s* handle);
void uv_unref(uv_handle_s* handle);

int uv_async_init(uv_loop_s* loop, uv_handle_s* handle, void (*callback)(uv_handle_s*));
int uv_async_send(uv_handle_s* handle);

int uv_poll_init(uv_loop_s* loop, uv_handle_s* handle, int fd);
int uv_poll_start(uv_handle_s* handle, int events, void (*callback)(uv_handle_s*, int status, int events));
int uv_poll_stop(uv_handle_s* handle);

int uv_timer_init(uv_loop_s* loop, uv_handle_s* handle);
int uv_timer_start(uv_handle_s* handle, void (*callback)(uv_handle_s*), uint64_t timeout_ms, uint64_t repeat_ms);
int uv_timer_stop(uv_handle_s* handle);

const char* uv_err_name(int error);
const char* uv_strerror(int error);
}

// enum uv_handle_type.
inline constexpr int UV_ASYNC = 1;
inline constexpr int UV_POLL = 8;
inline constexpr int UV_TIMER = 13;

// enum uv_poll_event.
inline constexpr int UV_READABLE = 1;
