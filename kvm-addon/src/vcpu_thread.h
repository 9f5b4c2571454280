// The thread that runs one vCPU. It knows KVM_RUN and fast registers, and nothing of JavaScript.
#pragma once

#include "kvm_api.h"
#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "counters.h"
#include "fast_registers.h"

class VcpuThread {
 public:
  class Listener {
   public:
    // On the vCPU's thread. The vCPU stays out of KVM_RUN until Go().
    virtual void OnExit() = 0;
    virtual void OnStream(bool half_full) = 0;

   protected:
    ~Listener() = default;
  };

  // SAFETY: `run` is the mapped struct kvm_run, `counters` and `listener` belong to the Vcpu that owns this thread; all
  // outlive it, since Stop() joins. Between Go() and OnExit() this thread and KVM own `run`, apart from immediate_exit,
  // which Kick() writes at any time; outside of that JavaScript does.
  VcpuThread(uint32_t id, int vcpu_fd, kvm_run* run, Counters* counters, Listener* listener);
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;
  ~VcpuThread() { Stop(); }

  // Makes the thread, which then waits for Go(). Returns 0 or an errno.
  int Start();
  // `fast` must stay as it is until OnExit().
  void Go(const FastRegisters* fast);
  // The next return of KVM_RUN that is not an exit of the guest's becomes KVM_EXIT_INTR. `running`: between Go() and the
  // moment when the JavaScript thread learns of OnExit(); outside of that a signal would only disturb a sleep.
  void Kick(bool running);
  // Takes the thread out of KVM_RUN and joins it.
  void Stop();

  // errno of the KVM_RUN that ended the last run, or 0. Valid from OnExit() to Go().
  int error() const { return error_; }

 private:
  enum State : uint32_t { kIdle, kGo, kStop, kAsleep };

  void Main();
  bool AwaitGo();
  bool RunUntilExit();
  void Wake(State state);
  void LeaveKvmRun(bool running);
  std::atomic_ref<uint8_t> immediate_exit() const { return std::atomic_ref<uint8_t>(run_->immediate_exit); }

  const uint32_t id_;
  const int fd_;
  kvm_run* const run_;
  Counters* const counters_;
  Listener* const listener_;
  const FastRegisters* fast_ = nullptr;
  std::atomic<uint32_t> state_{kIdle};
  std::atomic<bool> kicked_{false};
  int error_ = 0;
  pthread_t thread_{};
  bool started_ = false;
};
