#!/usr/bin/env python3
"""Measures text generation by anegpt beside llama.cpp and llama2.c, in turn, on the same machine.

    python3 benches/peers/decode.py
    python3 benches/peers/decode.py --llama2c ~/llama2.c --tokenizer tokenizer.bin --preset stories110m --rounds 9

Everybody continues the empty text greedily, one text at a time, with the same weights and number of threads, from
a context that holds nothing. A round gives each program one turn, in an order that changes; the table has medians,
the best turn, and the median of the ratios within a round. llama.cpp comes as the package xllamacpp; llama2.c is
built from its directory with the flags of its `runomp`, and needs a vocabulary that its format can hold.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = Path(os.environ.get("ANEGPT_PEERS_DIR", ROOT / "target" / "peers"))
PACKAGE = "xllamacpp==2026.10.11549"
# Our format, and that of a GGUF file with the same weights.
FORMATS = {"f32": "f32", "f16": "f16", "int8": "q8_0"}
FLAGS = ["-Ofast", "-fopenmp", "-march=native"]

# Runs in the environment that has the package: prints tokens and tokens a second.
LLAMA_CPP = """
import json, sys
import xllamacpp as x
path, tokens, threads, bos = sys.argv[1], *map(int, sys.argv[2:])
p = x.CommonParams()
p.model.path, p.verbosity = path, -1
p.n_ctx, p.n_gpu_layers, p.cpuparams.n_threads, p.n_parallel = 1024, 0, threads, 1
server = x.Server(p)
ask = {"prompt": [bos], "n_predict": tokens, "temperature": 0, "cache_prompt": False, "ignore_eos": True,
       "return_tokens": True, "timings_per_token": False}
answer = server.handle_completions(ask)
answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
print(json.dumps({"speed": answer["timings"]["predicted_per_second"], "text": answer["choices"][0]["text"]}))
"""


def run(command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def environment():
    """The interpreter that has llama.cpp, or None where it cannot be installed."""
    venv = WORK / "decode"
    python = venv / "bin" / "python"
    if not (venv / "complete").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True)
        except subprocess.CalledProcessError:
            print(f"without llama.cpp: {PACKAGE} cannot be installed")
            return None
        (venv / "complete").touch()
    return python


class Models:
    """A model of random weights in every format, in directory `place`."""

    def __init__(self, place, anegpt, preset, tokenizer, llama2c):
        self.anegpt, self.place = anegpt, place
        text = self.place / "text.txt"
        text.write_text(run([anegpt, "data", "synth", "--count", 2000]).stdout)
        made = self.place / "model"
        given = ["--tokenizer", tokenizer] if tokenizer else []
        run([anegpt, "train", "--preset", preset, "--data", text, *given, "--steps", 1, "--eval-every", 0,
             "--sample-every", 0, "--device", "cpu", "--out", made])
        self.bos = json.loads((made / "latest" / "config.json").read_text()).get("bos_token_id", 1)
        self.model = made
        for format in FORMATS.values():
            self.export("gguf", format, self.gguf(format))
        if llama2c:
            self.export("llama2c", "f32", self.place / "model.bin")

    def export(self, to, format, path):
        run([self.anegpt, "export", self.model, "--to", to, "--dtype", format, "--out", path])

    def gguf(self, format):
        return self.place / f"{format}.gguf"


def ours(models, format, tokens, threads):
    args = ["--temperature", 0, "-n", tokens, "--weights", format, "--device", "cpu", "--json"]
    done = run([models.anegpt, "generate", "-m", models.model, *args], env={**os.environ, "RAYON_NUM_THREADS": str(threads)})
    answer = json.loads(done.stdout)
    return answer["tokens_per_s"], answer["text"]


def llama_cpp(python, models, format, tokens, threads):
    done = run([python, "-c", LLAMA_CPP, models.gguf(FORMATS[format]), tokens, threads, models.bos])
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["speed"], answer["text"]


def llama2c(binary, models, tokens, threads):
    args = [models.place / "model.bin", "-t", 0, "-n", tokens, "-z", models.place / "model.tokenizer.bin"]
    done = run([binary, *args], env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    speed = [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("achieved tok/s")]
    return float(speed[-1]), done.stdout


def same(ours, theirs):
    """The length of the common beginning, white space at the ends left out."""
    a, b = ours.strip(), theirs.strip()
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b))), min(len(a), len(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="stories15m,stories110m", help="geometries [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each program [default: %(default)s]")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of a turn [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--llama2c", type=Path, help="directory of llama2.c, which has run.c")
    parser.add_argument("--tokenizer", type=Path, help="vocabulary of 32000 tokens [default: one is learned]")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    anegpt = os.environ.get("ANEGPT") or ROOT / "target" / "release" / "anegpt"
    if "ANEGPT" not in os.environ:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    python = environment()
    binary = None
    if args.llama2c:
        binary = WORK / "runomp"
        run([os.environ.get("CC", "gcc"), *FLAGS, args.llama2c / "run.c", "-lm", "-o", binary])
    found = {}
    for preset in args.preset.split(","):
        # A gigabyte for stories110m.
        with tempfile.TemporaryDirectory(prefix="decode-", dir=WORK) as place:
            models = Models(Path(place), anegpt, preset, args.tokenizer, binary)
            found[preset] = measure(preset, turns(models, python, binary, args.tokens, args.threads), args.rounds)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


def turns(models, python, binary, tokens, threads):
    """What each program does in its turn, by its name and format."""
    all = {f"anegpt {format}": partial(ours, models, format, tokens, threads) for format in FORMATS}
    if python:
        all |= {f"llama.cpp {format}": partial(llama_cpp, python, models, format, tokens, threads) for format in FORMATS}
    if binary:
        all["llama2.c f32"] = partial(llama2c, binary, models, tokens, threads)
    return all


def measure(preset, turns, rounds):
    speeds, texts = {name: [] for name in turns}, {}
    for _ in range(rounds):
        for name in random.sample(list(turns), len(turns)):
            speed, texts[name] = turns[name]()
            speeds[name].append(speed)
    print(f"\n{preset}: tokens a second, {rounds} rounds\n{'':<15}{'median':>9}{'best':>9}{'ours/it':>9}  same greedy text")
    for name, values in speeds.items():
        program, format = name.split()
        ratio, text = "", ""
        if program != "anegpt":
            mine = f"anegpt {format}"
            ratio = f"{statistics.median(a / b for a, b in zip(speeds[mine], values)):.2f}"
            text = "{} of {} characters".format(*same(texts[mine], texts[name]))
        print(f"{name:<15}{statistics.median(values):>9.1f}{max(values):>9.1f}{ratio:>9}  {text}")
    return speeds


main()
