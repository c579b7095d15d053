"""Loads a checkpoint of ours in other programs and compares what they compute with what anegpt says.

python3 peers.py ANEGPT CHECKPOINT, with mlx-lm, or transformers and torch, or both.
"""

import importlib.util
import json
import math
import subprocess
import sys
import tempfile

PROMPTS = ["aa", "bb cc", "cc aa bb"]
TEXT = "aa bb cc aa! bb cc cc bb aa aa bb!"
MOST = 60


def anegpt(*args):
    command = [ANEGPT, *args, "--device", "cpu", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def check(name, condition, what=""):
    if not condition:
        sys.exit(f"{name}: {what}")
    print(f"ok: {name}")


def files(checkpoint):
    """The ids that end a text, as transformers reads them from the files alone."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    config = AutoConfig.from_pretrained(checkpoint)
    generation = GenerationConfig.from_pretrained(checkpoint)
    marker = tokenizer.convert_tokens_to_ids("<|bos|>")
    for place in (config, generation, tokenizer):
        ids = (place.bos_token_id, place.eos_token_id)
        check(f"ids of {type(place).__name__}", ids == (marker, marker), f"{ids} not {marker}")
    check("model_max_length", tokenizer.model_max_length == config.max_position_embeddings)
    check("a text begins with bos", tokenizer("aa").input_ids[0] == marker)
    check("and with one", tokenizer("aa").input_ids.count(marker) == 1)
    return tokenizer


def loss(rows, ids):
    """Mean of −ln p of each token but the first, from logits in `rows`."""
    total = 0.0
    for row, token in zip(rows, ids[1:]):
        largest = max(row)
        total += math.log(sum(math.exp(x - largest) for x in row)) + largest - row[token]
    return total / (len(ids) - 1)


def compare(name, tokenizer, texts, rows):
    """Greedy continuations in tokens, and the loss of a text, which depends on every logit."""
    for prompt, tokens in zip(PROMPTS, texts):
        ours = anegpt("generate", "-m", CHECKPOINT, "-p", prompt, "--temperature", "0", "-n", str(MOST))
        expected = [*ours["tokens"], tokenizer.eos_token_id]
        check(f"{name} stops after {prompt!r}", tokens == expected, f"{tokens} not {expected}")
        check("we stop too", ours["finish_reason"] == "end_of_text", ours["finish_reason"])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(TEXT)
        file.flush()
        ours = anegpt("eval", "-m", CHECKPOINT, "--data", file.name)["nats_per_token"]
    theirs = loss(rows, tokenizer(TEXT).input_ids)
    check(f"{name}: loss", abs(ours - theirs) < 1e-4 * theirs, f"{theirs} not {ours}")


def mlx(tokenizer):
    import mlx.core as mx
    from mlx_lm import load, stream_generate

    model, wrapped = load(CHECKPOINT)
    streams = (stream_generate(model, wrapped, prompt, max_tokens=MOST) for prompt in PROMPTS)
    texts = [[response.token for response in stream] for stream in streams]
    logits = model(mx.array([tokenizer(TEXT).input_ids]))[0].astype(mx.float32)
    compare("mlx-lm", tokenizer, texts, logits.tolist())


def transformers(tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    texts = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=MOST)[0]
        texts.append(out[ids.input_ids.shape[1] :].tolist())
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer(TEXT).input_ids])).logits[0]
    compare("transformers", tokenizer, texts, logits.double().tolist())


ANEGPT, CHECKPOINT = sys.argv[1:]
shared = files(CHECKPOINT)
for module, peer in [("mlx_lm", mlx), ("torch", transformers)]:
    if importlib.util.find_spec(module):
        peer(shared)
    else:
        print(f"skipped: no {module} in this environment")
