"""Models: text, losses and tokens, against a model in NumPy in float64, and the command."""

import contextlib
import json
import math
import multiprocessing
import os
import subprocess
import sysconfig
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import numpy as np

import anegpt
from anegpt import _model

SETTINGS = """[model]
n_layer = 2
n_head = 4
n_kv_head = 2
n_embd = 32
hidden = 48
seq_len = 32
[train]
batch = 4
seq = 32
"""


def run(*arguments):
    done = subprocess.run(
        [str(_model.command()), *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise AssertionError(f"{arguments}: {done.stderr}")
    return done.stdout


class NumPyModel:
    """The same model from its files, without our code."""

    def __init__(self, directory):
        self.config = json.loads((directory / "config.json").read_text())
        data = (directory / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        self.weights = {}
        for name, tensor in header.items():
            if name != "__metadata__":
                start, end = (8 + length + at for at in tensor["data_offsets"])
                kind = {"F32": np.float32, "F16": np.float16}[tensor["dtype"]]
                values = np.frombuffer(data[start:end], kind).astype(np.float64)
                self.weights[name] = values.reshape(tensor["shape"])

    def norm(self, x, gain):
        mean = (x**2).mean(-1, keepdims=True)
        return x / np.sqrt(mean + self.config["rms_norm_eps"]) * gain

    def rotate(self, x):
        """Rotary embedding of [heads, tokens, width], pairs (i, i + width / 2)."""
        half = x.shape[-1] // 2
        theta = self.config.get("rope_theta") or self.config["rope_parameters"]["rope_theta"]
        angles = np.outer(np.arange(x.shape[1]), theta ** (-np.arange(half) / half))
        a, b = x[..., :half], x[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def logits(self, tokens):
        c, w = self.config, self.weights
        heads, groups = c["num_attention_heads"], c["num_key_value_heads"]
        n = len(tokens)
        x = w["model.embed_tokens.weight"][tokens]
        for i in range(c["num_hidden_layers"]):
            layer = lambda name, i=i: w[f"model.layers.{i}.{name}.weight"]  # noqa: E731
            h = self.norm(x, layer("input_layernorm"))
            split = lambda y, k: y.reshape(n, k, -1).transpose(1, 0, 2)  # noqa: E731
            q = self.rotate(split(h @ layer("self_attn.q_proj").T, heads))
            k = self.rotate(split(h @ layer("self_attn.k_proj").T, groups))
            v = split(h @ layer("self_attn.v_proj").T, groups)
            k, v = (np.repeat(y, heads // groups, 0) for y in (k, v))
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
            scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
            share = np.exp(scores - scores.max(-1, keepdims=True))
            out = share / share.sum(-1, keepdims=True) @ v
            x = x + out.transpose(1, 0, 2).reshape(n, -1) @ layer("self_attn.o_proj").T
            h = self.norm(x, layer("post_attention_layernorm"))
            gate = h @ layer("mlp.gate_proj").T
            up = h @ layer("mlp.up_proj").T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ layer("mlp.down_proj").T
        head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
        return self.norm(x, w["model.norm.weight"]) @ head.T

    def losses(self, tokens):
        """Loss of every token but the first."""
        logits = self.logits(tokens)[:-1]
        largest = logits.max(-1)
        total = largest + np.log(np.exp(logits - largest[:, None]).sum(-1))
        return total - logits[np.arange(len(tokens) - 1), tokens[1:]]


class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.place = Path(cls.stack.enter_context(tempfile.TemporaryDirectory()))
        (cls.place / "small.toml").write_text(SETTINGS)
        cls.text = run("data", "synth", "--count", 60)
        (cls.place / "text.txt").write_text(cls.text)
        common = ["--config", cls.place / "small.toml", "--data", cls.place / "text.txt"]
        common += ["--steps", 20, "--lr", 3e-3, "--sample-every", 0, "--device", "cpu"]
        for name, tokenizer in [("bytes", "bpe:300"), ("letters", "char")]:
            run("train", *common, "--tokenizer", tokenizer, "--out", cls.place / name)
        cls.model = cls.stack.enter_context(anegpt.load(cls.place / "bytes", device="cpu"))
        # The only checkpoint, or the last.
        checkpoint = sorted((cls.place / "bytes").glob("step-*"))[-1]
        cls.numpy = NumPyModel(checkpoint)
        cls.begin = cls.model.generate("One", max_tokens=1).prompt_tokens - len(
            cls.model.encode("One")
        )

    def with_begin(self, tokens):
        """Tokens behind the one that begins a text, where the model has one."""
        bos = self.numpy.config.get("bos_token_id")
        return [bos] * self.begin + tokens

    def test_what_it_is(self):
        self.assertEqual((self.model.vocab_size, self.model.context), (300, 32))
        self.assertEqual(
            self.model.parameters, sum(w.size for w in self.numpy.weights.values())
        )
        self.assertIn("2 layers", self.model.description)
        self.assertIn("CPU", self.model.device)
        self.assertIn("2 layers", repr(self.model))

    def test_tokens(self):
        for text in ["Once upon a time", "ünï ↯\n\n", ""]:
            tokens = self.model.encode(text)
            self.assertTrue(all(0 <= token < 300 for token in tokens))
            self.assertEqual(self.model.decode(tokens), text)
        self.assertEqual(self.model.decode(np.array(self.model.encode("a dog"))), "a dog")
        with self.assertRaisesRegex(ValueError, "token 300 is not of the vocabulary"):
            self.model.decode([1, 300])
        with self.assertRaises(ValueError):
            self.model.decode([-1])

    def test_the_most_likely_tokens(self):
        text = self.model.generate("Once upon", max_tokens=12, temperature=0)
        tokens = self.with_begin(self.model.encode("Once upon"))
        start = len(tokens)
        self.assertEqual(text.prompt_tokens, start)
        for _ in range(len(text.tokens)):
            tokens.append(int(self.numpy.logits(tokens)[-1].argmax()))
        self.assertEqual(list(text.tokens), tokens[start:])
        self.assertEqual((len(text.tokens), text.finish_reason), (12, "max_tokens"))
        self.assertEqual(text, self.model.decode(text.tokens))
        self.assertGreater(text.tokens_per_second, 0)
        # As the command has it.
        arguments = ["--prompt", "Once upon", "--max-tokens", 12, "--temperature", 0]
        said = run("generate", "--model", self.place / "bytes", *arguments, "--device", "cpu")
        self.assertEqual(said, f"Once upon{text}\n")

    def test_seeds_and_settings(self):
        draw = lambda **more: self.model.generate("The", max_tokens=20, **more)  # noqa: E731
        self.assertEqual(draw(seed=5).tokens, draw(seed=5).tokens)
        self.assertNotEqual(draw(seed=5), draw(seed=6))
        self.assertEqual(draw(top_k=1, seed=9), draw(temperature=0))
        self.assertEqual(draw(top_p=1e-6, seed=9), draw(temperature=0))
        # Longer than the model reads: the window slides.
        self.assertEqual(len(self.model.generate("The", max_tokens=50, top_k=1).tokens), 50)

    def test_stop(self):
        settings = {"max_tokens": 40, "temperature": 0}
        whole = str(self.model.generate("Tom", **settings))
        end = whole[len(whole) // 2 :][:3]
        want = whole[: whole.find(end)]
        for stop in (end, ["not in the text", end]):
            text = self.model.generate("Tom", stop=stop, **settings)
            self.assertEqual((text, text.finish_reason), (want, "stop_string"))
        self.assertEqual("".join(self.model.stream("Tom", stop=end, **settings)), want)

    def test_streams(self):
        settings = {"max_tokens": 24, "seed": 3}
        whole = self.model.generate("Tom", **settings)
        self.assertEqual("".join(self.model.stream("Tom", **settings)), whole)
        # Other requests in between.
        pieces = self.model.stream("Tom", **settings)
        first = next(pieces)
        self.assertEqual(self.model.decode(self.model.encode("Lily")), "Lily")
        other = self.model.stream("Tom", **settings)
        self.assertEqual((next(other), first + "".join(pieces)), (first, str(whole)))
        del other
        self.assertEqual(self.model.generate("Tom", **settings), whole)

    def test_losses(self):
        text = self.text[:70]
        loss = self.model.loss(text)
        tokens = self.with_begin(self.model.encode(text))
        # Pieces of 32 tokens, each predicted from itself and the token before it.
        want = [self.numpy.losses(tokens[at : at + 33]) for at in range(0, len(tokens) - 1, 32)]
        self.assertGreater(len(want), 1)
        want = np.concatenate(want)
        np.testing.assert_allclose(loss.tokens, want, rtol=1e-4, atol=1e-4)
        self.assertAlmostEqual(loss.nats_per_token, want.mean(), places=4)
        self.assertEqual(float(loss), loss.nats_per_token)
        counted = tokens[1:] if not self.begin else self.model.encode(text)
        size = len(self.model.decode(counted).encode())
        self.assertEqual(loss.bytes, size)
        self.assertAlmostEqual(loss.bits_per_byte, want.sum() / math.log(2) / size, places=4)
        with self.assertRaisesRegex(ValueError, "no token that could be predicted"):
            self.model.loss("")

    def test_what_cannot_be(self):
        with self.assertRaisesRegex(ValueError, "temperature"):
            self.model.generate("a", temperature=-1)
        with self.assertRaises(ValueError):
            self.model.generate("a", max_tokens=-1)
        with self.assertRaisesRegex(ValueError, "at most 32"):
            self.model.generate("word " * 100)
        with self.assertRaisesRegex(ValueError, "nowhere"):
            anegpt.load("nowhere")
        with self.assertRaisesRegex(RuntimeError, "m9"):
            anegpt.load(self.place / "bytes", device="emulator", chip="m9")
        with self.assertRaisesRegex(RuntimeError, "no device is called `gpu`"):
            anegpt.load(self.place / "bytes", device="gpu")
        with anegpt.load(self.place / "letters", device="emulator", chip="m2-max") as letters:
            self.assertIn("m2-max", letters.device)
            with self.assertRaisesRegex(ValueError, "cannot be encoded"):
                letters.encode("↯")
            # What cannot be asked leaves the model as it was.
            self.assertEqual(letters.decode(letters.encode("a cat")), "a cat")
        with self.assertRaisesRegex(RuntimeError, "closed"):
            letters.encode("a")

    def test_a_process_that_ends(self):
        model = anegpt.load(self.place / "bytes", device="cpu")
        model._process.kill()
        model._process.wait()
        with self.assertRaisesRegex(RuntimeError, "has ended"):
            model.encode("a")
        model.close()

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here")
    def test_forks(self):
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)

        def child():
            try:
                self.model.encode("a")
            except RuntimeError as error:
                sender.send(str(error))

        process = context.Process(target=child)
        process.start()
        self.assertTrue(receiver.poll(20))
        self.assertIn("forked", receiver.recv())
        process.join()
        self.assertEqual(self.model.decode(self.model.encode("still here")), "still here")


class Command(unittest.TestCase):
    def test_it_is_installed(self):
        command = Path(sysconfig.get_path("scripts")) / "anegpt"
        done = subprocess.run([command, "--version"], capture_output=True, text=True)
        self.assertEqual(done.stdout, f"anegpt {anegpt.__version__}\n")
        # Arguments, standard output and exit codes are the program's.
        wrong = subprocess.run([command, "fly"], capture_output=True, text=True)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("fly", wrong.stderr)

    def test_a_missing_program_says_so(self):
        with unittest.mock.patch.dict(os.environ, {"ANEGPT_COMMAND": "/nowhere"}):
            with self.assertRaisesRegex(RuntimeError, "ANEGPT_COMMAND"):
                anegpt.load("x")


if __name__ == "__main__":
    unittest.main()
