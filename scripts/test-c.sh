#!/usr/bin/env bash
# Tests of libane_bridge in C: plainly, under AddressSanitizer, under valgrind, and linked statically.
# Says what it skips. The library is built into cargo's target directory.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The calls that are meant to fail need not say so.
export ANE_BRIDGE_VERBOSE=0

cargo build --release --quiet -p bridge --lib
libraries=$(cargo metadata --no-deps --format-version 1 --locked --offline |
  sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
case $(uname -s) in
  Darwin) system=(-framework CoreFoundation -framework IOSurface -lobjc) ;;
  *) system=(-lpthread -ldl -lm) ;;
esac

if ! command -v cc > /dev/null; then
  echo "skipped: C tests (no cc)"
  exit 0
fi
sources=(-std=c11 -pedantic -Wall -Wextra -Werror -g -Icrates/bridge/include
  crates/bridge/tests/c/bridge.c)
dynamic=(-L"$libraries" "-Wl,-rpath,$libraries" -lane_bridge -lpthread -lm)

# run NAME COMMAND...: NAME and what it prints; ends here if it fails.
run() {
  local name=$1 said
  shift
  said=$("$@")
  echo "$name: $said"
}

cc "${sources[@]}" -o "$work/plain" "${dynamic[@]}"
run "C, dynamic library" "$work/plain"

cc "${sources[@]}" -o "$work/static" "$libraries/libane_bridge.a" "${system[@]}"
run "C, static library" "$work/static"

# The README's lines for C as they stand there, in a directory that looks like a clone. Only the
# place of cargo's target directory is not sure to be target/.
mkdir -p "$work/clone/target"
ln -s "$PWD/crates" "$work/clone/crates"
ln -s "$libraries" "$work/clone/target/release"
lines=$(sed -n '/^cc .*-lane_bridge/p; /^\.\/relu$/p' README.md)
[ "$(wc -l <<< "$lines")" = 2 ] || { echo "the README has no lines for C" >&2; exit 1; }
said=$(cd "$work/clone" && ANE_BRIDGE_DEVICE=emulator bash -e <<< "$lines")
[[ $said == *"relu(-32) = 0, relu(31) = 31"* ]] || { echo "the example in C said: $said" >&2; exit 1; }
echo "C, the README's lines: ${said##*$'\n'}"

if printf 'int main(void){return 0;}' |
  cc -fsanitize=address,undefined -x c -o "$work/probe" - 2> /dev/null && "$work/probe"; then
  cc "${sources[@]}" -fsanitize=address,undefined -fno-sanitize-recover=all \
    -o "$work/sanitized" "${dynamic[@]}"
  run "C, AddressSanitizer" "$work/sanitized"
else
  echo "skipped: C tests under AddressSanitizer (cc has none that runs here)"
fi

if command -v valgrind > /dev/null; then
  # Memory that is still reachable at the end is the thread pool's.
  run "C, valgrind" valgrind --quiet --error-exitcode=9 --leak-check=full \
    --show-leak-kinds=definite --errors-for-leak-kinds=definite "$work/plain"
else
  echo "skipped: C tests under valgrind (not installed)"
fi

if command -v c++ > /dev/null; then
  printf '#include "ane_bridge.h"\nint main() { return ane_bridge_init(); }\n' |
    c++ -x c++ -Wall -Wextra -Werror -Icrates/bridge/include -o "$work/cpp" - "${dynamic[@]}"
  "$work/cpp"
  echo "C++: the header compiles and links"
else
  echo "skipped: the header in C++ (no c++)"
fi
