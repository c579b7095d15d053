#!/usr/bin/env bash
# scripts/test-seed.sh DIR: runs the Python tests and the trainer of ANEgpt (the seed), from a checkout
# of it in DIR, against our libane_bridge. Nothing of DIR is changed or written to: its scripts find the
# library where they look for it, in a tree of links. Says what it skips.
# ANE_BRIDGE_DEVICE names the device; without it the engine is taken where it works, else the emulator.
set -euo pipefail
if [ $# -eq 0 ]; then
  echo "skipped: the seed's own Python (give a checkout of ANEgpt: scripts/test-seed.sh DIR)"
  exit 0
fi
seed=$(cd "$1" && pwd)/nanochat
cd "$(dirname "$0")/.."
for file in nanochat/ane_bridge.py scripts/ane_train.py tests/test_ane_bridge.py; do
  if [ ! -f "$seed/$file" ]; then
    echo "$seed/$file: no such file; is $1 a checkout of ANEgpt?" >&2
    exit 2
  fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=${PYTHON:-python3}
if ! "$python" -c 'import numpy' 2> "$work/log"; then
  if ! { "$python" -m venv "$work/venv" &&
    "$work/venv/bin/pip" --quiet install numpy; } > "$work/log" 2>&1; then
    tail -n 2 "$work/log"
    echo "skipped: the seed's own Python (NumPy cannot be installed)"
    exit 0
  fi
  python=$work/venv/bin/python
fi

cargo build --release --quiet -p bridge --lib
libraries=$(cargo metadata --no-deps --format-version 1 --locked --offline |
  sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
case $(uname -s) in
  Darwin) library=$libraries/libane_bridge.dylib ;;
  *) library=$libraries/libane_bridge.so ;;
esac

# The trainer looks beside its own directory; the tests, whose path has a `..` in it, below $HOME.
tree=$work/tree
home=$work/home
for place in "$tree" "$home/workspace/control-room"; do
  mkdir -p "$place/ane-training/bridge"
  cp "$library" "$place/ane-training/bridge/libane_bridge.dylib"
done
ln -s "$seed" "$tree/nanochat"
export HOME=$home NANOCHAT_BASE_DIR=$work/base PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=
export PYTHONIOENCODING=utf-8
# The matrices are small: more threads would only wait for each other.
export OPENBLAS_NUM_THREADS=1
mkdir "$NANOCHAT_BASE_DIR"
checkpoint=$NANOCHAT_BASE_DIR/ane_ckpt.npz
cd "$work"

# run NAME COMMAND...: keeps what is printed in $work/out and shows it if the command fails. An error
# that Python only reports, such as one in a destructor or a NaN, counts as well.
run() {
  local name=$1 status=0
  shift
  "$@" > "$work/out" 2> "$work/err" || status=$?
  if [ "$status" -ne 0 ] || grep -q -e Traceback -e 'Exception ignored' -e RuntimeWarning "$work/err"; then
    cat "$work/out" "$work/err" >&2
    echo "failed: $name (exit code $status)" >&2
    exit 1
  fi
}

# losses NAME BATCHES CONDITION: the losses of the batches are so many numbers, and the condition holds
# of `first` and `last`.
losses() {
  if ! sed -n 's/^  batch .*  loss=\([^ ]*\)  .*/\1/p' "$work/out" | awk -v batches="$2" '
    !/^[0-9]+\.[0-9]+$/ { bad = 1 }
    { if (NR == 1) first = $1; last = $1 }
    END { print NR " batches, loss " first " to " last
          exit bad || NR != batches || !('"$3"') }' > "$work/verdict"; then
    cat "$work/out" >&2
    echo "failed: $1: $(cat "$work/verdict"), expected $2 with $3" >&2
    exit 1
  fi
  echo "$1: $(cat "$work/verdict")"
}

train() {
  local name=$1
  shift
  run "$name" "$python" "$tree/nanochat/scripts/ane_train.py" "$@"
  grep -q 'Training Complete' "$work/out"
  if [ -e "$checkpoint" ]; then
    echo "failed: $name left $checkpoint" >&2
    exit 1
  fi
}

run "tests" "$python" "$seed/tests/test_ane_bridge.py"
echo "the seed's tests: $(grep 'decreased' "$work/out" | sed 's/.*— //')"
if "$python" -c 'import pytest' 2> "$work/log"; then
  run "tests under pytest" "$python" -m pytest -q -p no:cacheprovider "$seed/tests/test_ane_bridge.py"
  echo "the seed's tests under pytest: $(tail -n 1 "$work/out")"
