// The structures that KVM gets and sets whole, by name.
#pragma once

#include "kvm_api.h"

#include <cstddef>
#include <string_view>

struct StructIoctls {
  std::string_view name;
  size_t size;
  unsigned long get;
  const char* get_name;
  unsigned long set;
  const char* set_name;
};

#define STRUCT_IOCTLS(NAME, GET, SET) {#NAME, sizeof(struct NAME), GET, #GET, SET, #SET}

inline constexpr StructIoctls kVcpuStructs[] = {
    STRUCT_IOCTLS(kvm_regs, KVM_GET_REGS, KVM_SET_REGS),
    STRUCT_IOCTLS(kvm_sregs, KVM_GET_SREGS, KVM_SET_SREGS),
    STRUCT_IOCTLS(kvm_fpu, KVM_GET_FPU, KVM_SET_FPU),
    STRUCT_IOCTLS(kvm_xsave, KVM_GET_XSAVE, KVM_SET_XSAVE),
    STRUCT_IOCTLS(kvm_xcrs, KVM_GET_XCRS, KVM_SET_XCRS),
    STRUCT_IOCTLS(kvm_lapic_state, KVM_GET_LAPIC, KVM_SET_LAPIC),
    STRUCT_IOCTLS(kvm_mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE),
    STRUCT_IOCTLS(kvm_vcpu_events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS),
    STRUCT_IOCTLS(kvm_debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS),
};

inline constexpr StructIoctls kVmStructs[] = {
    STRUCT_IOCTLS(kvm_irqchip, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP),
    STRUCT_IOCTLS(kvm_pit_state2, KVM_GET_PIT2, KVM_SET_PIT2),
    STRUCT_IOCTLS(kvm_clock_data, KVM_GET_CLOCK, KVM_SET_CLOCK),
};

#undef STRUCT_IOCTLS
