# Shared by what is in scripts/: errors of one line; and for setup and quickstart, steps that show how far they are.
# shellcheck shell=bash

# shellcheck source=guests/packages.sh
source "$(dirname "${BASH_SOURCE[0]}")/../guests/packages.sh"

die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# newer_than STAMP PATH...: whether any file was changed, made or removed since.
newer_than() { [ ! -e "$1" ] || [ -n "$(find "${@:2}" -newer "$1" -print -quit)" ]; }

# is_taken_as_it_is GUEST: it was built, and what would build it is not installed: to run it, nothing else is needed.
is_taken_as_it_is() { [ -e "$(guests/build directory)/$1" ] && [ -n "$(missing_packages "$(guest_packages "$1")")" ]; }

# A step's command runs in a session of its own: Ctrl-C comes to this script only, which ends the command, or waits for it if it must not be
# cut short.
running='' whole='' log=''

start_log() {
  log=$(mktemp "${TMPDIR:-/tmp}/tsvm-setup.XXXXXX") || exit 1
  trap 'rm -f "$log"' EXIT
  trap 'end_by 130' INT
  trap 'end_by 143' TERM HUP
}

end_by() {
  trap '' INT TERM HUP
  if [ -n "$running" ] && [ -z "$whole" ]; then
    kill -- "-$running" 2> /dev/null
  elif [ -n "$running" ]; then
    printf '\n%s: ending, when the packages are installed whole\n' "${0##*/}" >&2
  fi
  [ -z "$running" ] || wait "$running"
  printf '\n%s: ended; what is done is kept, the rest begins anew next time\n' "${0##*/}" >&2
  exit "$1"
}

# step WHAT COMMAND...: runs it, and says each second on a terminal, else each 15 seconds, what it last said.
step() {
  local what=$1 begun=$SECONDS shown=$SECONDS every=15 status=0
  shift
  [ -n "$log" ] || start_log
  [ ! -t 2 ] || every=1
  printf '[%3d s] %s\n' "$SECONDS" "$what" >&2
  setsid "$@" > "$log" 2>&1 < /dev/null &
  running=$!
  while kill -0 "$running" 2> /dev/null; do
    sleep 0.2
    ((SECONDS - shown >= every)) || continue
    shown=$SECONDS
    say_progress "$((SECONDS - begun))"
  done
  wait "$running" || status=$?
  running=''
  [ ! -t 2 ] || printf '\r\e[K' >&2
  [ $status = 0 ] || die "$what: $(why_failed $status)"
}

say_progress() {
  local last
  last=$(tr '\r' '\n' < "$log" | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c1-"$((${COLUMNS:-80} - 12))") || true
  if [ -t 2 ]; then printf '\r\e[K  %3d s  %s' "$1" "$last" >&2; else printf '  %3d s  %s\n' "$1" "$last" >&2; fi
}

# The cause in one line where it is a usual one; else the end of what the command said.
why_failed() {
  if grep -qiE 'no space left|ENOSPC|not enough free space|disk full' "$log"; then
    echo "the disk is full: $(df -h --output=avail,target . / "${TMPDIR:-/tmp}" | tail -n +2 | sort -u | while read -r left at; do printf '%s has %s left, ' "$at" "$left"; done)make room and start again"
  elif grep -q 'Unable to locate package' "$log"; then
    echo "apt $(grep -m 1 -o 'Unable to locate package.*' "$log" | sed 's/^Unable to locate/knows no/'): is there a network, and are these Debian 12's lists, bookworm-security's too? apt-get update"
  elif grep -qE 'Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|Network is unreachable|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT' "$log"; then
    echo "no network: $(grep -m 1 -oE "(Temporary failure resolving|Could not resolve|Could not connect to|Unable to connect to) [^ ]+|Network is unreachable|(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT)[^,]*" "$log")"
  else
    printf 'it ended with %s, and said last:\n' "$1"
    tail -n 20 "$log" | sed 's/^/  /'
  fi
}

# --- the host -----------------------------------------------------------------------------------------------------

# What tsvm is built on; each reason not to is one line.
check_host() {
  [ "$(uname -sm)" = 'Linux x86_64' ] || die "tsvm runs on Linux on x86-64, not on $(uname -sm)"
  command -v dpkg-query > /dev/null && command -v apt-get > /dev/null || die 'this is not Debian: set-up knows Debian 12 only'
  command -v node > /dev/null || die 'node is missing: install Node 24'
  node -e 'const [a, b] = process.versions.node.split("."); process.exit((a == 20 && b >= 17) || (a == 22 && b >= 2) || a > 22 ? 0 : 1)' ||
    die "Node $(node --version) is too old, or of a line without long-term support: install Node 24"
  command -v npm > /dev/null || die 'npm is missing: it comes with Node; on Debian: apt-get install npm'
}

free_gib() { df -BG --output=avail . | tail -n 1 | tr -dc 0-9; }
