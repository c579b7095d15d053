#!/bin/sh
# nanochat's base model from its own data: shards of ClimbMix, a vocabulary of 32768 tokens, a model by the dial,
# bits per byte, CORE and samples. Needs curl, unzip and a network, and for d12 days on an engine.
# Run again, it goes on where it was: downloads, training and evaluation continue.
#
#   runs/speedrun.sh [DIRECTORY]      everything goes there [default: out/speedrun]
#
# Variables: DEPTH (layers, 12), SHARDS (of 100 MB; what the model reads, if not set), STEPS (the dial's, if not set),
# VOCAB (32768), CORE_EVERY (steps between measurements of CORE, 2000), CHIP (engine to plan for, if not this machine's),
# ANEGPT (the program; else `anegpt` on the path, else cargo's).
set -eu
cd "$(dirname "$0")/.."
out=${1:-out/speedrun}
depth=${DEPTH:-12}
vocab=${VOCAB:-32768}
bundle=https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip

if [ -z "${ANEGPT:-}" ]; then
  if command -v anegpt > /dev/null; then
    ANEGPT=anegpt
  else
    cargo build --release -p anegpt
    ANEGPT=target/release/anegpt
  fi
fi
mkdir -p "$out"

# What the dial says of this depth, before anything is fetched.
echo "== plan"
"$ANEGPT" plan --depth "$depth" --vocab-size "$vocab" ${CHIP:+--chip "$CHIP"} ${STEPS:+--steps "$STEPS"}

# A shard has 250 million characters, about 55 million tokens, and whole documents packed into sequences lose a third.
shards=${SHARDS:-}
if [ -z "$shards" ]; then
  # The last entry of this name is the run's.
  tokens=$("$ANEGPT" plan --depth "$depth" --vocab-size "$vocab" ${STEPS:+--steps "$STEPS"} --json \
    | sed -n 's/.*"tokens": *\([0-9]*\).*/\1/p' | head -n 1)
  shards=$((tokens / 36000000 + 1))
fi

echo "== data: $shards shards"
"$ANEGPT" data download climbmix -n "$shards" --out "$out/climbmix"
# What is made or fetched gets its name when it is whole.
if [ ! -e "$out/eval_bundle" ]; then
  if [ ! -e "$out/eval_bundle.zip" ]; then
    curl --fail --location --retry 5 --continue-at - --output "$out/part.zip" "$bundle"
    mv "$out/part.zip" "$out/eval_bundle.zip"
  fi
  rm -rf "$out/part"
  unzip -q "$out/eval_bundle.zip" -d "$out/part"
  mv "$out/part/eval_bundle" "$out/eval_bundle"
fi

echo "== tokenizer"
if [ ! -e "$out/tokenizer.json" ]; then
  "$ANEGPT" tokenizer train --rules nanochat --vocab-size "$vocab" --data "$out/climbmix" --out "$out/part.json"
  mv "$out/part.json" "$out/tokenizer.json"
fi

echo "== model"
model=$out/d$depth
trained=$out/d$depth-trained-${STEPS:-all}
set -- --bundle "$out/eval_bundle" --core-every "${CORE_EVERY:-2000}"
if [ ! -e "$trained" ]; then
  if ls -d "$model"/step-* > /dev/null 2>&1; then
    "$ANEGPT" train --resume "$model" ${STEPS:+--steps "$STEPS"} "$@"
  else
    rm -rf "$model"
    "$ANEGPT" train --depth "$depth" ${STEPS:+--steps "$STEPS"} --data "$out/climbmix" --packing bos-fit \
      --tokenizer "$out/tokenizer.json" "$@" --checkpoint-every 250 --out "$model"
  fi
  touch "$trained"
fi

echo "== score"
last=$(ls -d "$out/climbmix"/*.parquet | tail -n 1)
"$ANEGPT" eval --model "$model" --data "$last" --max-tokens 2000000 --tasks bpb,core,sample \
  --bundle "$out/eval_bundle" --out "$out/eval-d$depth-${STEPS:-all}" --csv "$out/core-d$depth.csv"

echo
echo "Talk with it:  $ANEGPT chat $model"
