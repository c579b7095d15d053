#!/usr/bin/env bash
# Type-checks, lints and links every target of the workspace for aarch64-apple-darwin, on Linux.
#
# The compiler and the source of its standard library come from Debian packages (unpacked, not
# installed), the symbols of libSystem from the ziglang wheel, those of other libraries from the
# stubs beside this file. Linking proves agreement with these lists, not that macOS exports them.
#
# APPLE_CACHE is where the toolchain is kept (default: target/apple).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
cache=${APPLE_CACHE:-$root/target/apple}
target=aarch64-apple-darwin
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

. "$here/debian-rust.sh"

fetch_sdk() {
  rm -rf "$cache/sdk" "$cache/zig"
  mkdir -p "$cache/sdk" "$cache/zig"
  cp -r "$here/apple-stubs/." "$cache/sdk/"
  pip -q download --no-deps -d "$cache/zig" ziglang==0.17.1
  # The linker does not read the newest variant of a target; the others are the same list.
  python3 - "$cache" <<'PYTHON'
import glob, re, sys, zipfile
cache = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(cache + '/zig/*.whl')[0])
text = wheel.read('ziglang/lib/libc/darwin/libSystem.tbd').decode()
text = re.sub(r', *arm64e\.x1-\w+|arm64e\.x1-\w+,? *', '', text)
text = re.sub(r'arm64e-(macos|maccatalyst)', r'arm64-\1', text)
for name in ('libSystem', 'libc', 'libm'):
    open(f'{cache}/sdk/usr/lib/{name}.tbd', 'w').write(text)
PYTHON
  rm -rf "$cache/zig"
}

write_linker() {
  local lld
  lld=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
  # rustc passes -flavor and GCC's -Wl, forms; the linker takes neither.
  cat > "$cache/link" <<LINK
#!/usr/bin/env bash
args=()
for arg in "\$@"; do
  case "\$arg" in
    -Wl,*) IFS=, read -ra parts <<<"\${arg#-Wl,}"; args+=("\${parts[@]}") ;;
    *) args+=("\$arg") ;;
  esac
done
[ "\${args[0]}" = -flavor ] && args=("\${args[@]:2}")
exec $lld -flavor darwin "\${args[@]}"
LINK
  chmod +x "$cache/link"
}

debian_rust "$cache"
if [ ! -e "$cache/complete" ]; then
  fetch_sdk
  touch "$cache/complete"
fi
write_linker
export RUSTC="$cache/rustc" RUSTC_BOOTSTRAP=1 SDKROOT="$cache/sdk"
export RUSTC_WORKSPACE_WRAPPER="$cache/clippy" CLIPPY_ARGS="-Dwarnings"
export CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER="$cache/link"
export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS="-Clinker-flavor=ld64.lld -L $cache/sdk/usr/lib -L framework=$cache/sdk/System/Library/Frameworks"
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=none CARGO_PROFILE_DEV_OPT_LEVEL=0
unset RUSTFLAGS
cargo build --manifest-path "$root/Cargo.toml" --workspace --all-targets \
  -Zbuild-std=std,panic_abort --target "$target" --target-dir "$cache/build"
python3 "$here/macho.py" "$cache/build/$target/debug/anegpt"
