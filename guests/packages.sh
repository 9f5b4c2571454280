# Debian packages by lists in files, with comments after #: what guests/build needs, and in a clone what scripts/ installs.
# shellcheck shell=bash

# missing_packages LIST...: which of them are not installed.
missing_packages() {
  local package
  for package in $(sed 's/#.*//' "$@" | xargs -n1 | sort -u); do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed || echo "$package"
  done
}

# guest_packages NAME: the list of what building that guest needs.
guest_packages() {
  local guests own
  guests=$(dirname "${BASH_SOURCE[0]}")
  own=$guests/kernel/$1/packages.txt
  if [ -f "$own" ]; then echo "$own"; else echo "$guests/packages.txt"; fi
}
