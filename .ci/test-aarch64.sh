#!/usr/bin/env bash
# Runs the tests of the emulator's arithmetic as an AArch64 program under user-mode emulation, so that
# its NEON code is executed here: with every extension, and on a processor without half-precision
# arithmetic. Needs aarch64-linux-gnu-gcc and qemu-aarch64-static; .ci/run installs them.
#
# The compiler is that of apple-check.sh, kept in APPLE_CACHE (default: target/apple).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
cache=${APPLE_CACHE:-$root/target/apple}
target=aarch64-unknown-linux-gnu
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
. "$here/debian-rust.sh"
debian_rust "$cache"
export RUSTC="$cache/rustc" RUSTC_BOOTSTRAP=1
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
unset RUSTFLAGS

run() {
  local cpu=$1
  shift
  echo "-- $cpu: $*"
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu -cpu $cpu" \
    cargo test --quiet --release --manifest-path "$root/Cargo.toml" \
    -Zbuild-std=std,test,panic_unwind --target "$target" --target-dir "$cache/aarch64" "$@"
}

run max -p cpu --lib
run cortex-a72 -p cpu --lib -- simd:: gemm::
run max -p cpu --test operations --test explicit
run max -p ane --test emulator
run max -p gpt --test parity
