#!/usr/bin/env bash
# CORE of small models, question by question, beside an independent computation in Python and f64.
# CORE_PYTHON=… uses that interpreter and installs nothing; ANEGPT=… is the program.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

packages=(numpy==2.3.5 pyyaml==6.0.4 tokenizers==0.23.3)
python_with "${CORE_PYTHON:-}" core 'numpy, tokenizers, yaml' "${packages[@]}" || {
  echo "skipped: CORE beside Python (packages cannot be installed; see target/core.log)"
  exit 0
}
build_anegpt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests=crates/anegpt/tests
models=("$tests/models/llama")
# Pieces with scores, and prompts that are longer than the model reads.
data=${ANEGPT_TEST_DATA:-../shared/data}
if [ -e "$data/stories260K.bin" ]; then
  "$ANEGPT" import "$data/stories260K.bin" --tokenizer "$data/tok512.bin" --out "$work/stories"
  sed 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 96/' "$work/stories/config.json" > "$work/config.json"
  cp -r "$work/stories" "$work/short"
  mv "$work/config.json" "$work/short/config.json"
  models+=("$work/stories" "$work/short")
else
  echo "skipped: CORE of real weights (no $data/stories260K.bin)"
fi
"$python" scripts/core_oracle.py "$ANEGPT" "$tests/core/bundle" "${models[@]}"
"$python" scripts/core_oracle.py --write "$work/expected.json" "$tests/core/bundle" "$tests/models/llama"
"$python" - "$work/expected.json" "$tests/core/expected.json" << 'PY'
import json, sys
def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(of) for key, of in value.items()}
    if isinstance(value, list):
        return [rounded(of) for of in value]
    return round(value, 9) if isinstance(value, float) else value
new, committed = (rounded(json.load(open(path))) for path in sys.argv[1:])
assert new == committed, "tests/core/expected.json is not what the script computes: write it again"
PY
