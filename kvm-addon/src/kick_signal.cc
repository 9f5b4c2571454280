#include "kick_signal.h"

#include <csignal>

#include <mutex>

namespace {
// Real-time signals are free in Node and V8; the first few are often taken by libraries.
constexpr int kOffset = 7;
std::once_flag installed;
}  // namespace

int KickSignal() {
  const int number = SIGRTMIN + kOffset;
  std::call_once(installed, [number] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigemptyset(&action.sa_mask);
    ::sigaction(number, &action, nullptr);
  });
  return number;
}
