#include "caller.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace caller {
namespace {

constexpr uint64_t Bit(int capability) { return uint64_t{1} << capability; }

constexpr uint64_t kAnybody = Bit(CAP_DAC_OVERRIDE) | Bit(CAP_DAC_READ_SEARCH);
constexpr uint64_t kRoot = kAnybody | Bit(CAP_CHOWN) | Bit(CAP_FOWNER);
constexpr uint64_t kSwitching = Bit(CAP_SETUID) | Bit(CAP_SETGID);

// Identity of the calling thread at present.
class Thread {
 public:
  Thread() {
    // What the guest makes has the mode that its kernel asked for: the process's umask stays what it is, for everybody else.
    if (::unshare(CLONE_FS) == 0) ::umask(0);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    if (::syscall(SYS_capget, &header, data) != 0) return;
    permitted_ = data[0].permitted | uint64_t{data[1].permitted} << 32;
    effective_ = data[0].effective | uint64_t{data[1].effective} << 32;
    inheritable_ = data[0].inheritable | uint64_t{data[1].inheritable} << 32;
    switches_ = ::geteuid() == 0 && (permitted_ & kSwitching) == kSwitching;
  }

  int ActAs(uid_t uid, gid_t gid, Otherwise otherwise) {
    if (switches_ && !(known_ && uid == uid_ && gid == gid_)) {
      known_ = false;
      if (!SetEffective(permitted_)) return EPERM;
      ::syscall(SYS_setgroups, 0, nullptr);
      known_ = Set(SYS_setfsgid, gid) && Set(SYS_setfsuid, uid);
      if (!known_ && otherwise == Otherwise::kFail) return EPERM;
      if (!known_ && !(Set(SYS_setfsgid, ::getegid()) && Set(SYS_setfsuid, ::geteuid()))) return EPERM;
      // setfsuid() has added or taken capabilities of its own accord.
      effective_ = ~uint64_t{0};
      uid_ = uid;
      gid_ = gid;
    }
    return SetEffective(permitted_ & (uid == 0 ? kRoot : kAnybody)) ? 0 : EPERM;
  }

  int ActWithoutRights() { return SetEffective(0) ? 0 : EPERM; }

 private:
  // Both return what was there before, and never an error: the second call tells.
  static bool Set(long call, unsigned id) {
    ::syscall(call, id);
    return static_cast<unsigned>(::syscall(call, ~0U)) == id;
  }

  bool SetEffective(uint64_t capabilities) {
    if (effective_ == capabilities) return true;
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    for (int i = 0; i < 2; i++) {
      data[i].effective = static_cast<uint32_t>(capabilities >> 32 * i);
      data[i].permitted = static_cast<uint32_t>(permitted_ >> 32 * i);
      data[i].inheritable = static_cast<uint32_t>(inheritable_ >> 32 * i);
    }
    if (::syscall(SYS_capset, &header, data) != 0) return false;
    effective_ = capabilities;
    return true;
  }

  uint64_t permitted_ = 0;
  uint64_t effective_ = 0;
  uint64_t inheritable_ = 0;
  bool switches_ = false;
  bool known_ = false;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
};

Thread& Current() {
  thread_local Thread thread;
  return thread;
}

}  // namespace

int ActAs(uid_t uid, gid_t gid, Otherwise otherwise) { return Current().ActAs(uid, gid, otherwise); }

int ActWithoutRights() { return Current().ActWithoutRights(); }

}  // namespace caller
