#!/usr/bin/env bash
# PEFT computes the adapters of anegpt sft --lora, and anegpt those of PEFT: equal logits, on the CPU.
# PEFT is installed beside the programs of test-peers.sh, which is run first. PEFT_PYTHON=… uses that interpreter and
# installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

environment=target/peers
python=${PEFT_PYTHON:-$environment/bin/python}
[ ! -d "$environment/cuda" ] || export LD_LIBRARY_PATH=$PWD/$environment/cuda
if ! "$python" -c 'import torch' 2> /dev/null; then
  echo "skipped: PEFT ($python has no PyTorch; scripts/test-peers.sh installs it in $environment)"
  exit 0
fi
if [ -n "${PEFT_PYTHON:-}" ] && ! "$python" -c 'import peft' 2> /dev/null; then
  echo "skipped: PEFT ($PEFT_PYTHON does not have it)"
  exit 0
fi
if ! "$python" -c 'import peft' 2> /dev/null &&
  ! "$python" -m pip install --quiet --no-deps peft==0.21.2 accelerate==1.15.0 psutil 2> target/peft.log; then
  echo "skipped: PEFT (it cannot be installed; see target/peft.log)"
  exit 0
fi

build_anegpt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
documents "$work/documents.txt"
"$ANEGPT" tokenizer train --data "$work/documents.txt" --vocab-size 270 --chat --out "$work/tokens.json" > /dev/null
printf '[model]\nn_layer = 2\nn_embd = 32\nn_head = 4\nn_kv_head = 2\nhidden = 64\nseq_len = 64\n' > "$work/llama.toml"
"$ANEGPT" train --config "$work/llama.toml" --data "$work/documents.txt" --tokenizer "$work/tokens.json" --steps 100 --seq 64 \
  --lr 1e-2 --device cpu --sample-every 0 --log-format json --out "$work/run" > /dev/null
"$ANEGPT" export "$work/run" --to hf --out "$work/base"
for _ in $(seq 40); do
  echo '[{"role":"user","content":"aa bb"},{"role":"assistant","content":"cc!"}]'
  echo '[{"role":"user","content":"bb"},{"role":"assistant","content":"aa aa!"}]'
done > "$work/talks.jsonl"
HF_HUB_OFFLINE=1 "$python" scripts/peft_compare.py "$ANEGPT" "$work/base" "$work/talks.jsonl" "$work"
