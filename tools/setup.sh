#!/usr/bin/env bash
# setup.sh: make .venv from the hash-locked requirements, and install nginx where that needs no password.
# Run by `make setup` from the repository's root.
set -euo pipefail

least="3.11"

say() { printf 'setup: %s\n' "$*" >&2; }

find_python() { # the newest Python that the locked packages have wheels for
  local name
  for name in python3.13 python3.12 python3.11 python3.14 python3; do
    if "$name" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  say "expected Python $least or newer on PATH, found none; on Debian or Ubuntu: apt-get install python3 python3-venv"
  exit 1
}

make_venv() {
  local python
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    if ! "$python" -m venv --clear .venv; then
      rm -rf .venv
      say "this Python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv"
      exit 1
    fi
  fi
  say "installing the locked packages (a minute or two)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
}

install_nginx() {
  if PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v nginx >/dev/null; then return; fi
  local as_root=()
  if [[ $(id -u) != 0 ]]; then as_root=(sudo -n); fi
  if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    say "installing nginx from the machine's packages"
    if install_nginx_package "${as_root[@]}"; then return; fi
  fi
  say "nginx is missing and cannot be installed from here: gunicorn alone will answer (apt-get install nginx-light)"
}

install_nginx_package() { # AS_ROOT...; the package must not start a web server of its own
  local policy=/usr/sbin/policy-rc.d ours="" done=0
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "$@" tee "$policy" >/dev/null && "$@" chmod +x "$policy" && ours=yes
  fi
  { "$@" apt-get update -qq && "$@" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; } 2>/dev/null || done=1
  if [[ $ours ]]; then "$@" rm -f "$policy"; fi
  return "$done"
}

make_venv
install_nginx
touch .venv/.installed
