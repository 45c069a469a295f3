#!/usr/bin/env bash
# setup.sh: make .venv from the hash-locked requirements, and install nginx where that needs no password.
# setup.sh browser: install Chromium and its driver, with which the tests look at the endpoint's page.
# setup.sh registry: install Debian's docker-registry, to which the Docker tests and rehearsals push.
# Run by `make setup` from the repository's root.
set -euo pipefail

least="3.11"

say() { printf 'setup: %s\n' "$*" >&2; }

find_python() { # the newest Python that the locked packages have wheels for
  local name older=""
  for name in python3.13 python3.12 python3.11 python3.14 python3; do
    if "$name" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  older=$(python3 --version 2>/dev/null) && older+=" ($(command -v python3))"
  say "expected Python $least or newer on PATH, found ${older:-none}; Debian 12, Ubuntu 24.04 and newer have it:" \
    "apt-get install python3 python3-venv"
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
  local all
  all=$(grep -c '^[A-Za-z0-9].*==' requirements/dev.txt)
  say "installing $all locked packages into .venv, about 1 GB: two or three minutes, and more on a slow network"
  .venv/bin/python -m pip install --progress-bar off --disable-pip-version-check --require-hashes \
    -r requirements/dev.txt 2>&1 | told "$all"
}

told() { # ALL; what pip is at, and its errors after a line of ours
  local line fetched=0 failed=""
  while IFS= read -r line; do
    case $failed$line in
      Collecting* | Processing*) if ((++fetched % 10 == 0)); then say "fetched $fetched of $1"; fi ;;
      "Installing collected packages"*) say "fetched all; writing them takes about as long" ;;
      *"Retrying (Retry(total=4"*) say "the package index does not answer; pip tries again for a while" ;;
      ERROR*)
        failed=yes
        say "the packages were not installed; pip needs a network, or an index of yours (PIP_INDEX_URL). It says:"
        printf '%s\n' "$line" >&2 ;;
      yes*) printf '%s\n' "$line" >&2 ;;
    esac
  done
}

install_program() { # PROGRAM PACKAGE WITHOUT_IT
  if PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v "$1" >/dev/null; then return; fi
  local as_root=()
  if [[ $(id -u) != 0 ]]; then as_root=(sudo -n); fi
  if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    say "installing $1 from the machine's packages"
    if install_package "$2" "${as_root[@]}"; then return; fi
  fi
  say "$1 is missing and cannot be installed from here: $3 (apt-get install $2)"
}

install_package() { # PACKAGE AS_ROOT...; the package must not start a server of its own
  local package=$1 policy=/usr/sbin/policy-rc.d ours="" done=0
  shift
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "$@" tee "$policy" >/dev/null && "$@" chmod +x "$policy" && ours=yes
  fi
  { "$@" apt-get update -qq && "$@" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null; } 2>/dev/null || done=1
  if [[ $ours ]]; then "$@" rm -f "$policy"; fi
  return "$done"
}

if [[ ${1:-} == registry ]]; then
  install_program docker-registry docker-registry "images cannot be pushed on this machine"
  exit
fi
if [[ ${1:-} == browser ]]; then
  install_program chromium chromium "no test looks at the endpoint's page"
  install_program chromedriver chromium-driver "no test looks at the endpoint's page"
  exit
fi
make_venv
install_program nginx nginx-light "gunicorn alone will answer"
touch .venv/.installed
