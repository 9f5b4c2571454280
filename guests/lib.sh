# Shared by guests/build and the recipes. A recipe defines two functions, KIND_inputs NAME (lines "what value": all
# that the result depends on) and KIND_build NAME WORK OUT. The rest is here: keys, locks, progress, publishing.
# shellcheck shell=bash

guest_dir=${TSVM_GUEST_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tsvm/guests}
parts_dir=$guest_dir/parts
started=$SECONDS

# Everything that could put a date, a name or a language into a file.
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=0 E2FSPROGS_FAKE_TIME=1
unset KBUILD_OUTPUT KCFLAGS KAFLAGS MAKEFLAGS CROSS_COMPILE ARCH CFLAGS LDFLAGS
umask 022

log() { printf '[%4d s] %s\n' $((SECONDS - started)) "$*" >&2; }
die() {
  printf 'guests/build: %s\n' "$*" >&2
  exit 1
}
sha256() { sha256sum "$1" | cut -d ' ' -f 1; }
key_of() { sha256sum | cut -c 1-16; }
json_text() { sed 's/\\/\\\\/g; s/"/\\"/g' <<< "$1"; }

guest_exists() {
  [ -f "$here/kernel/$1/discovery" ] || [ -f "$here/kernel/$1/base" ] && return
  die "no guest is called \"$1\" (there are: $(cd "$here/kernel" && ls -d -- */ | tr -d '/' | xargs))"
}

# --- what must be installed --------------------------------------------------------------------------------------

