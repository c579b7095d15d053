#!/usr/bin/env python3
"""Trains a small model that predicts the next character, with every product on the device.

Eight characters are looked up in a table, a hidden layer with a rectifier follows, then a softmax
over the characters. Weights travel in the inputs, so that four programs are compiled once: two for
the layers forward and two for the gradients that flow back. The gradients of the weights, the
softmax and AdamW are NumPy's.

    python train_characters.py [--steps 300] [--device emulator] [--text FILE]
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Dict

import numpy as np
from numpy.typing import NDArray

from anegpt.ane_bridge import ANEBridge, ANEKernel, generate_dyn_matmul_mil

Array = NDArray[np.float32]

CONTEXT, EMBED, HIDDEN, BATCH = 8, 16, 128, 128

#: Gradients are small numbers in fp16: they go to the device times this, and come back divided.
SCALE = np.float32(256)


class Product:
    """y = W·x on the device, for any W [out, inp] and x [inp, BATCH]."""

    def __init__(self, bridge: ANEBridge, inp: int, out: int) -> None:
        self.shape = (inp, BATCH + out)
        self.out = (out, BATCH)
        self.kernel: ANEKernel = bridge.compile(
            generate_dyn_matmul_mil(inp, out, BATCH),
            input_sizes=[4 * inp * (BATCH + out)],
            output_sizes=[4 * out * BATCH],
        )

    def __call__(self, w: Array, x: Array) -> Array:
        with self.kernel.map_input(0, self.shape) as memory:
            memory[:, :BATCH] = x
            memory[:, BATCH:] = w.T
        self.kernel.run()
        return self.kernel.read_output(0, self.out)


class Model:
    """Parameters, their gradients, and AdamW."""

    def __init__(self, bridge: ANEBridge, vocab: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        inp = CONTEXT * EMBED

        def normal(rows: int, cols: int, scale: float) -> Array:
            return (rng.standard_normal((rows, cols)) * scale).astype(np.float32)

        self.params: Dict[str, Array] = {
            "embed": normal(vocab, EMBED, 0.5),
            "w1": normal(HIDDEN, inp, math.sqrt(2 / inp)),
            "b1": np.zeros((HIDDEN, 1), np.float32),
            "w2": normal(vocab, HIDDEN, 0.5 / math.sqrt(HIDDEN)),
            "b2": np.zeros((vocab, 1), np.float32),
        }
        self.moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in self.params.items()}
        self.steps = 0
        self.layer1 = Product(bridge, inp, HIDDEN)
        self.layer2 = Product(bridge, HIDDEN, vocab)
        self.back2 = Product(bridge, vocab, HIDDEN)
        self.back1 = Product(bridge, HIDDEN, inp)

    def loss(self, context: NDArray[np.int64], target: NDArray[np.int64]) -> tuple[float, Dict[str, Array]]:
        """Mean cross-entropy in nats of `target` [BATCH] after `context` [BATCH, CONTEXT], and its
        gradients."""
        p = self.params
        x = p["embed"][context].reshape(BATCH, -1).T
        h = self.layer1(p["w1"], x) + p["b1"]
        a = np.maximum(h, 0)
        logits = self.layer2(p["w2"], a) + p["b2"]
        logits -= logits.max(axis=0)
        probs = np.exp(logits)
        probs /= probs.sum(axis=0)
        each = np.arange(BATCH)
        loss = float(-np.log(probs[target, each] + 1e-10).mean())
        dlogits = probs
        dlogits[target, each] -= 1
        dlogits /= BATCH
        da = self.back2(p["w2"].T, dlogits * SCALE) / SCALE
        dh = np.where(h > 0, da, 0).astype(np.float32)
        dx = self.back1(p["w1"].T, dh * SCALE) / SCALE
        dembed = np.zeros_like(p["embed"])
        np.add.at(dembed, context, dx.T.reshape(BATCH, CONTEXT, EMBED))
        return loss, {
            "embed": dembed,
            "w1": dh @ x.T,
            "b1": dh.sum(axis=1, keepdims=True),
            "w2": dlogits @ a.T,
            "b2": dlogits.sum(axis=1, keepdims=True),
        }

    def update(self, grads: Dict[str, Array], rate: float) -> None:
        """One step of AdamW (Loshchilov and Hutter, arXiv:1711.05101)."""
        self.steps += 1
        for name, p in self.params.items():
            m, v = self.moments[name]
            m += 0.1 * (grads[name] - m)
            v += 0.01 * (grads[name] ** 2 - v)
            step = (m / (1 - 0.9**self.steps)) / (np.sqrt(v / (1 - 0.99**self.steps)) + 1e-8)
            p -= np.float32(rate) * (step + 0.01 * p)


def stories(seed: int, count: int = 2000) -> str:
    """Sentences of a small grammar, so that there is something to learn and a bound to it."""
    rng = np.random.default_rng(seed)
    who = ["the cat", "a small dog", "the old bird", "my friend"]
    does = ["looked for", "found", "lost", "carried", "painted"]
    what = ["a red ball", "the moon", "two apples", "an open door"]
    pick = rng.integers
    sentences = (
        f"{who[pick(4)]} {does[pick(5)]} {what[pick(4)]}." for _ in range(count)
    )
    return " ".join(sentences)


def train(
    text: str, steps: int, device: str, seed: int = 0, report: int = 50
) -> tuple[list[float], float]:
    """Losses of all steps, and the entropy of single characters, which a model must beat."""
    letters = sorted(set(text))
    ids = np.array([letters.index(c) for c in text])
    shares = np.bincount(ids) / len(ids)
    unigram = float(-(shares * np.log(shares)).sum())
    rng = np.random.default_rng(seed)
    losses = []
    with ANEBridge(device=device) as bridge:
        model = Model(bridge, len(letters), seed)
        print(f"device   {bridge.device}")
        print(f"text     {len(text)} characters, {len(letters)} different, unigram {unigram:.4f}")
        start = time.perf_counter()
        for step in range(1, steps + 1):
            at = rng.integers(0, len(ids) - CONTEXT, BATCH)
            context = ids[at[:, None] + np.arange(CONTEXT)]
            loss, grads = model.loss(context, ids[at + CONTEXT])
            decay = 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps))
            model.update(grads, 3e-3 * decay)
            losses.append(loss)
            if step == 1 or step % report == 0:
                print(f"step {step:5d}  loss {loss:.4f}")
        took = time.perf_counter() - start
        print(f"{1e3 * took / steps:.2f} ms per step, {bridge.compile_count} programs compiled")
    return losses, unigram


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--text", help="a text file; else sentences of a small grammar")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    text = open(args.text, encoding="utf-8").read() if args.text else stories(args.seed)
    train(text, args.steps, args.device, args.seed)


if __name__ == "__main__":
    main()