else
  echo "skipped: the seed's tests under pytest (not installed)"
fi

# The trainer ignores whether a request succeeded, and its loss on random tokens says little: ask its
# kernels themselves. A relative error of 2^-11 for each factor and for the result, with room for sums.
run "the trainer's kernels" env PYTHONPATH="$tree/nanochat" "$python" - << 'END'
import numpy as np
from scripts.ane_train import ANEGPTTrainer

for depth, dim, heads, seq_len in [(1, 64, 2, 32), (2, 96, 3, 48)]:
    trainer = ANEGPTTrainer(depth, dim, heads, seq_len, 256)
    rng = np.random.default_rng(dim)
    for name, kernel in trainer.shared_kernels.items():
        sizes = {"D": dim, "H": 4 * dim}
        inp, out = (sizes[letter] for letter in name.split("_"))
        w = rng.standard_normal((out, inp)).astype(np.float32)
        x = rng.standard_normal((inp, seq_len)).astype(np.float32)
        y = kernel.run(x, w)
        assert kernel.kernel.eval() is True, name
        error = np.abs(y - w @ x) / (np.abs(w) @ np.abs(x))
        assert error.max() < 2**-9, f"{name}: {error.max()}"
        kernel.free()
END
echo "the trainer's kernels: six products right, at two sizes"

# Random tokens: nothing to learn, so the loss stays near ln 256 = 5.545.
random='first > 5.4 && first < 5.7 && last > 5.4 && last < 5.7'
train "the trainer, as it is"
losses "the trainer, as it is" 6 "$random"
if ! grep -q 'ANE compiles initialized: 3$' "$work/out"; then
  echo "failed: the trainer did not count 3 compiles" >&2
  exit 1
fi
train "--ane-retries" --ane-retries 3 --num-batches 2 --accum-steps 3
losses "--ane-retries" 2 "$random"
train "--resume without a checkpoint" --resume --num-batches 2
losses "--resume without a checkpoint" 2 "$random"
train "other sizes" --depth 2 --dim 96 --heads 3 --seq-len 48 --vocab-size 512 --num-batches 2
losses "other sizes" 2 'first > 6.1 && first < 6.4 && last > 6.1 && last < 6.4'

run "a checkpoint" env PYTHONPATH="$tree/nanochat" "$python" - << 'END'
from scripts.ane_train import CKPT_PATH, ANEGPTTrainer

trainer = ANEGPTTrainer(1, 64, 2, 32, 256)
trainer.save_checkpoint(CKPT_PATH, 4, 6, [5.5] * 40)
END
train "--resume" --resume
losses "--resume" 2 "$random"
if ! grep -q 'RESUMED batch 4/6' "$work/out"; then
  echo "failed: --resume did not resume" >&2
  exit 1
fi

# Twelve tokens in turn. The trainer learns which they are (ln 12 = 2.485), not their order; with exact
# products it gets no further, and with products that are all zero it ends near 1.6.
"$python" -c 'import numpy as np; (np.arange(20000) % 12).astype(np.uint16).tofile("tokens.bin")'
train "--data-path" --data-path tokens.bin --lr 3e-3 --num-batches 40 --accum-steps 4
losses "--data-path" 40 'first > 5.4 && first < 5.8 && last > 2.4 && last < 2.6'

# The same run with NumPy's products instead of the library's, from the same seed. Rounding to fp16 moves
# a loss by less than 0.0001, the arithmetic of emulator:m4:exact by 0.018; without products it moves by
# 0.9, so the comparison can fail.
run "against NumPy's products" env PYTHONPATH="$tree/nanochat" "$python" - << 'END'
import numpy as np
from scripts.ane_train import ANEGPTTrainer


def trained(product=None):
    np.random.seed(0)
    trainer = ANEGPTTrainer(1, 64, 2, 32, 256, lr=3e-3, accum_steps=4)
    for kernel in trainer.shared_kernels.values():
        if product:
            kernel.run = product
    data = np.fromfile("tokens.bin", np.uint16)
    return np.array([trainer.train_batch(data, 0)[0] for _ in range(30)])


exact = trained(lambda x, w: (w @ x).astype(np.float32))
nothing = trained(lambda x, w: np.zeros((w.shape[0], x.shape[1]), np.float32))
apart = np.abs(trained() - exact).max()
control = np.abs(nothing - exact).max()
assert apart < 0.05, apart
assert control > 0.5, control
print(f"30 losses, at most {apart:.1e} apart (without products {control:.1f})")
END
echo "against NumPy's products: $(cat "$work/out")"
