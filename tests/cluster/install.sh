#!/usr/bin/env bash
# Installs Debian's SLURM and munge for the tests of tests/cluster; says what it does, and does nothing twice.
# It starts no service: the tests start daemons of their own, in a temporary folder, and stop them again.
set -euo pipefail

missing=()
for package in slurm-wlm munge; do
    if [[ $(dpkg-query --show --showformat '${Status}' "$package" 2> /dev/null) != "install ok installed" ]]; then
        missing+=("$package")
    fi
done
if ((${#missing[@]} == 0)); then
    echo "slurm-wlm and munge are installed: nothing to do"
    exit 0
fi
if ! command -v apt-get > /dev/null; then
    echo "error: ${missing[*]} missing and there is no apt-get; install SLURM and munge with this system's tool" >&2
    exit 1
fi
if ((EUID != 0)); then
    echo "error: ${missing[*]} missing; installing them needs root: sudo $0" >&2
    exit 1
fi

# A policy of 101 keeps the packages' scripts from starting services.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing ${missing[*]}"
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
echo "installed: slurm $(dpkg-query --show --showformat '${Version}' slurm-wlm), munge $(dpkg-query --show --showformat '${Version}' munge)"
