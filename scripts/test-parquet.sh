#!/usr/bin/env bash
# Parquet files of every kind that pyarrow writes hold the texts that went in. PYARROW_PYTHON=… uses that interpreter
# and installs nothing; ANEGPT=… uses that program.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

python_with "${PYARROW_PYTHON:-}" pyarrow pyarrow pyarrow==26.0.1 || {
  echo "skipped: Parquet files of pyarrow (it cannot be installed; see target/pyarrow.log)"
  exit 0
}
build_anegpt
"$python" scripts/parquet_compare.py "$ANEGPT"
