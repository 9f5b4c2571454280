# PID 1: five C files, no library.
# shellcheck shell=bash

init_flags=(-std=gnu11 -Os -Wall -Wextra -Werror -static -nostdlib -ffreestanding -fno-pie -no-pie -fno-stack-protector
  -fno-asynchronous-unwind-tables -fcf-protection=none -fno-ident)
# One segment, read, write and execute: one mapping to set up and the fewest page faults.
init_flags+=(-Wl,-N,--build-id=none,-z,noexecstack,-z,norelro,--no-warn-rwx-segments -s)

init_inputs() {
  echo "compiler $(gcc --version | head -n 1)"
  echo "linker $(ld --version | head -n 1)"
  echo "flags ${init_flags[*]}"
  echo "headers $(dpkg-query -W -f '${Package} ${Version}' linux-libc-dev)"
  for file in "$here"/init/*.[ch] "$here/agent/protocol.h"; do echo "${file#"$here/"} $(sha256 "$file")"; done
}

init_build() {
  # The directory is left out of the file, and so is the date.
  (cd "$here/init" && gcc "${init_flags[@]}" -o "$3/init" init.c root.c channel.c agent.c net.c)
}
