#!/bin/sh
# From nothing to a small base model, scored, on any machine and without a network: text, tokenizer, model,
# bits per byte, samples. Under ten minutes on two cores. Run again, it goes on where it was.
#
#   runs/nanochat.sh [DIRECTORY]      everything goes there [default: out/nanochat]
#
# Variables: DEPTH (layers, 2), STEPS (updates, 400), ANEGPT (the program; else `anegpt` on the path, else cargo's).
set -eu
cd "$(dirname "$0")/.."
out=${1:-out/nanochat}
depth=${DEPTH:-2}
steps=${STEPS:-400}

if [ -z "${ANEGPT:-}" ]; then
  if command -v anegpt >/dev/null; then
    ANEGPT=anegpt
  else
    cargo build --release -p anegpt
    ANEGPT=target/release/anegpt
  fi
fi
mkdir -p "$out"

# A file is made under another name first: one that exists is whole.
stories() {
  [ -e "$out/$1" ] && return
  "$ANEGPT" data synth --seed "$2" --count "$3" --out "$out/part.txt"
  mv "$out/part.txt" "$out/$1"
}

echo "== text"
stories train.txt 1 10000
stories val.txt 2 500

echo "== tokenizer"
if [ ! -e "$out/tokenizer.json" ]; then
  "$ANEGPT" tokenizer train --rules nanochat --vocab-size 1024 --data "$out/train.txt" --out "$out/part.json"
  mv "$out/part.json" "$out/tokenizer.json"
fi

echo "== model"
model=$out/base
last=$model/step-$(printf %08d "$steps")
if [ ! -e "$last" ]; then
  if ls -d "$model"/step-* >/dev/null 2>&1; then
    "$ANEGPT" train --resume "$model" --steps "$steps"
  else
    rm -rf "$model"
    "$ANEGPT" train --depth "$depth" --head-dim 64 --seq 256 --batch-tokens 4096 --steps "$steps" \
      --weight-decay 0.28 --data "$out/train.txt" --val-data "$out/val.txt" --tokenizer "$out/tokenizer.json" \
      --checkpoint-every 50 --out "$model"
  fi
fi

echo "== score"
"$ANEGPT" eval --model "$model" --data "$out/val.txt" --tasks bpb,sample --out "$out/eval-$steps"

echo
echo "Talk with it:  $ANEGPT chat $model"