# Looks for what guest NAME needs: the packages of its own list, if it has one, and a kernel that is itself a package.
need_packages() {
  local missing=() package list=$here/kernel/$1/packages.txt
  [ -f "$list" ] || list=$here/packages.txt
  while read -r package; do
    case $package in '' | '#'*) continue ;; esac
    dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed || missing+=("$package")
  done < "$list"
  [ ${#missing[@]} = 0 ] || die "Debian packages are missing: ${missing[*]}
  sudo apt-get install --no-install-recommends ${missing[*]}"
  if is_packaged "$1"; then find_packaged "$1"; fi
}

# --- parts -------------------------------------------------------------------------------------------------------

part_key() { "$1_inputs" "$2" | key_of; }
part_dir() { echo "$parts_dir/$1-$2-$(part_key "$1" "$2")"; }

# build_part KIND NAME: once for each key, whoever asks, however often it was killed on the way.
build_part() {
  local dir
  dir=$(part_dir "$1" "$2")
  [ -f "$dir/sums" ] && return
  with_lock "$1-$2" build_part_locked "$1" "$2" "$dir"
}

build_part_locked() {
  local kind=$1 name=$2 dir=$3 work out
  [ -f "$dir/sums" ] && return # another build made it while this one waited
  work=$guest_dir/work/$(basename "$dir")
  out=$work.out
  mkdir -p "$work"
  rm -rf "$out"
  mkdir -p "$out"
  explain_rebuild "$kind" "$name"
  "${kind}_build" "$name" "$work" "$out"
  "${kind}_inputs" "$name" > "$out/inputs"
  (cd "$out" && find . -type f ! -name sums ! -name inputs -printf '%P\n' | sort | xargs sha256sum) > "$work/sums"
  mv "$work/sums" "$out/sums"
  mkdir -p "$parts_dir"
  rm -rf "$dir"
  mv "$out" "$dir" # the step that publishes
  ln -sfn "$(basename "$dir")" "$parts_dir/last-$kind-$name"
  rm -rf "$work"
  log "$kind: done"
}

with_lock() {
  local lock=$guest_dir/work/$1.lock fd
  shift
  mkdir -p "$guest_dir/work"
  exec {fd}> "$lock"
  if ! flock -n "$fd"; then
    log "another build is at it (lock $lock); waiting"
    flock "$fd"
  fi
  "$@"
  exec {fd}>&-
}

# Which inputs have changed since this part was built last.
explain_rebuild() {
  local last=$parts_dir/last-$1-$2/inputs
  [ -f "$last" ] || return 0
  log "$1: inputs have changed:"
  diff <(sort "$last") <("$1_inputs" "$2" | sort) | sed -n 's/^</    was/p; s/^>/    now/p' >&2 || true
}

explain_difference() {
  if cmp -s <(tr -d '\0' < "$1" | head -c 0) /dev/null && [ "$(stat -c %s "$1")" != "$(stat -c %s "$2")" ]; then
    echo "          $(stat -c %s "$1") bytes before, $(stat -c %s "$2") now"
  fi
  if grep -qI . "$1"; then
    diff "$1" "$2" | head -n 20 | sed 's/^/          /'
  else
    echo "          $(cmp -l "$1" "$2" 2> /dev/null | wc -l) bytes differ, first: $(cmp "$1" "$2" 2>&1 | head -n 1)"
  fi
}

# run_long WHAT LOG COUNT-COMMAND COMMAND...: runs it with a line of progress now and then.
run_long() {
  local what=$1 logfile=$2 count=$3 pid last=$SECONDS
  shift 3
  "$@" > "$logfile" 2>&1 &
  pid=$!
  # shellcheck disable=SC2064
  trap "kill $pid 2> /dev/null; exit 130" INT TERM
  while kill -0 "$pid" 2> /dev/null; do
    sleep 1
    if ((SECONDS - last >= 15)); then
      last=$SECONDS
      log "$what: $($count)"
    fi
  done
  trap - INT TERM
  wait "$pid" || {
    tail -n 30 "$logfile" >&2
    die "$what failed; the whole log is $logfile"
  }
}

# --- what goes with a kernel: its command line and how it finds devices -----------------------------------------------------------------------

# The words of kernel/NAME/FILE, comments cut off, on one line; of the base's file if NAME has none of its own.
guest_setting() {
  local dir=$here/kernel/$1
  if [ -f "$dir/$2" ]; then
    sed 's/#.*//' "$dir/$2" | xargs
  elif [ -f "$dir/base" ]; then
    guest_setting "$(cat "$dir/base")" "$2"
  else
    die "kernel/$1 has no $2"
  fi
}
guest_settings() {
  guest_setting "$1" cmdline
  guest_setting "$1" discovery
}

# --- list and clean -------------------------------------------------------------------------------------------------

list_guests() {
  local dir current
  for dir in "$guest_dir"/*/; do
    dir=${dir%/}
    [ -f "$dir/manifest.json" ] && [ ! -L "$dir" ] || continue
    current=$(basename "$dir")
    current=${current%-*}
    [ "$(readlink "$guest_dir/$current")" = "$(basename "$dir")" ] && current+=' (current)'
    printf '%s\t%s\t%s\t%s\n' "$current" "${dir##*-}" "$(du -sb "$dir" | cut -f 1)" "$dir"
  done
}

clean_guests() {
  local dir keep
  [ -d "$guest_dir" ] || return 0
  if [ "$1" = --all ]; then
    rm -rf "${guest_dir:?}"
    return
  fi
  for dir in "$guest_dir"/*/; do
    dir=${dir%/}
    [ -f "$dir/manifest.json" ] && [ ! -L "$dir" ] || continue
    keep=$(basename "$dir")
    [ "$(readlink "$guest_dir/${keep%-*}")" = "$keep" ] || rm -rf "$dir"
  done
  # A part whose files no guest links to is of no use any more.
  for dir in "$parts_dir"/*/; do
    dir=${dir%/}
    [ -L "$dir" ] || [ -n "$(find "$dir" -type f -links +1 -print -quit)" ] || rm -rf "$dir"
  done
  find "$guest_dir/work" -mindepth 1 -maxdepth 1 ! -name '*.lock' -exec rm -rf {} + 2> /dev/null || true
}
