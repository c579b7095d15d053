"""CORE by its rules, in NumPy and f64: prompts, spans, a Llama model's losses, and what is right.

Nothing here is shared with the Rust code. Compares the results of `anegpt eval --tasks core` with it, question by
question:

    core_oracle.py ANEGPT BUNDLE MODEL...

`--write FILE BUNDLE MODEL` instead writes what the test in crates/anegpt/tests/it/core.rs expects.
"""

import csv
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import yaml
from tokenizers import Tokenizer

# Sums of f32 in the Rust code against sums of f64 here: each loss of a few nats comes from logits below 100 with
# relative errors of at most 2^-24 for each of about a hundred terms.
TOLERANCE = 1e-4


def tensors(path):
    """The tensors of a safetensors file, in f64."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", f"{name} is {entry['dtype']}"
            start, end = entry["data_offsets"]
            found[name] = np.frombuffer(data[start:end], "<f4").reshape(entry["shape"]).astype(np.float64)
    return found


class Llama:
    """The forward pass of a Llama model, all positions at once."""

    def __init__(self, directory):
        with open(os.path.join(directory, "config.json")) as file:
            self.config = json.load(file)
        assert self.config["model_type"] == "llama", "only Llama is written down here"
        self.weights = tensors(os.path.join(directory, "model.safetensors"))
        self.tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
        self.bos = self.config["bos_token_id"]
        self.context = self.config["max_position_embeddings"]
        rope = self.config.get("rope_parameters") or {}
        self.theta = rope.get("rope_theta") or self.config.get("rope_theta") or 10000.0

    def encode(self, text):
        return [self.bos] + self.tokenizer.encode(text, add_special_tokens=False).ids

    def norm(self, x, name):
        mean = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean + self.config["rms_norm_eps"]) * self.weights[name]

    def rotate(self, x):
        """[heads, T, E]: pairs are (i, i + E/2)."""
        half = x.shape[-1] // 2
        angles = np.outer(np.arange(x.shape[1]), self.theta ** (-np.arange(half) / half))
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)

    def log_probabilities(self, ids):
        """[T, V]"""
        config, w, count = self.config, self.weights, len(ids)
        heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
        x = w["model.embed_tokens.weight"][ids]
        future = np.triu(np.full((count, count), -np.inf), 1)
        for layer in range(config["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            h = self.norm(x, at + "input_layernorm.weight")

            def split(name, number):
                return (h @ w[at + f"self_attn.{name}_proj.weight"].T).reshape(count, number, -1).transpose(1, 0, 2)

            q, k, v = self.rotate(split("q", heads)), self.rotate(split("k", groups)), split("v", groups)
            k, v = (np.repeat(each, heads // groups, axis=0) for each in (k, v))
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]) + future
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (scores / scores.sum(-1, keepdims=True)) @ v
            x = x + mixed.transpose(1, 0, 2).reshape(count, -1) @ w[at + "self_attn.o_proj.weight"].T
            h = self.norm(x, at + "post_attention_layernorm.weight")
            gate = h @ w[at + "mlp.gate_proj.weight"].T
            up = h @ w[at + "mlp.up_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
        tied = config.get("tie_word_embeddings") or "lm_head.weight" not in w
        logits = self.norm(x, "model.norm.weight") @ w["model.embed_tokens.weight" if tied else "lm_head.weight"].T
        logits = logits - logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def prompts(task, shots, item):
    """The texts of a question, by the type of its task."""
    kind, delimiter = task["icl_task_type"], task.get("continuation_delimiter", " ")
    before = ""
    for shot in shots:
        if kind == "multiple_choice":
            parts = shot["query"], shot["choices"][shot["gold"]]
        elif kind == "schema":
            parts = shot["context_options"][shot["gold"]], shot["continuation"]
        else:
            parts = shot["context"].strip(), shot["continuation"]
        before += parts[0] + delimiter + parts[1] + "\n\n"
    if kind == "multiple_choice":
        return [before + item["query"] + delimiter + choice for choice in item["choices"]]
    if kind == "schema":
        return [before + context + delimiter + item["continuation"] for context in item["context_options"]]
    whole = before + item["context"].strip() + delimiter
    return [whole.strip(), whole + item["continuation"]]


def alike(rows, end):
    """How many tokens all rows have in common, from the start or from the end."""
    count = 0
    while all(count < len(row) for row in rows):
        place = -1 - count if end else count
        if any(row[place] != rows[0][place] for row in rows):
            break
        count += 1
    return count


def answer(model, task, shots, item):
    """A question's verdict, losses, and whether its prompts were cut."""
    kind = task["icl_task_type"]
    rows = [model.encode(text) for text in prompts(task, shots, item)]
    if kind == "multiple_choice":
        spans = [(alike(rows, False), len(row)) for row in rows]
    elif kind == "schema":
        spans = [(len(row) - alike(rows, True), len(row)) for row in rows]
    else:
        without, whole = rows
        assert whole[: len(without)] == without, "the prompt must begin the prompt with its continuation"
        rows, spans = [whole], [(len(without), len(whole))]
    truncated = cut = False
    nats, tokens, greedy = [], [], True
    for row, (start, end) in zip(rows, spans):
        over = max(0, len(row) - model.context)
        truncated |= over > 0
        cut |= over > 0 and start - over < 1
        row, start, end = row[over:], max(start - over, 1), end - over
        table = model.log_probabilities(row)
        nats.append(-sum(table[i - 1, row[i]] for i in range(start, end)))
        tokens.append(max(end - start, 0))
        greedy &= all(int(table[i - 1].argmax()) == row[i] for i in range(start, end))
    result = {"nats": [float(loss) for loss in nats], "tokens": tokens, "truncated": truncated, "cut": cut}
    if kind == "language_modeling":
        return {**result, "correct": greedy}
    means = [loss / count if count else math.nan for loss, count in zip(nats, tokens)]
    chosen = means.index(min(means))
    return {**result, "correct": chosen == item["gold"], "chosen": chosen, "gold": item["gold"]}


