# The agent (docs/agent.md): a static program without a library, /agent of the initramfs.
# shellcheck shell=bash

# What it reads comes from outside: unlike init's, its memory is never writable and executable at once.
agent_flags=(-std=gnu11 -Os -Wall -Wextra -Werror -static -nostdlib -ffreestanding -fno-builtin -fno-pie -no-pie -fno-stack-protector
  -fno-asynchronous-unwind-tables -fcf-protection=none -fno-ident)
agent_flags+=(-Wl,--build-id=none,-z,noseparate-code,-z,noexecstack,-z,norelro -s)

agent_inputs() {
  echo "compiler $(gcc --version | head -n 1)"
  echo "linker $(ld --version | head -n 1)"
  echo "flags ${agent_flags[*]}"
  echo "headers $(dpkg-query -W -f '${Package} ${Version}' linux-libc-dev)"
  echo "init/sys.h $(sha256 "$here/init/sys.h")"
  for file in "$here"/agent/*.[ch]; do echo "agent/${file##*/} $(sha256 "$file")"; done
}

agent_build() {
  # The directory is left out of the file, and so is the date.
  (cd "$here/agent" && gcc "${agent_flags[@]}" -o "$3/agent" ./*.c)
}
