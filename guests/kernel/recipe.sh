# The kernel: Debian's source package, tinyconfig, the fragments and patches of kernel/NAME (after those of the kernel
# that kernel/NAME/base names, if there is one), a strict check that Kconfig kept every line, and a stripped ELF.
# shellcheck shell=bash

kernel_source=/usr/src/linux-source-6.12.tar.xz

# The directories whose config and patches make up kernel NAME, the base first.
kernel_chain() {
  if [ -f "$here/kernel/$1/base" ]; then kernel_chain "$(cat "$here/kernel/$1/base")"; fi
  echo "$here/kernel/$1"
}

kernel_inputs() {
  local dir file
  if is_packaged "$1"; then
    packaged_inputs "$1"
    return
  fi
  echo "source $(dpkg-query -W -f '${Package} ${Version}' linux-source-6.12 2> /dev/null)"
  echo "compiler $(gcc --version | head -n 1)"
  echo "linker $(ld --version | head -n 1)"
  echo "bison $(bison --version | head -n 1)"
  echo "recipe $(sha256 "$here/kernel/recipe.sh")"
  echo "left packed $(sha256 "$here/kernel/left-packed")"
  for dir in $(kernel_chain "$1"); do
    for file in "$dir"/config "$dir"/patches/*.patch; do
      if [ -f "$file" ]; then echo "${file#"$here/"} $(sha256 "$file")"; fi # a variant may have no patches
    done
  done
}

# Lines of the files without their reasons.
kernel_lines() { sed -E 's/[[:space:]]+#.*//; /^#/d; /^[[:space:]]*$/d' "$@"; }

kernel_fragment() {
  local dir
  for dir in $(kernel_chain "$1"); do kernel_lines "$dir/config"; done
}

kernel_unpack() {
  local top
  top=$(basename "$kernel_source" .tar.xz)
  tar -xf "$kernel_source" -C "$1" --strip-components=1 -X <(kernel_lines "$here/kernel/left-packed" | sed "s|^|$top/|")
}

# A line that Kconfig dropped (a missing dependency, a misspelt name) is an error, not a surprise at run time.
kernel_check_config() {
  local option value lost=0
  while IFS== read -r option value; do
    if [ "$value" = n ]; then
      ! grep -q "^$option=" "$1" && continue
    else
      grep -qxF "$option=$value" "$1" && continue
    fi
    echo "guests/build: kernel configuration: $option=$value did not survive" >&2
    lost=1
  done < <(kernel_fragment "$2" | awk -F= '{ last[$1] = $0 } END { for (name in last) print last[name] }')
  [ $lost = 0 ] || exit 1
}

kernel_build() {
  local name=$1 work=$2 out=$3 dir patch jobs
  local source=$work/source object=$work/object
  if is_packaged "$name"; then
    packaged_build "$@"
    return
  fi
  local -a make=(make -C "$source" "O=$object" ARCH=x86_64 KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=tsvm
    KBUILD_BUILD_HOST=tsvm KBUILD_BUILD_VERSION=1 LOCALVERSION= KCFLAGS=-w) # looking for what to warn of takes time
  jobs=$(nproc)
  mkdir -p "$object"

  if [ ! -f "$work/patched" ]; then
    rm -rf "$source"
    mkdir -p "$source"
    run_long 'kernel: unpacking the source' "$work/unpack.log" true \
      kernel_unpack "$source"
    for dir in $(kernel_chain "$name"); do
      for patch in "$dir"/patches/*.patch; do
        [ -f "$patch" ] || continue
        patch -s -p1 -d "$source" < "$patch" || die "$patch does not apply"
      done
    done
    touch "$work/patched"
  fi

  log 'kernel: configuring'
  kernel_configure "$name" "$source" "$object" "${make[@]}" > "$work/config.log" 2>&1 || die "configuring failed: see $work/config.log"
  kernel_check_config "$object/.config" "$name"

  log "kernel: compiling with $jobs jobs; a few minutes, once"
  kernel_progress() { echo "compiling, $(find "$object" -name '*.o' | wc -l) objects"; }
  run_long kernel "$work/build.log" kernel_progress "${make[@]}" -s -j"$jobs" vmlinux bzImage

  # Two links of the same objects: the bzImage needs padding, a vmlinux does not (patch 0011).
  cmp -s "$object/System.map" "$object/System.map.unpadded" || die 'the vmlinux and the bzImage differ by more than padding'
  cp "$object/arch/x86/boot/bzImage" "$object/System.map" "$out/"
  objcopy --strip-all --remove-section=.comment "$object/vmlinux.unpadded" "$out/vmlinux"
  cp "$object/.config" "$out/config"
  cp "$object/include/config/kernel.release" "$out/release"
}

# What `make tinyconfig` does, at once; then the fragments.
kernel_configure() {
  local name=$1 source=$2 object=$3
  shift 3
  cat "$source"/kernel/configs/tiny{-base,}.config "$source/arch/x86/configs/tiny.config" > "$object/tiny.config" &&
    "$@" -s KCONFIG_ALLCONFIG=tiny.config allnoconfig &&
    kernel_fragment "$name" >> "$object/.config" &&
    rm "$object/include/config/auto.conf" && # else it is made a third time, by the build
    "$@" -s olddefconfig
}
