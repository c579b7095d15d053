#!/bin/sh
# From nothing to a small assistant, scored, on any machine and without a network: text, tokenizer, base model, bits per
# byte, samples, finetuning on the built-in tasks, reinforcement on one of them, accuracies before and after each, and a
# report. Run again, it goes on where it was.
#
#   runs/nanochat.sh [DIRECTORY]      everything goes there [default: out/nanochat]
#
# Variables: DEPTH (layers, 2), STEPS (updates of the base model, 400), SFT_STEPS (of finetuning, 600), RL_STEPS (of
# reinforcement, 100), SEED (of all three, 42), ANEGPT (the program; else `anegpt` on the path, else cargo's).
set -eu
cd "$(dirname "$0")/.."
out=${1:-out/nanochat}
depth=${DEPTH:-2}
steps=${STEPS:-400}
sft_steps=${SFT_STEPS:-600}
rl_steps=${RL_STEPS:-100}
seed=${SEED:-42}
tasks=spelling,counting,arithmetic,word-problems,stories,stories-choice

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

# begun RUN: true if it has a checkpoint.
begun() {
  ls -d "$1"/step-* >/dev/null 2>&1
}

# go_on COMMAND RUN STEPS: brings a run that has begun to its end.
go_on() {
  [ -e "$2/step-$(printf %08d "$3")" ] || "$ANEGPT" "$1" --resume "$2" --steps "$3"
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
if begun "$model"; then
  go_on train "$model" "$steps"
else
  rm -rf "$model"
  "$ANEGPT" train --depth "$depth" --head-dim 64 --seq 256 --batch-tokens 4096 --steps "$steps" \
    --weight-decay 0.28 --data "$out/train.txt" --val-data "$out/val.txt" --tokenizer "$out/tokenizer.json" \
    --seed "$seed" --checkpoint-every 50 --out "$model"
fi

echo "== score"
"$ANEGPT" eval --model "$model" --data "$out/val.txt" --tasks bpb,sample --out "$out/eval-$steps"

# ask RUN: the accuracies of its newest checkpoint on the built-in tasks; answers and results are in RUN/eval.
ask() {
  "$ANEGPT" eval --model "$1" --tasks "$tasks" --max-new-tokens 80
}

echo "== tasks, before"
ask "$model"

echo "== finetuning"
tuned=$out/sft
if begun "$tuned"; then
  go_on sft "$tuned" "$sft_steps"
else
  rm -rf "$tuned"
  # Answers of the last task teach one letter each: it comes three times.
  "$ANEGPT" sft --model "$model" --tasks "$tasks*3" --seq 256 --steps "$sft_steps" --seed "$seed" \
    --checkpoint-every 50 --out "$tuned"
fi

echo "== tasks, after finetuning"
ask "$tuned"

echo "== reinforcement"
better=$out/rl
if begun "$better"; then
  go_on rl "$better" "$rl_steps"
else
  rm -rf "$better"
  "$ANEGPT" rl --model "$tuned" --tasks spelling --max-tokens 40 --init-lr-frac 0.1 --steps "$rl_steps" --seed "$seed" \
    --checkpoint-every 10 --out "$better"
fi

echo "== tasks, after reinforcement"
ask "$better"

echo "== report"
"$ANEGPT" report "$out" --out "$out/report.html" > /dev/null

echo
echo "What it came to: $out/report.html and report.md"
echo "Talk with it:  $ANEGPT chat $better"
