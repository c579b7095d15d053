# Sourced by the checks for other machines: `debian_rust DIRECTORY` unpacks Debian's Rust compiler with
# the source of its standard library there, once, and writes the wrappers `rustc` and `clippy`.

debian_rust() {
  local cache=$1
  if [ ! -e "$cache/rust/complete" ]; then
    rm -rf "$cache/deb" "$cache/rust"
    mkdir -p "$cache/deb"
    (
      cd "$cache/deb"
      std=$(apt-cache depends libstd-rust-web-dev | awk '/Depends: libstd-rust-web-/{print $2; exit}')
      llvm=$(apt-cache depends "$std" | awk '/Depends: libllvm/{print $2; exit}')
      apt-get -qq download rustc-web libstd-rust-web-dev "$std" "$llvm" rust-web-src rust-web-clippy
      for package in *.deb; do dpkg-deb -x "$package" "$cache/rust"; done
    )
    rm -rf "$cache/deb"
    touch "$cache/rust/complete"
  fi
  local library_path="$cache/rust/usr/lib/x86_64-linux-gnu:$cache/rust/usr/lib"
  local pair
  for pair in rustc:rustc clippy:clippy-driver; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/rust/usr/bin/%s "$@"\n' \
      "$library_path" "$cache" "${pair#*:}" > "$cache/${pair%%:*}"
    chmod +x "$cache/${pair%%:*}"
  done
}
