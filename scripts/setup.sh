#!/usr/bin/env bash
# Make a virtual environment and install Frostline with some extras into it, at the versions of requirements.lock.
# Usage: scripts/setup.sh PYTHON VENV EXTRAS; an empty PYTHON: the newest that works.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 venv=$2 extras=$3

fail() {
    printf 'Set-up failed: %s\n' "$@" >&2
    exit 1
}

# A name on the path need not be a Python that runs, and one that runs need not be able to make environments.
works() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if [ -n "$python" ]; then
    works "$python" || fail "$python does not run, is older than 3.11, or has no venv (on Debian: apt install python3-venv)."
else
    for python in python3.14 python3.13 python3.12 python3.11 python3 ''; do
        [ -z "$python" ] || ! works "$python" || break
    done
    [ -n "$python" ] || fail "no Python 3.11 or newer with venv was found (on Debian: apt install python3-venv). Name one: make PYTHON=… setup"
fi

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    echo "Making $venv with $("$python" --version) …"
    "$python" -m venv --clear "$venv" || fail "$python could not make $venv."
fi

echo "Installing Frostline [$extras]: about 7 GB and two minutes the first time …"
# The packages as they come lie in the temporary folder beside what is made of them.
for folder in "$venv" "${TMPDIR:-/tmp}"; do
    free=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1048576))
    [ "$free" -ge 12 ] || echo "Only $free GB are free on the disk of $folder: a first set-up on Linux takes 12 while it runs." >&2
done
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint requirements.lock --editable ".[$extras]" ||
    fail "packages could not be installed (see above). The first set-up needs the package index; later ones work offline."
