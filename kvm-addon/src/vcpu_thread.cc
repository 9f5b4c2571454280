#include "vcpu_thread.h"

#include <linux/futex.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>

#include "kick_signal.h"

namespace {

// glibc takes thread-local storage from the stack as well; of the rest a few pages are touched.
constexpr size_t kStackBytes = 128 * 1024;

long Futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  return ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation | FUTEX_PRIVATE_FLAG, value, nullptr,
                   nullptr, 0);
}

}  // namespace

VcpuThread::VcpuThread(uint32_t id, int vcpu_fd, kvm_run* run, Counters* counters, Listener* listener)
    : id_(id), fd_(vcpu_fd), run_(run), counters_(counters), listener_(listener) {}

int VcpuThread::Start() {
  // The thread takes no signal but the kick: the others are for the threads of Node. It inherits the mask.
  const int kick = KickSignal();
  sigset_t mask, old_mask;
  sigfillset(&mask);
  sigdelset(&mask, kick);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_sigmask(SIG_SETMASK, &mask, &old_mask);
  const int error = pthread_create(
      &thread_, &attributes,
      [](void* self) -> void* {
        static_cast<VcpuThread*>(self)->Main();
        return nullptr;
      },
      this);
  pthread_sigmask(SIG_SETMASK, &old_mask, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) return error;
  started_ = true;
  char name[16];
  std::snprintf(name, sizeof name, "vcpu-%u", id_);
  pthread_setname_np(thread_, name);
  return 0;
}

void VcpuThread::Go(const FastRegisters* fast) {
  fast_ = fast;
  Wake(kGo);
}

void VcpuThread::Kick(bool running) {
  // In this order: whoever sees the signal or immediate_exit must find kicked_ set.
  kicked_.store(true);
  LeaveKvmRun(running);
}

void VcpuThread::Stop() {
  if (!started_) return;
  Wake(kStop);
  LeaveKvmRun(true);
  pthread_join(thread_, nullptr);
  started_ = false;
}

// immediate_exit catches a thread that is on its way into KVM_RUN, the signal one that is inside.
void VcpuThread::LeaveKvmRun(bool running) {
  immediate_exit().store(1);
  if (running) pthread_kill(thread_, KickSignal());
}

void VcpuThread::Wake(State state) {
  if (state_.exchange(state) == kAsleep) Futex(state_, FUTEX_WAKE, 1);
}

// False: stop.
bool VcpuThread::AwaitGo() {
  for (;;) {
    uint32_t seen = kGo;
    if (state_.compare_exchange_strong(seen, kIdle)) return true;
    if (seen == kStop) return false;
    if (seen == kIdle && !state_.compare_exchange_strong(seen, kAsleep)) continue;
    Futex(state_, FUTEX_WAIT, kAsleep);
  }
}

void VcpuThread::Main() {
  counters_->Set(Counters::kThreadId, ::gettid());
  while (AwaitGo() && RunUntilExit()) listener_->OnExit();
}

// False: stop. Otherwise JavaScript has to see the exit.
bool VcpuThread::RunUntilExit() {
  for (;;) {
    const int result = ::ioctl(fd_, KVM_RUN, 0);
    counters_->Add(Counters::kRuns);
    if (result < 0) {
      const int error = errno;
      // An application processor that received INIT: it waits for SIPI in the next KVM_RUN.
      if (error == EAGAIN) continue;
      if (error == EINTR) {
        counters_->Add(Counters::kInterrupted);
        // Cleared before kicked_ is looked at: a kick that comes in between is either seen here or leaves immediate_exit set
        // and is then an interruption without kicked_, which runs on.
        immediate_exit().store(0);
        if (state_.load() == kStop) return false;
        if (!kicked_.exchange(false)) continue;
        run_->exit_reason = KVM_EXIT_INTR;
        error_ = 0;
      } else {
        error_ = error;
      }
      break;
    }
    error_ = 0;
    if (run_->exit_reason < Counters::kReasonCount) {
      counters_->Add(Counters::kReasons + static_cast<int>(run_->exit_reason));
    }
    const auto outcome = fast_->Serve(*run_, *counters_);
    if (outcome == FastRegisters::Outcome::kUnserved) break;
    if (outcome != FastRegisters::Outcome::kServed) {
      listener_->OnStream(outcome == FastRegisters::Outcome::kStreamedHalfFull);
    }
  }
  counters_->Add(Counters::kPosted);
  return true;
}
