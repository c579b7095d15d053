"""What the peers in PyTorch share: arguments, and the time of steps. Imported before torch, whose import counts."""

import argparse
import json
import resource
import time

START = time.perf_counter()


def arguments(about, geometry, seq):
    p = argparse.ArgumentParser(description=about)
    p.add_argument("--geometry", required=True, help=f"JSON: {geometry}")
    p.add_argument("--mode", choices=["eager", "compile"], default="compile", help="of the model")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--accum", type=int, default=1)
    p.add_argument("--seq", type=int, default=seq)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


def measure(a, vocab, call, update):
    """Prints the times of steps as JSON: `call` gives the loss of a micro-batch, `update` takes the gradients."""
    import torch

    times, updates, first = [], [], None
    for _ in range(a.steps + 1):
        start = time.perf_counter()
        for _ in range(a.accum):
            x, y = (torch.randint(vocab, (a.batch, a.seq)) for _ in range(2))
            (call(x, y) / a.accum).backward()
        before = time.perf_counter()
        update()
        now = time.perf_counter()
        if first is None:
            first = now - START
        else:
            times.append((now - start) * 1e3)
            updates.append((now - before) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"ms": times, "update_ms": updates, "first_step_s": first, "peak_mb": peak, "version": torch.__version__}
    print(json.dumps(found))
