#!/usr/bin/env bash
# Builds the wheel, installs it in a fresh virtual environment, and tests it there from outside the
# repository. Says what it skips.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v "$python" > /dev/null; then
  echo "skipped: Python tests (no $python)"
  exit 0
fi
if ! "$python" -m venv "$work/venv" > "$work/log" 2>&1; then
  echo "skipped: Python tests ($python has no venv: install python3-venv)"
  exit 0
fi
pip=("$work/venv/bin/pip" --quiet --disable-pip-version-check)
if ! "${pip[@]}" install numpy 'setuptools>=77' > "$work/log" 2>&1; then
  tail -n 2 "$work/log"
  echo "skipped: Python tests (NumPy cannot be installed)"
  exit 0
fi
"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$work" ./python
echo "wheel: $(cd "$work" && ls anegpt-*.whl)"
"${pip[@]}" install --no-deps "$work"/anegpt-*.whl
cd "$work"
if "${pip[@]}" install mypy > "$work/log" 2>&1; then
  "$work/venv/bin/mypy" --strict "$root"/python/src/anegpt "$root"/python/src/_anegpt_command.py
else
  echo "skipped: types of the Python package (mypy cannot be installed)"
fi
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='' \
  "$work/venv/bin/python" -W error -m unittest discover --start-directory "$root/python/tests"
