#!/usr/bin/env bash
# Make a virtual environment and install Frostline with some extras into it, at the versions of requirements.lock.
# Usage: scripts/setup.sh PYTHON VENV EXTRAS
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 venv=$2 extras=$3

fail() {
    printf 'Set-up failed: %s\n' "$@" >&2
    exit 1
}

[ -n "$python" ] || fail "no Python was found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 setup"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is too old or does not run; 3.11 or newer is needed: make PYTHON=/path/to/python3 setup"

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    echo "Making $venv with $("$python" --version) …"
    "$python" -m venv --clear "$venv" || fail "$python cannot make virtual environments (on Debian: apt install python3-venv)"
fi

echo "Installing Frostline [$extras]: about 6 GB and two minutes the first time …"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint requirements.lock --editable ".[$extras]" ||
    fail "packages could not be installed (see above). The first set-up needs the package index; later ones work offline."
