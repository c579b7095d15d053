# What tests beside other programs share. Sourced at the top of the repository.

# python_with GIVEN NAME MODULES PACKAGE...: `python` becomes GIVEN, or, where that is empty, an interpreter in
# target/NAME that can import MODULES; the packages are installed there if need be. Fails if they cannot be.
python_with() {
  local given=$1 name=$2 modules=$3
  shift 3
  python=${given:-target/$name/bin/python}
  if [ -n "$given" ] || "$python" -c "import $modules" 2> /dev/null; then
    return
  fi
  mkdir -p target
  { python3 -m venv "target/$name" && "$python" -m pip install --quiet "$@"; } 2> "target/$name.log"
}

# ANEGPT becomes a release build, unless it names a program.
build_anegpt() {
  if [ -z "${ANEGPT:-}" ]; then
    cargo build --release --quiet -p anegpt
    ANEGPT=$PWD/target/release/anegpt
  fi
}

# documents FILE: writes sentences of few words; in seconds a model learns when a document ends.
documents() {
  "$python" - > "$1" << 'PY'
import random
draw = random.Random(1)
for _ in range(3000):
    print(" ".join(draw.choices(["aa", "bb", "cc"], k=draw.randint(3, 6))) + "!\n<|endoftext|>")
PY
}

# serve NAME ARGUMENT...: serves the model $served as `small`, with its log in $work/NAME.log. `url` becomes the
# address and `pid` the process, which `servers` lists too.
servers=()
serve() {
  local log=$work/$1.log
  shift
  "$ANEGPT" serve "$served" --name small --port 0 "$@" > "$log" 2>&1 &
  pid=$!
  servers+=("$pid")
  for _ in $(seq 300); do
    url=$(sed -n 's/^serving *//p' "$log")
    [ -z "$url" ] || return 0
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
  done
  cat "$log"
  return 1
}

# `tools` becomes a directory with playwright-core, which drives Chromium; installed there if need be. Fails if it
# cannot be.
page_tools() {
  tools=target/page
  if [ ! -e "$tools/node_modules/playwright-core" ]; then
    mkdir -p "$tools"
    npm install --silent --no-fund --no-audit --prefix "$tools" playwright-core@1.64.1 > target/page.log 2>&1
  fi
}
