#!/usr/bin/env bash
# Models of ours load, compute the same and stop in other programs, and theirs in ours: transformers (with
# PyTorch on the CPU), llama.cpp (xllamacpp), the package gguf, mlx-lm on the CPU. And the script that converts
# nanochat's own files (docs/from-nanochat.md).
# PEERS_PYTHON=… uses that interpreter and installs nothing; PEERS_TORCH=0 leaves out PyTorch (540 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

packages=(mlx==0.32.4 mlx-lm==0.32.2 transformers==5.24.0 xllamacpp==2026.10.11549 gguf==0.19.0 tiktoken==0.14.0)
[ "$(uname)" = Darwin ] || packages+=(mlx-cpu==0.32.4)
torch=torch==2.15.0
# What PyTorch needs besides CUDA.
pure=(filelock typing-extensions sympy networkx jinja2 fsspec)
environment=target/peers
python=${PEERS_PYTHON:-$environment/bin/python}

install() {
  python3 -m venv "$environment" && "$python" -m pip install --quiet "${packages[@]}" || return
  [ "${PEERS_TORCH:-1}" = 0 ] || install_torch || "$python" -m pip uninstall --quiet --yes torch
}

# PyTorch without CUDA; where it does not load, it is left out.
install_torch() {
  "$python" -m pip install --quiet "${pure[@]}" && "$python" -m pip install --quiet --no-deps "$torch" || return
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    "$python" scripts/cuda_stubs.py "$environment/cuda" || return
  fi
  LD_LIBRARY_PATH=$environment/cuda "$python" -c 'import torch'
}

if [ -z "${PEERS_PYTHON:-}" ] && [ ! -e "$environment/complete" ]; then
  if ! install 2> target/peers.log; then
    echo "skipped: other programs (they cannot be installed; see target/peers.log)"
    exit 0
  fi
  touch "$environment/complete"
fi
[ ! -d "$environment/cuda" ] || export LD_LIBRARY_PATH=$PWD/$environment/cuda

build_anegpt
anegpt=$ANEGPT
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
documents "$work/documents.txt"
shape='n_layer = 2\nn_embd = 32\nn_head = 2\nseq_len = 128\n'
printf "[model]\n${shape}n_kv_head = 1\nhidden = 64\n" > "$work/llama.toml"
printf "[model]\n${shape}n_kv_head = 1\nhidden = 96\nhead_dim = 32\nqk_norm = true\ntied = false\nrope_theta = 1e6\n" > "$work/qwen3.toml"
printf "preset = \"gpt2-tiny\"\n[model]\n$shape" > "$work/gpt2.toml"
checkpoints=()
for family in llama qwen3 gpt2; do
  "$anegpt" train --config "$work/$family.toml" --data "$work/documents.txt" --tokenizer bpe:270 --steps 200 --batch 8 \
    --seq 128 --lr 1e-2 --device cpu --sample-every 0 --log-format json --out "$work/$family" > /dev/null
  checkpoints+=("$work/$family/step-00000200")
done
# nanochat's models: the one that transformers has a class for, and those that take their code along.
"$anegpt" tokenizer train --rules nanochat --data "$work/documents.txt" --vocab-size 280 --out "$work/nanochat.json" > /dev/null
extents='n_embd = 48\nn_head = 4\nn_kv_head = 2\n'
plain='value_embeds = false\nqk_scale = 1.0\nsmear_channels = 0\nresidual_scales = false\nbackout = false\n'
printf "preset = \"nanochat-d3\"\n[model]\n${extents}seq_len = 512\nwindows = []\n[model.nanochat]\n$plain" > "$work/plain.toml"
printf "preset = \"nanochat-d3\"\n[model]\n${extents}seq_len = 512\nwindows = [129, 129, 0]\n" > "$work/july.toml"
printf "preset = \"nanochat-2026-02-d3\"\n[model]\n${extents}seq_len = 256\nwindows = [129, 129, 0]\n" > "$work/february.toml"
for edition in plain july february; do
  "$anegpt" train --config "$work/$edition.toml" --data "$work/documents.txt" --tokenizer "$work/nanochat.json" --steps 200 \
    --batch 8 --seq 128 --lr 1e-2 --device cpu --sample-every 0 --log-format json --out "$work/$edition" > /dev/null
  checkpoints+=("$work/$edition/step-00000200")
done
# Pieces with scores, as SentencePiece's.
data=../shared/data
if [ -e "$data/stories260K.bin" ]; then
  "$anegpt" import "$data/stories260K.bin" --tokenizer "$data/tok512.bin" --out "$work/stories"
  checkpoints+=("$work/stories")
fi
export HF_MODULES_CACHE=$work/modules
HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 "$python" scripts/peers.py "$anegpt" "${checkpoints[@]}"
