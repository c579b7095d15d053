#!/usr/bin/env python3
"""Measures anegpt beside other programs that train on a CPU, in turn, on the same machine.

    python3 benches/peers/run.py                       # everything, about half an hour
    python3 benches/peers/run.py --work stories15m --peers compile,eager --blocks 5

Needs a release build of anegpt (it makes one) and Python 3.9; makes its own virtual environment
under target/peers. See README.md beside this file for what is compared.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = pathlib.Path(os.environ.get("ANEGPT_PEERS_DIR", ROOT / "target" / "peers"))
PINNED = ["torch==2.15.0", "numpy", "tiktoken==0.14.0"]

STORIES15M = dict(dim=288, layers=6, heads=6, hidden=768, vocab=32000, tied=True, qk_norm=False)
STORIES110M = dict(dim=768, layers=12, heads=12, hidden=2048, vocab=32000, tied=True, qk_norm=False)
# nanochat at depth 4 with 4 heads: its MLP (two matrices, 4·C wide) replaced by a gated one of as
# many multiplications (three matrices, 8/3·C wide), which is what both sides here have.
NANOCHAT_D4 = dict(dim=256, layers=4, heads=4, hidden=688, vocab=32768, tied=False, qk_norm=True)
# nanochat itself: its model, and its update by Muon and AdamW.
NANOCHAT = dict(depth=4, vocab=32768, seq=512)

# name: geometry, batch, accumulated micro-batches, steps of one block, and per peer the target
WORKS = {
    "stories15m": (STORIES15M, 1, 1, 12, {"compile": 0.6, "eager": 0.6, "candle": 0.5, "burn": 0.5, "llmc": 0.5}),
    "stories110m": (STORIES110M, 1, 1, 5, {"compile": 0.8, "eager": 0.7, "candle": 0.5, "burn": 0.5, "llmc": 0.5}),
    "nanochat-d4": (NANOCHAT_D4, 1, 1, 12, {"compile": 0.6, "eager": 0.6, "candle": 0.5, "burn": 0.5}),
    "nanochat": (NANOCHAT, 1, 1, 12, {"compile": 0.8}),
    "nanochat-batch8": (NANOCHAT, 8, 1, 4, {"compile": 0.8}),
    "accum8-batch4": (STORIES15M, 4, 8, 2, {"compile": 0.8, "eager": 0.8}),
}
SLOW = {"candle"}  # one turn of two steps says enough


def run(command, **options):
    return subprocess.run(command, check=True, **options)


def environment():
    """The Python of the virtual environment with the pinned packages."""
    venv = pathlib.Path(os.environ.get("ANEGPT_PEERS_VENV", WORK / "venv"))
    python = venv / "bin" / "python"
    if not (venv / "complete").exists() and "ANEGPT_PEERS_VENV" not in os.environ:
        print("installing", ", ".join(PINNED), "into", venv)
        run([sys.executable, "-m", "venv", venv])
        run([python, "-m", "pip", "install", "--quiet", *PINNED])
        (venv / "complete").touch()
    return python


def build(crate):
    """A Rust peer, with the instruction set of this machine; its binary."""
    target = WORK / crate
    flags = dict(os.environ, RUSTFLAGS="-C target-cpu=native", CARGO_TARGET_DIR=str(target))
    run(["cargo", "build", "--release", "--quiet", "--manifest-path", HERE / crate / "Cargo.toml"], env=flags)
    return target / "release" / f"peer-{crate}"


def anegpt():
    binary = os.environ.get("ANEGPT")
    if binary:
        return binary
    run(["cargo", "build", "--release", "--quiet"], cwd=ROOT)
    return ROOT / "target" / "release" / "anegpt"


def text(size=30_000_000):
    """A text of made-up words with the frequencies of natural ones, the same on every machine."""
    path = WORK / "text.txt"
    if path.exists():
        return path
    random.seed(1)
    syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "ai", "ou", "en", "ar", "is", "on", "um")]
    words = ["".join(random.choice(syllables) for _ in range(random.choice((1, 1, 2, 2, 2, 3, 3, 4)))) for _ in range(100_000)]
    weights, total = [], 0.0
    for rank in range(len(words)):
        total += 1 / (rank + 10)
        weights.append(total)
    parts, length = [], 0
    while length < size:
        chosen = random.choices(words, cum_weights=weights, k=random.randint(5, 18))
        end = random.choice(("! ", "? ", ", ", ", ", ", ", ".\n", ".\n", ". ", ". ", ". "))
        number = f"{random.randint(0, 9999)} " if random.random() < 0.05 else ""
        parts.append(" ".join(chosen).capitalize() + end + number)
        length += len(parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(parts))
    return path


def tokenizer(binary, vocab):
    path = WORK / f"tokenizer-{vocab}.json"
    if not path.exists():
        run([binary, "tokenizer", "train", "--data", text(), "--vocab-size", str(vocab), "--out", path], stdout=subprocess.DEVNULL)
    return path


def model(geometry):
    """The geometry as arguments of anegpt."""
    if "depth" in geometry:
        return ["--preset", f"nanochat-d{geometry['depth']}", "--optimizer", "muon"]
    path = WORK / "config.toml"
    keys = dict(n_layer=geometry["layers"], n_head=geometry["heads"], n_embd=geometry["dim"], hidden=geometry["hidden"])
    lines = [f"{k} = {v}" for k, v in keys.items()]
    lines += [f"{k} = {str(geometry[k]).lower()}" for k in ("tied", "qk_norm")]
    path.write_text("[model]\n" + "\n".join(lines) + "\n")
    return ["--config", path]


def sample(binary):
    """A tenth of the text: enough to train on for a few steps, quick to read."""
    path = WORK / "sample.txt"
    if not path.exists():
        path.write_text(text().read_text()[:3_000_000])
    return path


def ours(binary, geometry, batch, accum, seq, steps, threads):
    # What is read at the start is prepared as a user would, so that the start is the program's own.
    vocabulary = tokenizer(binary, geometry["vocab"])
    tokens = WORK / f"tokens-{geometry['vocab']}.bin"
    if not tokens.exists():
        run([binary, "data", "tokenize", "--data", sample(binary), "--tokenizer", vocabulary, "--out", tokens], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as out:
        command = [binary, "train", *model(geometry), "--data", tokens, "--tokenizer", vocabulary]
        command += ["--seq", seq, "--batch", batch, "--accum", accum, "--steps", steps + 1, "--seed", 1]
        command += ["--sample-every", 0, "--eval-every", 0, "--checkpoint-every", 0, "--out", pathlib.Path(out) / "run", "--log-format", "json"]
        env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        start = time.perf_counter()
        errors = open(pathlib.Path(out) / "errors", "w+")
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=errors, env=env, text=True)
        times, first = [], None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "step":
                if first is None:
                    first = time.perf_counter() - start
                else:
                    times.append(event["ms"])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"anegpt failed with exit code {process.returncode}: {errors.read()}")
    return {"ms": times, "first_step_s": first, "peak_mb": usage.ru_maxrss / 1024}


def child(command, threads, **env):
    """Runs a peer that prints one line of JSON."""
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), RAYON_NUM_THREADS=str(threads), **env)
    result = run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)
    return json.loads(result.stdout.strip().splitlines()[-1])


class Peers:
    """What can be measured here; each gives {ms: [...], first_step_s, peak_mb}."""

    def __init__(self, wanted, llmc):
        self.llmc = llmc
        self.binary = anegpt()
        self.python = environment() if {"compile", "eager", "tiktoken"} & set(wanted) else None
        self.rust = {crate: build(crate) for crate in ("candle", "burn") if crate in wanted}
        self.c = self.build_llmc() if "llmc" in wanted else None

    def build_llmc(self):
        if not self.llmc:
            print("skipped: llm.c (give --llmc DIRECTORY of a checkout)")
            return None
        binary = WORK / "llmc"
        source = pathlib.Path(self.llmc)
        if not (source / "train_gpt2.c").exists():
            sys.exit(f"--llmc {source}: no train_gpt2.c there; give the top directory of a checkout of llm.c")
        run(["cc", "-O3", "-march=native", "-ffast-math", "-fopenmp", "-w", f"-I{source}", HERE / "llmc_step.c", "-lm", "-o", binary])
        return binary

    def step(self, peer, geometry, batch, accum, seq, steps, threads):
        shape = ["--geometry", json.dumps(geometry), "--batch", batch, "--accum", accum, "--seq", seq]
        shape += ["--steps", min(steps, 2) if peer in SLOW else steps, "--threads", threads]
        if peer == "ours":
            return ours(self.binary, geometry, batch, accum, seq, steps, threads)
        if peer in ("compile", "eager"):
            # No compiled code of an earlier block: the start is measured too.
            with tempfile.TemporaryDirectory() as cache:
                script = "nanochat_step.py" if "depth" in geometry else "torch_step.py"
                return child([self.python, HERE / script, "--mode", peer, *shape], threads, TORCHINDUCTOR_CACHE_DIR=cache)
        if peer == "llmc":
            numbers = [geometry[k] for k in ("dim", "layers", "heads", "vocab")] + [batch, seq, min(steps, 2)]
            return child([self.c, *numbers], threads)
        return child([self.rust[peer], *shape], threads)


def busy():
    """Seconds that the processors have worked since the machine started."""
    try:
        fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(f) for f in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


class Watch:
    """How many processors others used in between."""

    def __enter__(self):
        self.start = (time.perf_counter(), busy(), own())
        return self

    def __exit__(self, *_):
        seconds = time.perf_counter() - self.start[0]
        total = busy()
        self.foreign = max(0.0, (total - self.start[1] - (own() - self.start[2])) / seconds) if total else float("nan")


def measure_steps(peers, wanted, name, blocks, steps, seq, threads, quiet):
    geometry, batch, accum, usual, targets = WORKS[name]
    seq = geometry.get("seq", seq)
    present = [p for p in wanted if p in targets and (p != "llmc" or peers.c)]
    results = {p: [] for p in ["ours", *present]}
    for block in range(blocks):
        for peer in results:
            if peer in SLOW and block > 0:
                continue
            with Watch() as watch:
                got = peers.step(peer, geometry, batch, accum, seq, steps or usual, threads)
            got.update(median=statistics.median(got["ms"]), foreign=watch.foreign, block=block)
            results[peer].append(got)
            mark = " (busy machine: not counted)" if watch.foreign > quiet else ""
            print(f"  {name} block {block + 1}/{blocks} {peer:8} {got['median']:9.1f} ms  foreign load {watch.foreign:.2f}{mark}", flush=True)
    return summary(results, targets, quiet)


def summary(results, targets, quiet):
    calm = {p: [r for r in runs if not r["foreign"] > quiet] or runs for p, runs in results.items()}
    best = {p: statistics.median(r["median"] for r in runs) for p, runs in calm.items()}
    rows = {}
    for peer, runs in calm.items():
        rows[peer] = dict(
            ms=best[peer],
            low=min(min(r["ms"]) for r in runs),
            first_step_s=statistics.median(r["first_step_s"] for r in runs),
            peak_mb=max(r["peak_mb"] for r in runs),
            blocks=len(runs),
            ratio=best["ours"] / best[peer],
            target=targets.get(peer),
        )
    return {"rows": rows, "raw": results}


def measure_scaling(peers, name, blocks, steps, seq, quiet):
    geometry, batch, accum, usual, _ = WORKS[name]
    cores = os.cpu_count()
    times = {1: [], cores: []}
    for block in range(blocks):
        for threads in times:
            with Watch() as watch:
                got = ours(peers.binary, geometry, batch, accum, seq, steps or usual, threads)
            if watch.foreign <= quiet or block == blocks - 1 and not times[threads]:
                times[threads].append(statistics.median(got["ms"]))
            print(f"  scaling block {block + 1}/{blocks} {threads} threads {statistics.median(got['ms']):9.1f} ms  foreign load {watch.foreign:.2f}", flush=True)
    one, all_ = (statistics.median(t) for t in times.values())
    return {"one_ms": one, "all_ms": all_, "threads": cores, "speedup": one / all_, "target": 1.8}


def measure_tokenizer(peers, blocks):
    """Encoding speed of one thread, and whether the ids agree, on documents of 20 KB."""
    source, vocabulary = WORK / "documents.jsonl", tokenizer(peers.binary, 32768)
    if not source.exists():
        whole = text().read_text()
        documents = (whole[i : i + 20_000] for i in range(0, len(whole), 20_000))
        source.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
    result = []
    for block in range(blocks):
        ours_ = json.loads(run([peers.binary, "tokenizer", "eval", "--tokenizer", vocabulary, "--data", source, "--json"], stdout=subprocess.PIPE, text=True, env=dict(os.environ, RAYON_NUM_THREADS="1")).stdout)
        theirs = child([peers.python, HERE / "tiktoken_encode.py", vocabulary, source], 1)
        if ours_["tokens"] != theirs["tokens"]:
            raise RuntimeError(f"the tokenizers disagree: {ours_['tokens']} and {theirs['tokens']} tokens")
        result.append((ours_["mb_per_s"], theirs["mb_per_s"]))
        print(f"  tokenizer block {block + 1}/{blocks} ours {result[-1][0]:.1f} MB/s, tiktoken {result[-1][1]:.1f} MB/s", flush=True)
    mine, other = (statistics.median(column) for column in zip(*result))
    return {"ours_mb_s": mine, "tiktoken_mb_s": other, "ratio": mine / other, "target": 1.0}


def measure_checkpoint(peers, blocks):
    """Writing a checkpoint of stories110m beside `dd` of as many bytes in the same directory."""
    geometry = WORKS["stories110m"][0]
    vocabulary = tokenizer(peers.binary, geometry["vocab"])
    result = []
    for block in range(blocks):
        with tempfile.TemporaryDirectory(dir=WORK) as out:
            command = [peers.binary, "train", *model(geometry), "--data", sample(peers.binary), "--tokenizer", vocabulary, "--seq", 64, "--steps", 2, "--batch", 1, "--accum", 1]
            command += ["--sample-every", 0, "--eval-every", 0, "--checkpoint-every", 0, "--out", pathlib.Path(out) / "run", "--log-format", "json"]
            lines = run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
            event = next(e for e in map(json.loads, lines) if e["event"] == "checkpoint")
            size = sum(f.stat().st_size for f in pathlib.Path(event["path"]).rglob("*") if f.is_file())
            start = time.perf_counter()
            run(["dd", "if=/dev/zero", f"of={out}/zeros", "bs=1M", f"count={size >> 20}", "conv=fsync"], stderr=subprocess.DEVNULL)
            dd = (size >> 20 << 20) / (time.perf_counter() - start)
            result.append((size / event["ms"] * 1e3, dd))
        print(f"  checkpoint block {block + 1}/{blocks} {size / 1e6:.0f} MB: ours {result[-1][0] / 1e6:.0f} MB/s, dd {dd / 1e6:.0f} MB/s", flush=True)
    mine, other = (statistics.median(column) for column in zip(*result))
    return {"ours_mb_s": mine / 1e6, "dd_mb_s": other / 1e6, "ratio": mine / other, "target": 0.7}


def verdict(value, target, larger=False):
    return "met" if (value >= target if larger else value <= target) else "not met"


def report(results):
    print("\n| work | peer | ms | lowest | start to first step, s | peak MB | ours / peer | target |")
    print("|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        for peer, r in result.get("rows", {}).items():
            ratio = "" if peer == "ours" else f"{r['ratio']:.2f}"
            target = f"≤ {r['target']} {verdict(r['ratio'], r['target'])}" if r["target"] else ""
            print(f"| {name} | {peer} | {r['ms']:.1f} | {r['low']:.1f} | {r['first_step_s']:.2f} | {r['peak_mb']:.0f} | {ratio} | {target} |")
    for name, r in results.items():
        if "speedup" in r:
            print(f"\nscaling: {r['one_ms']:.1f} ms with 1 thread, {r['all_ms']:.1f} ms with {r['threads']}: {r['speedup']:.2f} × (target ≥ {r['target']}: {verdict(r['speedup'], r['target'], True)})")
        if "tiktoken_mb_s" in r:
            print(f"\ntokenizer, one core: {r['ours_mb_s']:.1f} MB/s, tiktoken {r['tiktoken_mb_s']:.1f} MB/s: {r['ratio']:.2f} (target ≥ {r['target']}: {verdict(r['ratio'], r['target'], True)})")
        if "dd_mb_s" in r:
            print(f"\ncheckpoint: {r['ours_mb_s']:.0f} MB/s, dd {r['dd_mb_s']:.0f} MB/s: {r['ratio']:.2f} (target ≥ {r['target']}: {verdict(r['ratio'], r['target'], True)})")


def main():
    works = [*WORKS, "scaling", "tokenizer", "checkpoint"]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", default=",".join(works), help=f"what to measure, of {', '.join(works)} (default: all)")
    p.add_argument("--peers", default="compile,eager,candle,burn,llmc", help="whom to measure beside us (default: %(default)s)")
    p.add_argument("--blocks", type=int, default=5, help="rounds in which everyone takes a turn (default: %(default)s)")
    p.add_argument("--steps", type=int, help="steps of one turn (default: by model)")
    p.add_argument("--seq", type=int, default=256)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--quiet", type=float, default=0.15, help="processors that others may use in a turn that counts (default: %(default)s)")
    p.add_argument("--isa", choices=["avx2"], help="everyone as on a processor that has no more than this")
    p.add_argument("--llmc", help="a checkout of karpathy/llm.c")
    p.add_argument("--json", help="file for all figures")
    a = p.parse_args()
    if a.isa:
        # ATen's name is also what torch.compile generates code for.
        os.environ.update(ANEGPT_SIMD="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", MKL_ENABLE_INSTRUCTIONS="AVX2")
    chosen, wanted = a.work.split(","), a.peers.split(",")
    for given, known in ((chosen, works), (wanted, ["compile", "eager", "candle", "burn", "llmc"])):
        if unknown := set(given) - set(known):
            p.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    WORK.mkdir(parents=True, exist_ok=True)
    if "tokenizer" in chosen:
        wanted.append("tiktoken")
    peers = Peers(wanted, a.llmc)
    results = {}
    for name in chosen:
        if name in WORKS:
            results[name] = measure_steps(peers, wanted, name, a.blocks, a.steps, a.seq, a.threads, a.quiet)
        elif name == "scaling":
            results[name] = measure_scaling(peers, "stories110m", a.blocks, a.steps, a.seq, a.quiet)
        elif name == "tokenizer":
            results[name] = measure_tokenizer(peers, a.blocks)
        else:
            results[name] = measure_checkpoint(peers, a.blocks)
        if a.json:
            pathlib.Path(a.json).write_text(json.dumps(results, indent=1))
    report(results)


main()
