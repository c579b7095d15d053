#!/usr/bin/env bash
# Puts small mistakes into the code, one at a time, and lists those that no test notices.
#
#   scripts/mutants.sh [--shard k/n] [FILE...]
#
# Without files, all that docs/mutants.md names: many hours. Each run needs one build of the crate,
# then some seconds per mutant. Works on a copy; writes target/mutants/summary.md.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-mutants > /dev/null; then
  echo "cargo-mutants is not installed; install it with: cargo install cargo-mutants --locked" >&2
  exit 1
fi

all=(
  crates/gpt/src/{head,loss,model,block,ops,run,params}.rs
  crates/gpt/src/{family,plan}/*.rs
  crates/train/src/{trainer,run,schedule,scale,background,checkpoint,sample}.rs
  crates/train/src/{objective,optim,run,checkpoint}/*.rs
  crates/mil/src/{resolve,grad,passes}.rs
  crates/mil/src/{resolve,grad}/*.rs
  crates/infer/src/*.rs
  crates/data/src/loader.rs crates/data/src/loader/{order,source}.rs
  crates/cpu/src/{lower,plan,run}.rs
  crates/cpu/src/{lower,run}/*.rs
  crates/ane/src/surface.rs
)

# The tests that guard the files of a crate.
guards() {
  case $1 in
    train) echo "--lib --test trainer --test run --test seams" ;;
    ane) echo "--lib --test emulator --test requests" ;;
    *) echo "--tests" ;;
  esac
}

shard=()
if [ "${1:-}" = --shard ]; then
  shard=(--shard "$2" --sharding round-robin)
  shift 2
fi
files=("$@")
if [ ${#files[@]} = 0 ]; then
  for file in "${all[@]}"; do
    if [ -e "$file" ] && [[ $file != */tests.rs ]]; then files+=("$file"); fi
  done
fi

out=target/mutants
mkdir -p $out
results=()
for crate in $(printf '%s\n' "${files[@]}" | sed -n 's|^crates/\([^/]*\)/.*|\1|p' | sort -u); do
  chosen=()
  for file in "${files[@]}"; do
    if [[ $file == crates/$crate/* ]]; then chosen+=(--file "$file"); fi
  done
  # 2: mutants were missed; 3: tests ran out of time.
  # shellcheck disable=SC2046
  cargo mutants --workspace -j 1 --output "$out/$crate" "${shard[@]}" "${chosen[@]}" \
    -- $(guards "$crate") || [ $? = 2 ] || [ $? = 3 ] || exit 1
  results+=("$out/$crate/mutants.out")
done

# Lines of a list of mutants in a file: `crates/…/x.rs:19:23: replace …`.
count() {
  local list=$1 file=$2 directory total=0
  for directory in "${results[@]}"; do
    total=$((total + $(grep -c "^$file:" "$directory/$list.txt" || true)))
  done
  echo "$total"
}

{
  echo "| file | mutants | noticed | not noticed | not compiled |"
  echo "|---|---:|---:|---:|---:|"
  for file in "${files[@]}"; do
    caught=$(($(count caught "$file") + $(count timeout "$file")))
    missed=$(count missed "$file")
    echo "| $file | $((caught + missed)) | $caught | $missed | $(count unviable "$file") |"
  done
  echo
  for directory in "${results[@]}"; do sed 's/^/- /' "$directory/missed.txt"; done
} > $out/summary.md
cat $out/summary.md
