#!/usr/bin/env bash
# Builds anegpt and libane_bridge for Apple Silicon and Intel and joins both into universal files, on
# a Mac. The programs are the same; the engine exists on Apple Silicon only, so that the Intel half
# has the emulator.
#
#   scripts/universal-macos.sh [DIR]      (default: target/universal)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/target/universal}
targets=(aarch64-apple-darwin x86_64-apple-darwin)

if [ "$(uname -s)" != Darwin ]; then
  echo "universal-macos: joining needs lipo and Apple's SDK, which this system has not" >&2
  exit 1
fi
mkdir -p "$out/bin" "$out/lib" "$out/include"
out=$(cd "$out" && pwd)
cd "$root"
libraries=$(cargo metadata --no-deps --format-version 1 --locked |
  sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
export MACOSX_DEPLOYMENT_TARGET=${MACOSX_DEPLOYMENT_TARGET:-13.0}
for target in "${targets[@]}"; do
  if command -v rustup > /dev/null; then rustup target add "$target"; fi
  cargo build --release --locked --target "$target" -p anegpt
  cargo build --release --locked --target "$target" -p bridge --lib
done

join() { # PLACE NAME
  local parts=() target
  for target in "${targets[@]}"; do parts+=("$libraries/$target/release/$2"); done
  lipo -create -output "$out/$1/$2" "${parts[@]}"
  lipo -info "$out/$1/$2"
}
join bin anegpt
join lib libane_bridge.dylib
join lib libane_bridge.a
cp crates/bridge/include/ane_bridge.h "$out/include/"
# Apple Silicon loads no unsigned code; the linker signs that half only, so both are signed here.
codesign --force --sign - "$out/bin/anegpt" "$out/lib/libane_bridge.dylib"

if command -v python3 > /dev/null; then
  ANE_BRIDGE_PREBUILT=$out/lib/libane_bridge.dylib ANEGPT_PREBUILT=$out/bin/anegpt \
    _PYTHON_HOST_PLATFORM="macosx-$MACOSX_DEPLOYMENT_TARGET-universal2" \
    scripts/build-wheel.sh "$out/wheels"
fi
