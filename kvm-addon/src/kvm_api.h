// <linux/kvm.h>, with the sizes that the kernel knows.
//
// An empty struct has one byte in C++. Headers before Linux 6.7 build flexible arrays out of one, which makes structures
// longer, and with them the ioctl numbers wrong: their macro is replaced by what later headers have for C++.
#pragma once

#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#include <linux/kvm.h>

static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_msr_list) == 4);
static_assert(sizeof(kvm_irq_routing) == 8);
static_assert(sizeof(kvm_xsave) == 4096);
static_assert(sizeof(kvm_run) == 2352);
