# The root image: ext4, sparse, written by mke2fs and debugfs, so that there is no loop mount, no root and no time of
# the host in it (mke2fs -d would copy the change times of a staging directory).
# shellcheck shell=bash

rootfs_inputs() {
  echo "busybox $(dpkg-query -W -f '${Version}' busybox-static 2> /dev/null) $(sha256 /bin/busybox)"
  echo "e2fsprogs $(dpkg-query -W -f '${Version}' e2fsprogs 2> /dev/null)"
  echo "init $(part_key init "$1")"
  echo "recipe $(sha256 "$here/rootfs/recipe.sh")"
  echo "rootfs/files $(sha256 "$here/rootfs/files")"
}

# debugfs commands from lines: dir NAME MODE; nod NAME MODE b|c MAJOR MINOR; slink NAME TARGET; file NAME MODE SOURCE;
# text NAME MODE LINE (\n allowed); applets DIRECTORY (a link for each applet of busybox).
rootfs_commands() {
  local work=$1 kind name a b c d applet n=0
  while read -r kind name a b c d; do
    case $kind in
      dir) printf 'mkdir %s\nsif %s mode 0%o\n' "$name" "$name" $((0040000 | a)) ;;
      nod)
        printf 'cd %s\nmknod %s %s %s %s\ncd /\n' "$(dirname "$name")" "$(basename "$name")" "$b" "$c" "$d"
        printf 'sif %s mode 0%o\n' "$name" $(($([ "$b" = b ] && echo 0060000 || echo 0020000) | a))
        ;;
      slink) printf 'symlink %s %s\n' "$name" "$a" ;;
      file | text)
        if [ "$kind" = text ]; then
          n=$((n + 1))
          printf '%b\n' "$b${c:+ $c}${d:+ $d}" > "$work/text$n"
          b=$work/text$n
        fi
        b=${b//'{INIT}'/$INIT}
        b=${b//'{BUSYBOX}'/$BUSYBOX}
        printf 'write %s %s\nsif %s mode 0%o\nsif %s uid 0\nsif %s gid 0\n' "$b" "$name" "$name" $((0100000 | a)) "$name" "$name"
        ;;
      applets)
        for applet in $("$BUSYBOX" --list | sort); do
          case $applet in busybox | init | linuxrc) continue ;; esac
          printf 'symlink %s/%s busybox\n' "$name" "$applet"
        done
        ;;
      '' | '#'*) ;;
      *) die "rootfs: what is \"$kind\"?" ;;
    esac
  done
}

rootfs_build() {
  local work=$2 image=$3/rootfs.ext4
  build_part init "$1"
  # No checksums of metadata: crc32c in the guest's kernel is slow where ring 0 is interpreted. A journal: it is a disk.
  rm -f "$image"
  mke2fs -q -t ext4 -b 4096 -N 2048 -m 0 -L tsvm-root -U 7473766d-0000-4000-8000-000000000001 \
    -O ^metadata_csum,^64bit,^resize_inode,^orphan_file -J size=4 \
    -E hash_seed=7473766d-0000-4000-8000-000000000002,lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0 \
    "$image" 32M
  INIT=$(part_dir init "$1")/init BUSYBOX=/bin/busybox rootfs_commands "$work" < "$here/rootfs/files" > "$work/commands"
  debugfs -w -f "$work/commands" "$image" > "$work/debugfs.log" 2>&1 || die "debugfs failed: see $work/debugfs.log"
  if grep -v '^debugfs' "$work/debugfs.log" | grep -qv '^Allocated inode'; then
    grep -v '^debugfs\|^Allocated inode' "$work/debugfs.log" >&2
    die "debugfs complained: see $work/debugfs.log"
  fi
  e2fsck -fn "$image" > "$work/e2fsck.log" 2>&1 || die "the image has errors: see $work/e2fsck.log"
  fallocate --dig-holes "$image"
}
