// The signal that takes a vCPU thread out of KVM_RUN.
#pragma once

// Its number. The handler is installed at the first call, for the whole process; it does nothing, and KVM_RUN is not
// restarted after it.
int KickSignal();
