// Failed system calls as JavaScript errors.
#pragma once

#include <napi.h>
#include <sys/ioctl.h>

// An Error with `code` ('EINVAL'), `errno` (negative, as Node's own) and `syscall`.
Napi::Error ErrnoError(Napi::Env env, int error, const char* syscall);

// ioctl(2), again when a signal interrupted it: KVM_CREATE_VM and others do get interrupted.
int RepeatedIoctl(int fd, unsigned long request, unsigned long argument);

// The same; throws when it failed.
int CheckedIoctl(Napi::Env env, int fd, unsigned long request, const char* name, unsigned long argument);

inline unsigned long IoctlArgument(unsigned long value) { return value; }
inline unsigned long IoctlArgument(const void* pointer) { return reinterpret_cast<unsigned long>(pointer); }

#define IOCTL(env, fd, REQUEST, argument) CheckedIoctl(env, fd, REQUEST, #REQUEST, IoctlArgument(argument))
