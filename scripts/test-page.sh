#!/usr/bin/env bash
# Drives the page of `anegpt serve` in headless Chromium through a conversation (scripts/page.mjs).
# Needs Node.js, Chromium (CHROMIUM=path, or Debian's, which .ci/run installs) and playwright-core from npm.
# PICTURES=directory keeps screenshots.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

chromium=${CHROMIUM:-/usr/bin/chromium}
if [ ! -x "$chromium" ] || ! command -v npm > /dev/null; then
  echo "skipped: the page in a browser (needs npm and Chromium; CHROMIUM=path names one that is elsewhere)"
  exit 0
fi
if ! page_tools; then
  echo "skipped: the page in a browser (playwright-core cannot be installed; see target/page.log)"
  exit 0
fi

build_anegpt
work=$(mktemp -d)
trap 'kill "${servers[@]}" 2> /dev/null || true; rm -rf "$work"' EXIT
# A model that learned nothing yet: it goes on until it is stopped, at the pace of a larger one.
# Its context holds all answers of the conversation, however long they get.
printf '[model]\nn_layer = 8\nn_embd = 512\nn_head = 8\nseq_len = 8192\n' > "$work/model.toml"
"$ANEGPT" train --config "$work/model.toml" --steps 1 --batch 1 --seq 32 --device cpu --sample-every 0 --eval-every 0 \
  --log-format json --out "$work/model" > /dev/null

served=$work/model
serve long
long=$url
serve short --context 256
cp scripts/page.mjs "$tools/page.mjs"
CHROMIUM=$chromium node "$tools/page.mjs" "$long/" "$url/" ${PICTURES:+"$(realpath -m "$PICTURES")"}
