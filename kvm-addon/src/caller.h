// The user for whom a thread of a share makes a system call. All of it is state of the calling thread: raw system calls, since
// glibc's functions of the same names change every thread of the process.
#pragma once

#include <sys/types.h>

namespace caller {

// Fate of a call for a user that the process cannot be, as in a user namespace without that id.
enum class Otherwise {
  // It fails: what it makes would be another user's.
  kFail,
  // The thread stays who the process is.
  kStay,
};

// Makes the thread act as this user, without supplementary groups, which FUSE does not tell. Returns 0 or an errno.
//
// It keeps CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, since who may do what was decided by the guest's kernel, which knows the groups;
// the guest's root has CAP_CHOWN and CAP_FOWNER, too. Nobody has CAP_FSETID, so that setuid and setgid fall at every write, or
// CAP_MKNOD. Without the right to change its user, the thread stays who the process is.
int ActAs(uid_t uid, gid_t gid, Otherwise otherwise);

// Leaves the thread no capability: for what is open, nothing is checked, and setuid and setgid fall at every write. Returns 0 or an errno.
int ActWithoutRights();

}  // namespace caller
