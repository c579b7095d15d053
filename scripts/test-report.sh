#!/usr/bin/env bash
# Checks what `anegpt report` writes for others: TensorBoard's own reader gives back every number and text
# (scripts/tensorboard_compare.py; PYTHON names an interpreter that has tensorboard), and the HTML file makes no
# request when Chromium opens it (scripts/report.mjs; CHROMIUM=path, playwright-core from npm).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

build_anegpt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '[model]\nn_layer = 2\nn_head = 2\nn_embd = 32\nseq_len = 32\n[train]\nbatch = 4\nseq = 32\nlr = 3e-3\n' > "$work/small.toml"
for seed in 1 2; do
  "$ANEGPT" train --config "$work/small.toml" --tokenizer bpe:300 --steps 60 --eval-every 20 --sample-every 20 \
    --telemetry-every 20 --seed $seed --prompt '<script src=//x/>' --out "$work/run-$seed" > /dev/null
done
# A run that went on, and one whose values are not finite.
"$ANEGPT" train --resume "$work/run-1" --steps 80 > /dev/null
echo '{"event":"step","step":81,"loss":null,"lr":0.1,"tokens":1,"ms":1.0,"grad_norm":null,"loss_scale":1.0,"skipped":true,"parts":{}}' >> "$work/run-1/log.jsonl"
"$ANEGPT" report "$work/run-1" --compare "$work/run-2" --out "$work/report.html" --csv "$work/runs.csv" --tensorboard "$work/tensorboard"

if python_with "${PYTHON:-}" tensorboard tensorboard "tensorboard==2.21.0" "setuptools<81"; then
  for seed in 1 2; do
    "$python" scripts/tensorboard_compare.py "$work/run-$seed/log.jsonl" "$work/tensorboard/${work#/}/run-$seed"
  done
else
  echo "skipped: TensorBoard's reader (tensorboard cannot be installed; see target/tensorboard.log)"
fi

# The columns of the numbers, by another reader.
python3 - "$work/runs.csv" "$work/run-1/log.jsonl" << 'PY'
import csv, json, sys
rows = [row for row in csv.DictReader(open(sys.argv[1])) if row["run"].endswith("run-1") and row["event"] == "step"]
steps = [event for event in map(json.loads, open(sys.argv[2])) if event["event"] == "step"]
assert len(rows) == len(steps)
for row, event in zip(rows, steps):
    assert int(row["step"]) == event["step"]
    assert event["loss"] is None and row["train/loss"] == "NaN" or float(row["train/loss"]) == event["loss"]
    assert float(row["train/tokens"]) == event["tokens"]
print(f"{len(rows)} rows of numbers agree")
PY

chromium=${CHROMIUM:-/usr/bin/chromium}
if [ ! -x "$chromium" ] || ! command -v npm > /dev/null; then
  echo "skipped: the report in a browser (needs npm and Chromium; CHROMIUM=path names one that is elsewhere)"
  exit 0
fi
if ! page_tools; then
  echo "skipped: the report in a browser (playwright-core cannot be installed; see target/page.log)"
  exit 0
fi
cp scripts/report.mjs "$tools/report.mjs"
CHROMIUM=$chromium node "$tools/report.mjs" "$work/report.html" ${PICTURES:+"$(realpath -m "$PICTURES")"}
