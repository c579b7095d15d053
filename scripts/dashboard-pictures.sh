#!/usr/bin/env bash
# Writes docs/dashboard.md: the dashboard as tmux shows it, live, finished and compared, at 80x24 and 200x50, and
# the pictures of a report (docs/report-loss.svg). Needs tmux. The runs are short ones of a very small model.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

command -v tmux > /dev/null || { echo "needs tmux"; exit 1; }
build_anegpt
work=$(mktemp -d)
trap 'tmux -S "$work/tmux" kill-server 2> /dev/null || true; rm -rf "$work"' EXIT
export LC_ALL=C.UTF-8 ANEGPT_NO_ENGINE=1

steps=${STEPS:-600}
(
  cd "$work"
  printf '[model]\nn_layer = 4\nn_head = 4\nn_embd = 64\nseq_len = 64\n[train]\nbatch = 4\nseq = 64\n' > small.toml
  for seed in 1 2; do
    "$ANEGPT" train --config small.toml --steps "$steps" --eval-every $((steps / 10)) --sample-every $((steps / 3)) --telemetry-every $((steps / 3)) \
      --seed $seed --lr $((4 * seed))e-3 --out run-$seed > /dev/null
  done
)

# capture SIZE KEYS ARGUMENT...: what the dashboard shows at that size after those keys.
capture() {
  local size=$1 keys=$2
  shift 2
  # A server that is about to end would take the next session with it: each has a socket of its own.
  local socket=$work/tmux
  rm -f "$socket"
  tmux -S "$socket" -f /dev/null new-session -d -x "${size%x*}" -y "${size#*x}" -c "$work" \
    "LC_ALL=C.UTF-8 ANEGPT_NO_ENGINE=1 $ANEGPT dashboard $*"
  sleep "${WAIT:-6}"
  [ -z "$keys" ] || { tmux -S "$socket" send-keys $keys; sleep 2; }
  tmux -S "$socket" capture-pane -p | sed 's/ *$//'
  tmux -S "$socket" kill-server
}

{
  cat << 'HEAD'
# The dashboard

`anegpt dashboard [RUN…]` follows the logs of runs, and `anegpt dashboard -- train …` starts one. `?` lists the keys.
The screens below are what tmux shows; `scripts/dashboard-pictures.sh` writes them. Curves can be read without colour.
For one run, dots are the losses of steps, the line is their smoothed mean, and `o` marks validation losses. For several
runs, each smoothed line carries its run's capital letter, and the small letter marks that run's validation losses.
HEAD
  for size in 80x24 200x50; do
    printf '\n## A run that goes on, %s\n\n```\n' "$size"
    WAIT=${LIVE:-20} capture $size "" -- train --config small.toml --steps 100000 --eval-every 20 --sample-every 50
    printf '```\n\n## A finished run, %s\n\n```\n' "$size"
    capture $size "" run-1
    printf '```\n\n## Two runs compared, %s\n\n```\n' "$size"
    capture $size "" run-1 run-2
    printf '```\n'
    # The run goes on without the dashboard.
    for run in "$work"/out/run-*; do
      [ ! -s "$run/.lock" ] || kill -KILL "$(cat "$run/.lock")" 2> /dev/null || true
    done
    rm -rf "$work/out"
  done
  printf '\n## Ranges of the engine, 80x24\n\n```\n'
  capture 80x24 5 run-1
  printf '```\n\n## The report\n\n`anegpt report run-1 --compare run-2 --out report.html` draws the same:\n\n![Losses of two runs](report-loss.svg)\n'
} > "$work/dashboard.md"
(cd "$work" && "$ANEGPT" report run-1 --compare run-2 --out report.html > /dev/null)
python3 - "$work/report.html" docs/report-loss.svg << 'PY'
import re, sys
page = open(sys.argv[1]).read()
open(sys.argv[2], "w").write(re.search(r"<svg.*?</svg>", page, re.S).group(0) + "\n")
PY
mv "$work/dashboard.md" docs/dashboard.md
echo "wrote docs/dashboard.md and docs/report-loss.svg"
