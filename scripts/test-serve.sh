#!/usr/bin/env bash
# The server with real clients: curl, the openai package, langchain-openai; then a soak.
# SERVE_PYTHON=… uses that interpreter and installs nothing; SOAK_SECONDS=… is the length of the soak.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

packages=(openai==3.57.0 langchain-openai==1.7.4)
python_with "${SERVE_PYTHON:-}" serve-clients 'openai, langchain_openai' "${packages[@]}" || {
  echo "skipped: clients of the server (openai cannot be installed; see target/serve-clients.log)"
  exit 0
}

build_anegpt
work=$(mktemp -d)
trap 'kill "${servers[@]}" 2> /dev/null || true; rm -rf "$work"' EXIT

documents "$work/documents.txt"
printf '[model]\nn_layer = 2\nn_embd = 32\nn_head = 2\nhidden = 64\nseq_len = 256\n' > "$work/small.toml"
"$ANEGPT" train --config "$work/small.toml" --data "$work/documents.txt" --tokenizer bpe:263 --steps 100 --batch 8 \
  --seq 128 --lr 1e-2 --device cpu --sample-every 0 --log-format json --out "$work/small" > /dev/null

served=$work/small
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
