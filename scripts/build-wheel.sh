#!/usr/bin/env bash
# Builds the Python wheel of this platform into DIR (default: target/wheels), with cargo for the
# library and pip for the wheel.
#
#   scripts/build-wheel.sh [DIR]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/target/wheels}
python=${PYTHON:-python3}
mkdir -p "$out"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$out" "$root/python"
ls "$out"/anegpt-*.whl
