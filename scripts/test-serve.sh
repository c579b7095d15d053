#!/usr/bin/env bash
# The server with real clients: curl, the openai package, langchain-openai; then a soak.
# SERVE_PYTHON=… uses that interpreter and installs nothing; SOAK_SECONDS=… is the length of the soak.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(openai==3.57.0 langchain-openai==1.7.4)
environment=target/serve-clients
python=${SERVE_PYTHON:-$environment/bin/python}
if [ -z "${SERVE_PYTHON:-}" ] && ! "$python" -c 'import openai, langchain_openai' 2> /dev/null; then
  if ! { python3 -m venv "$environment" && "$python" -m pip install --quiet "${packages[@]}"; } 2> target/serve-clients.log; then
    echo "skipped: clients of the server (openai cannot be installed; see target/serve-clients.log)"
    exit 0
  fi
fi

if [ -z "${ANEGPT:-}" ]; then
  cargo build --release --quiet -p anegpt
  ANEGPT=$PWD/target/release/anegpt
fi
work=$(mktemp -d)
servers=()
trap 'kill "${servers[@]}" 2> /dev/null || true; rm -rf "$work"' EXIT

# Sentences of few words: in seconds a model learns when a document ends.
"$python" - > "$work/documents.txt" << 'PY'
import random
draw = random.Random(1)
for _ in range(3000):
    print(" ".join(draw.choices(["aa", "bb", "cc"], k=draw.randint(3, 6))) + "!\n<|endoftext|>")
PY
printf '[model]\nn_layer = 2\nn_embd = 32\nn_head = 2\nhidden = 64\nseq_len = 256\n' > "$work/small.toml"
"$ANEGPT" train --config "$work/small.toml" --data "$work/documents.txt" --tokenizer bpe:263 --steps 100 --batch 8 \
  --seq 128 --lr 1e-2 --device cpu --sample-every 0 --log-format json --out "$work/small" > /dev/null

# serve NAME ARGUMENTS…: starts a server and sets `url`, `pid`.
serve() {
  local log=$work/$1.log
  shift
  "$ANEGPT" serve "$work/small" --name small --port 0 "$@" > "$log" 2>&1 &
  pid=$!
  servers+=("$pid")
  for _ in $(seq 300); do
    url=$(sed -n 's/^serving *//p' "$log")
    [ -z "$url" ] || return 0
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
  done
  cat "$log"
  return 1
}

echo "== curl"
serve open
curl --fail --silent --show-error "$url/health" | grep -q '"ok"'
# As people type it: without a content type, and with a large body that waits for leave to be sent.
curl --fail --silent --show-error "$url/v1/chat/completions" \
  -d '{"messages": [{"role": "user", "content": "aa"}], "max_tokens": 4}' | grep -q '"chat.completion"'
curl --fail --silent --show-error --no-buffer "$url/v1/completions" \
  -d '{"prompt": "aa", "max_tokens": 4, "stream": true}' | tail -n 2 | grep -qx 'data: \[DONE\]'
head -c 6000000 /dev/zero | tr '\0' a > "$work/large"
[ "$(curl --silent --output "$work/answer" --write-out '%{http_code}' "$url/v1/completions" --data-binary @"$work/large")" = 413 ]
grep -q 'exceeds' "$work/answer"
curl --fail --silent --show-error "$url/metrics" | grep -q '^anegpt_engine_up 1$'
! "$ANEGPT" serve "$work/small" --host 0.0.0.0 --port 0 2> "$work/refused" || exit 1
grep -q 'API key' "$work/refused"

echo "== openai and langchain-openai"
open=$url
ANEGPT_API_KEY=secret serve keyed
keyed=$url
serve narrow --slots 1 --max-queue 0
"$python" scripts/serve_clients.py "$open" "$keyed" secret "$url"

echo "== soak"
serve soak
"$python" scripts/soak.py "$url" --pid "$pid" --seconds "${SOAK_SECONDS:-30}"

echo "== SIGTERM"
kill -TERM "$pid"
code=0
wait "$pid" || code=$?
[ "$code" = 143 ] || { echo "ended with $code, not 143"; exit 1; }
