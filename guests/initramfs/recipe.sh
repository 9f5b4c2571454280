# The initramfs: a newc cpio archive, not compressed, from the list in initramfs/files. Written here, entry by entry, so
# that nobody needs to be root for the device nodes and no date or inode number of the host gets in.
# The format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source.
# shellcheck shell=bash

initramfs_inputs() {
  if is_packaged "$1"; then echo "modules $(part_key kernel "$1")"; fi
  echo "busybox $(dpkg-query -W -f '${Version}' busybox-static 2> /dev/null) $(sha256 /bin/busybox)"
  echo "init $(part_key init "$1")"
  echo "agent $(part_key agent "$1")"
  echo "recipe $(sha256 "$here/initramfs/recipe.sh")"
  echo "initramfs/files $(sha256 "$here/initramfs/files")"
}

cpio_pad() { head -c $(((4 - $1 % 4) % 4)) /dev/zero; }

# cpio_entry NAME MODE BYTES MAJOR MINOR: the header; the data come after it. Data of a page or more begin at a page
# boundary, as the default kernel wants them (kernel/default/patches/0013): more NUL bytes after the name, which may have
# 4096 bytes in all. Where that is not enough, the kernel copies the file.
cpio_entry() {
  local name=$1 mode=$2 bytes=$3 major=$4 minor=$5 name_bytes=$((${#1} + 1)) gap
  cpio_inode=$((cpio_inode + 1))
  gap=$(((4096 - (cpio_at + 110 + name_bytes) % 4096) % 4096))
  if ((bytes >= 4096 && name_bytes + gap <= 4096)); then name_bytes=$((name_bytes + gap)); fi
  # magic, inode, mode, uid, gid, links, time, bytes, device of the file, device of the node, bytes of the name, checksum
  printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X' \
    $cpio_inode $((mode)) 0 0 1 0 "$bytes" 0 0 "$major" "$minor" "$name_bytes" 0
  printf '%s' "$name"
  head -c $((name_bytes - ${#name})) /dev/zero
  cpio_pad $((110 + name_bytes))
  cpio_at=$((cpio_at + (110 + name_bytes + 3) / 4 * 4 + (bytes + 3) / 4 * 4))
}

# Lines: dir NAME MODE; nod NAME MODE b|c MAJOR MINOR; slink NAME TARGET; file NAME MODE SOURCE.
cpio_archive() {
  local kind name a b c d bytes
  cpio_inode=0 cpio_at=0
  while read -r kind name a b c d; do
    name=${name#/}
    case $kind in
      dir) cpio_entry "$name" $((0040000 | a)) 0 0 0 ;;
      nod) cpio_entry "$name" $(($([ "$b" = b ] && echo 0060000 || echo 0020000) | a)) 0 "$c" "$d" ;;
      slink)
        cpio_entry "$name" 0120777 ${#a} 0 0
        printf '%s' "$a"
        cpio_pad ${#a}
        ;;
      file)
        b=${b//'{INIT}'/$INIT}
        b=${b//'{AGENT}'/$AGENT}
        b=${b//'{BUSYBOX}'/$BUSYBOX}
        b=${b//'{MODULES}'/$MODULES}
        bytes=$(stat -c %s "$b")
        cpio_entry "$name" $((0100000 | a)) "$bytes" 0 0
        cat "$b"
        cpio_pad "$bytes"
        ;;
      '' | '#'*) ;;
      *) die "initramfs: what is \"$kind\"?" ;;
    esac
  done
  cpio_entry 'TRAILER!!!' 0 0 0 0
}

initramfs_build() {
  local INIT AGENT BUSYBOX=/bin/busybox MODULES=''
  build_part init "$1"
  INIT=$(part_dir init "$1")/init
  build_part agent "$1"
  AGENT=$(part_dir agent "$1")/agent
  if is_packaged "$1"; then
    build_part kernel "$1"
    MODULES=$(part_dir kernel "$1")/modules
  fi
  {
    cat "$here/initramfs/files"
    [ -z "$MODULES" ] || packaged_initramfs_files "$MODULES"
  } | cpio_archive > "$3/initramfs.cpio"
}
