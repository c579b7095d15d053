#!/usr/bin/env bash
# Parquet files of every kind that pyarrow writes hold the texts that went in. PYARROW_PYTHON=… uses that interpreter
# and installs nothing; ANEGPT=… uses that program.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=target/pyarrow
python=${PYARROW_PYTHON:-$environment/bin/python}
if [ -z "${PYARROW_PYTHON:-}" ] && ! "$python" -c 'import pyarrow' 2> /dev/null; then
  mkdir -p target
  if ! { python3 -m venv "$environment" && "$python" -m pip install --quiet 'pyarrow>=18'; } 2> target/pyarrow.log; then
    echo "skipped: Parquet files of pyarrow (it cannot be installed; see target/pyarrow.log)"
    exit 0
  fi
fi
if [ -z "${ANEGPT:-}" ]; then
  cargo build --release --quiet -p anegpt
  ANEGPT=$PWD/target/release/anegpt
fi
"$python" scripts/parquet_compare.py "$ANEGPT"
