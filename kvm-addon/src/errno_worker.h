// System calls on another thread, as a promise.
#pragma once

#include <napi.h>

#include "errors.h"

// Execute() calls Fail() for what went wrong; the last one is what the promise is rejected with.
class ErrnoWorker : public Napi::AsyncWorker {
 public:
  // The promise of `worker`, which is queued and deletes itself.
  static Napi::Promise Run(ErrnoWorker* worker) {
    worker->Queue();
    return worker->deferred_.Promise();
  }

 protected:
  ErrnoWorker(Napi::Env env, const char* name) : AsyncWorker(env, name), deferred_(Napi::Promise::Deferred::New(env)) {}

  void Fail(int error, const char* syscall) {
    error_ = error;
    syscall_ = syscall;
  }
  // What the promise resolves to.
  virtual Napi::Value Outcome() { return Env().Undefined(); }
  void OnOK() override {
    if (error_ == 0) {
      deferred_.Resolve(Outcome());
    } else {
      deferred_.Reject(ErrnoError(Env(), error_, syscall_).Value());
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  int error_ = 0;
  const char* syscall_ = "";
};
