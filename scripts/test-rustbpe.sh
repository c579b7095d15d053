#!/usr/bin/env bash
# Vocabularies by nanochat's rules are those of its own trainer, the package rustbpe: id for id, on real texts and on
# one full of ties. RUSTBPE_PYTHON=… uses that interpreter and installs nothing; RUSTBPE_BENCH=FILE also compares
# the time that both take to learn from a text, in alternating runs.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

python_with "${RUSTBPE_PYTHON:-}" rustbpe rustbpe rustbpe==0.1.0 || {
  echo "skipped: vocabularies beside nanochat's (rustbpe cannot be installed; see target/rustbpe.log)"
  exit 0
}
build_anegpt
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