def evaluate(model, bundle, most=None):
    """Every question's answer, and the tasks' accuracies with CORE."""
    with open(os.path.join(bundle, "core.yaml")) as file:
        tasks = yaml.safe_load(file)["icl_tasks"]
    with open(os.path.join(bundle, "eval_meta_data.csv"), newline="") as file:
        baselines = {row["Eval Task"]: float(row["Random baseline"]) for row in csv.DictReader(file)}
    answers, scores = [], []
    for task in tasks:
        with open(os.path.join(bundle, "eval_data", task["dataset_uri"])) as file:
            items = [(line, json.loads(text)) for line, text in enumerate(file, 1)]
        random.Random(1337).shuffle(items)
        items = items[:most]
        right = 0
        for index, (line, item) in enumerate(items):
            others = [i for i in range(len(items)) if i != index]
            count = min(task["num_fewshot"][0], len(others))
            shots = [items[i][1] for i in random.Random(1234 + index).sample(others, count)]
            found = answer(model, task, shots, item)
            right += found["correct"]
            answers.append({"label": task["label"], "question": index, "line": line, **found})
        baseline = 0.01 * baselines[task["label"]]
        accuracy = right / len(items)
        scores.append({"label": task["label"], "accuracy": accuracy, "centered": (accuracy - baseline) / (1 - baseline)})
    core = sum(score["centered"] for score in scores) / len(scores)
    return {"core": core, "tasks": scores, "answers": answers}


def compare(anegpt, bundle, directory):
    """Asserts that both programs say the same of every question."""
    right = evaluate(Llama(directory), bundle)
    with tempfile.TemporaryDirectory() as out:
        command = [anegpt, "eval", "-m", directory, "--tasks", "core", "--bundle", bundle, "--out", out, "--json"]
        table = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        with open(os.path.join(out, "results.jsonl")) as file:
            results = [json.loads(line) for line in file][1:]
    assert len(results) == len(right["answers"]), "as many answers"
    worst = 0.0
    for found, expected in zip(results, right["answers"]):
        place = f"{expected['label']}, question {expected['question']}"
        for name, value in expected.items():
            if name == "nats":
                for ours, theirs in zip(found["nats"], value, strict=True):
                    error = abs(ours - theirs) / max(1.0, abs(theirs))
                    assert error < TOLERANCE, f"{place}: {ours} instead of {theirs}"
                    worst = max(worst, error)
            else:
                assert found.get(name, False) == value, f"{place}: {name} is {found.get(name)}, not {value}"
    core = table["tasks"]["core"]
    assert abs(core["core"] - right["core"]) < 1e-12, f"CORE is {core['core']}, not {right['core']}"
    for ours, theirs in zip(core["tasks"], right["tasks"], strict=True):
        for name in ("accuracy", "centered"):
            assert abs(ours[name] - theirs[name]) < 1e-12, f"{theirs['label']}: {ours[name]}, not {theirs[name]}"
    cut = sum(expected["truncated"] for expected in right["answers"])
    print(
        f"{directory}: {len(results)} answers agree ({sum(a['correct'] for a in right['answers'])} right, {cut} cut "
        f"on the left), losses within {worst:.1e}; CORE {right['core']:.6f}"
    )


def main():
    if sys.argv[1] == "--write":
        _, _, file, bundle, directory = sys.argv
        with open(file, "w") as out:
            json.dump(evaluate(Llama(directory), bundle), out, indent=1)
            out.write("\n")
        return
    _, anegpt, bundle, *models = sys.argv
    for directory in models:
        compare(anegpt, bundle, directory)


if __name__ == "__main__":
    main()
