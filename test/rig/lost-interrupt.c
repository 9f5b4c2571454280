/*
 * A guest that makes the emulator lose its CPU's timer interrupt within seconds (README.md, "A lost interrupt"): it leaves and is entered
 * again all the time, with interrupts off and one waiting. After the seconds that it is told it says the longest time, in milliseconds, for
 * which a process beside it did not run. With the interrupt lost for good, nothing runs any more, and it says nothing.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY_BYTES = 65536, RUN_BYTES = 12288, APIC_SPURIOUS = 0xf0, TIMER_US = 200 };

static void need(long result, const char *what) {
  if (result >= 0) return;
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

/* Many timers, since each may meet the moment; then the end of the guest's process. */
static void watch(double seconds, pid_t guest) {
  double begin = now(), longest = 0;
  for (double before = begin, after; before - begin < seconds; before = after) {
    usleep(TIMER_US);
    after = now();
    if (after - before > longest) longest = after - before;
  }
  printf("%.0f\n", longest * 1000);
  fflush(stdout);
  kill(guest, SIGKILL);
}

int main(int count, char **words) {
  int kvm = open("/dev/kvm", O_RDWR);
  need(kvm, "/dev/kvm");
  int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  need(vm, "KVM_CREATE_VM");
  need(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY}; /* serves port 0x61 without a way to here */
  need(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
  unsigned char *memory = mmap(0, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memcpy(memory, "\xfa\xe4\x61\xeb\xfc", 5); /* cli; again: in al, 0x61; jmp again */
  struct kvm_userspace_memory_region region = {0, 0, 0, MEMORY_BYTES, (unsigned long)memory};
  need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  need(cpu, "KVM_CREATE_VCPU");
  struct kvm_run *run = mmap(0, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
  struct kvm_sregs special;
  need(ioctl(cpu, KVM_GET_SREGS, &special), "KVM_GET_SREGS");
  special.cs.base = special.cs.selector = 0;
  need(ioctl(cpu, KVM_SET_SREGS, &special), "KVM_SET_SREGS");
  struct kvm_regs registers = {.rip = 0, .rflags = 2};
  need(ioctl(cpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");
  struct kvm_lapic_state apic;
  need(ioctl(cpu, KVM_GET_LAPIC, &apic), "KVM_GET_LAPIC");
  *(unsigned *)(apic.regs + APIC_SPURIOUS) = 0x1ff; /* enabled */
  need(ioctl(cpu, KVM_SET_LAPIC, &apic), "KVM_SET_LAPIC");
  struct kvm_msi interrupt = {.address_lo = 0xfee00000, .data = 0x30};
  need(ioctl(vm, KVM_SIGNAL_MSI, &interrupt), "KVM_SIGNAL_MSI");

  pid_t guest = getpid();
  pid_t watcher = fork();
  need(watcher, "fork");
  if (watcher == 0) {
    watch(count > 1 ? atof(words[1]) : 20, guest);
    return 0;
  }
  need(ioctl(cpu, KVM_RUN, 0), "KVM_RUN");
  printf("the guest ended: exit %u\n", run->exit_reason);
  return 1;
}
