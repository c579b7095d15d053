#!/usr/bin/env bash
# A checkpoint of ours loads, computes the same and stops in other programs: transformers reads its files,
# mlx-lm (on the CPU) and, where torch is there, transformers generate from it.
# PEERS_PYTHON=… uses that interpreter and installs nothing; PEERS_TORCH=1 installs torch too (gigabytes).
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(mlx==0.32.4 mlx-lm==0.32.2 transformers==5.24.0)
[ "$(uname)" = Darwin ] || packages+=(mlx-cpu==0.32.4)
[ -z "${PEERS_TORCH:-}" ] || packages+=(torch==2.15.0)
environment=target/peers
python=${PEERS_PYTHON:-$environment/bin/python}
if [ -z "${PEERS_PYTHON:-}" ] && ! "$python" -c 'import mlx_lm' 2> /dev/null; then
  if ! { python3 -m venv "$environment" && "$python" -m pip install --quiet "${packages[@]}"; } 2> target/peers.log; then
    echo "skipped: other programs (mlx-lm and transformers cannot be installed; see target/peers.log)"
    exit 0
  fi
fi

cargo build --release --quiet -p anegpt
anegpt=$PWD/target/release/anegpt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Sentences of few words: in seconds a model learns when a document ends.
"$python" - > "$work/documents.txt" << 'PY'
import random
draw = random.Random(1)
for _ in range(3000):
    print(" ".join(draw.choices(["aa", "bb", "cc"], k=draw.randint(3, 6))) + "!\n<|endoftext|>")
PY
printf '[model]\nn_layer = 2\nn_embd = 32\nn_head = 2\nhidden = 64\nseq_len = 128\n' > "$work/small.toml"
printf 'preset = "gpt2-tiny"\n[model]\nn_layer = 2\nn_embd = 32\nn_head = 2\nseq_len = 128\n' > "$work/gpt2.toml"
for family in small gpt2; do
  echo "== $family"
  "$anegpt" train --config "$work/$family.toml" --data "$work/documents.txt" --tokenizer bpe:270 --steps 200 --batch 8 \
    --seq 128 --lr 1e-2 --device cpu --sample-every 0 --log-format json --out "$work/$family" > /dev/null
  HF_HUB_OFFLINE=1 "$python" scripts/peers.py "$anegpt" "$work/$family/step-00000200"
done
