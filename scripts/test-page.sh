#!/usr/bin/env bash
# Drives the page of `anegpt serve` in headless Chromium through a conversation (scripts/page.mjs).
# Needs Node.js, Chromium (CHROMIUM=path, or Debian's, which .ci/run installs) and playwright-core from npm.
# PICTURES=directory keeps screenshots.
set -euo pipefail
cd "$(dirname "$0")/.."

chromium=${CHROMIUM:-/usr/bin/chromium}
if [ ! -x "$chromium" ] || ! command -v npm > /dev/null; then
  echo "skipped: the page in a browser (needs npm and Chromium; CHROMIUM=path names one that is elsewhere)"
  exit 0
fi
tools=target/page
if [ ! -e "$tools/node_modules/playwright-core" ]; then
  mkdir -p "$tools"
  if ! npm install --silent --no-fund --no-audit --prefix "$tools" playwright-core@1.64.1 > target/page.log 2>&1; then
    echo "skipped: the page in a browser (playwright-core cannot be installed; see target/page.log)"
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
# A model that learned nothing yet: it goes on until it is stopped, at the pace of a larger one.
# Its context holds all answers of the conversation, however long they get.
printf '[model]\nn_layer = 8\nn_embd = 512\nn_head = 8\nseq_len = 8192\n' > "$work/model.toml"
"$ANEGPT" train --config "$work/model.toml" --steps 1 --batch 1 --seq 32 --device cpu --sample-every 0 --eval-every 0 \
  --log-format json --out "$work/model" > /dev/null

# serve NAME ARGUMENTS…: starts a server and sets `url`.
serve() {
  local log=$work/$1.log
  shift
  "$ANEGPT" serve "$work/model" --name small --port 0 "$@" > "$log" 2>&1 &
  servers+=("$!")
  for _ in $(seq 300); do
    url=$(sed -n 's/^serving *//p' "$log")
    [ -z "$url" ] || return 0
    kill -0 "${servers[-1]}" 2> /dev/null || break
    sleep 0.1
  done
  cat "$log"
  return 1
}

serve long
long=$url
serve short --context 256
cp scripts/page.mjs "$tools/page.mjs"
CHROMIUM=$chromium node "$tools/page.mjs" "$long/" "$url/" ${PICTURES:+"$(realpath -m "$PICTURES")"}
