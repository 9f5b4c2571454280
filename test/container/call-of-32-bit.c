/* Makes a system call of 32-bit programs, getpid, from a 64-bit one. */
void _start(void) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
  __asm__ volatile("syscall" : : "a"(60L), "D"(result < 0) : "rcx", "r11", "memory");
  __builtin_unreachable();
}
