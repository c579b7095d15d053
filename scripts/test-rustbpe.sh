#!/usr/bin/env bash
# Vocabularies by nanochat's rules are those of its own trainer, the package rustbpe: id for id, on real texts and on
# one full of ties. RUSTBPE_PYTHON=… uses that interpreter and installs nothing; RUSTBPE_BENCH=FILE also compares
# the time that both take to learn from a text, in alternating runs.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=target/rustbpe
python=${RUSTBPE_PYTHON:-$environment/bin/python}
if [ -z "${RUSTBPE_PYTHON:-}" ] && ! "$python" -c 'import rustbpe' 2> /dev/null; then
  if ! { python3 -m venv "$environment" && "$python" -m pip install --quiet rustbpe==0.1.0; } 2> target/rustbpe.log; then
    echo "skipped: vocabularies beside nanochat's (rustbpe cannot be installed; see target/rustbpe.log)"
    exit 0
  fi
fi
if [ -z "${ANEGPT:-}" ]; then
  cargo build --release --quiet -p anegpt
  ANEGPT=$PWD/target/release/anegpt
fi
# English, several languages with mathematics and code, and Rust.
data=../shared/data
texts=(ARCHITECTURE.md crates/anegpt/src/commands/tokenizer/samples crates/mil/src)
if [ -e "$data/shakespeare.txt" ]; then
  texts+=("$data/shakespeare.txt" "$data/tinystories-sample.txt")
fi
"$python" scripts/rustbpe_compare.py "$ANEGPT" "${texts[@]}"
if [ -n "${RUSTBPE_BENCH:-}" ]; then
  "$python" scripts/rustbpe_compare.py "$ANEGPT" --bench "$RUSTBPE_BENCH"
fi
