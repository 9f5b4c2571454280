# A kernel that is a package of Debian's, unpacked and not installed: what kernel/NAME/package names, with the modules that kernel/NAME/modules
# lists.
# shellcheck shell=bash

is_packaged() { [ -f "$here/kernel/$1/package" ]; }

# Lines of kernel/NAME/FILE without their reasons.
packaged_list() { sed -E 's/[[:space:]]*#.*//; /^$/d' "$here/kernel/$1/$2"; }

# Finds the newest kernel that apt knows, as "PACKAGE VERSION"; without its lists, the one that was taken last. Once: apt-cache takes half a second.
packaged=''
find_packaged() {
  local last=$parts_dir/last-kernel-$1/inputs
  packaged=$({ apt-cache show --no-all-versions "$(packaged_list "$1" package)" 2> /dev/null || true; } |
    sed -n 's/^Depends: \(linux-image-[^ ,]*\) (= \([^)]*\)).*/\1 \2/p' | head -n 1)
  if [ -z "$packaged" ] && [ -f "$last" ]; then packaged=$(sed -n 's/^package //p' "$last"); fi
  [ -n "$packaged" ] || die "apt knows no package $(packaged_list "$1" package): apt-get update (the guest \"$1\" needs Debian 12's lists)"
}

packaged_inputs() {
  echo "package $packaged"
  echo "recipe $(sha256 "$here/kernel/package.sh")"
  echo "kernel/$1/modules $(sha256 "$here/kernel/$1/modules")"
}

# packaged_modules UNPACKED NAME...: their files, each after those that it needs. The package has no modules.dep, but each module says it.
packaged_modules() {
  local root=$1 name file needs
  shift
  for name; do
    file=$(find "$root/lib/modules" -name "${name//[-_]/[-_]}.ko")
    [ -n "$file" ] || die "the kernel's package has no module $name"
    needs=$(tr '\0' '\n' < "$file" | sed -n 's/^depends=//p' | tr ',' ' ')
    # shellcheck disable=SC2086
    packaged_modules "$root" $needs
    echo "$file"
  done
}

packaged_build() {
  local name=$1 work=$2 out=$3 package=${packaged% *} version=${packaged#* } root=$2/root image start end file
  rm -rf "$root"
  mkdir -p "$out/modules"
  log "kernel: fetching $package $version"
  # As root, apt would fetch as a user of its own, who may not write here.
  (cd "$work" && rm -f ./*.deb && apt-get download -q -o APT::Sandbox::User=root "$package=$version") > "$work/fetch.log" 2>&1 ||
    die "cannot fetch $package $version: $(grep -m 1 '^E: ' "$work/fetch.log"); is there a network? apt-get update"
  log 'kernel: unpacking'
  mkdir -p "$root"
  dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -x -C "$root" --wildcards './boot/*' './lib/modules/*.ko' || die "cannot unpack $package"

  cp "$root"/boot/vmlinuz-* "$out/bzImage"
  cp "$root"/boot/System.map-* "$out/System.map"
  cp "$root"/boot/config-* "$out/config"
  basename "$root"/lib/modules/* > "$out/release"
  # Unpacked here, and not at each boot. The payload is at payload_offset (setup header, 0x248) from the end of the setup sectors; its last 4
  # bytes are its size. Documentation/arch/x86/boot.rst
  image=$out/bzImage
  field() { od -An -t"u$2" -j"$1" -N"$2" "$image" | tr -d ' '; }
  start=$((($(field 0x1f1 1) + 1) * 512 + $(field 0x248 4)))
  end=$((start + $(field 0x24c 4) - 4))
  head -c "$end" "$image" | tail -c +$((start + 1)) | xz -dc > "$out/vmlinux" || die "$package: its kernel is not packed with xz"

  # shellcheck disable=SC2046
  packaged_modules "$root" $(packaged_list "$name" modules) | awk '!seen[$0]++' > "$work/modules"
  while read -r file; do
    cp "$file" "$out/modules/"
    basename "$file" >> "$out/modules/order"
  done < "$work/modules"
}

# Lines of initramfs/files for the modules in directory $1, whose path may have blanks: {MODULES} stands for it.
packaged_initramfs_files() {
  local file
  echo 'dir /modules 0755'
  for file in order $(cat "$1/order"); do echo "file /modules/$file 0644 {MODULES}/$file"; done
}
