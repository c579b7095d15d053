"""Recomputes goldens.json with transformers and torch (5.24.0 and 2.15.0 when it was written).

The weights are random; what counts is that two programs agree. `python3 goldens.py` from here.
"""

import json
import os
import shutil
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

PROMPT = "To be"
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()


def load(model, dtype=torch.float32, **entries):
    """The model and its tokenizer, with other entries in config.json."""
    place = os.path.join(tempfile.mkdtemp(), "model")
    shutil.copytree(model, place)
    with open(f"{place}/config.json") as file:
        config = json.load(file)
    config.update(entries)
    with open(f"{place}/config.json", "w") as file:
        json.dump(config, file)
    # By its file alone: a class chosen by the model's type brings rules of its own.
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{place}/tokenizer.json")
    return AutoModelForCausalLM.from_pretrained(place, dtype=dtype).eval(), tokenizer


def greedy(model, tokenizer, count, context=None):
    """The continuation; with a context, from the newest half whenever it is full."""
    letters = {i: c for c, i in tokenizer.get_vocab().items()}
    window, text = tokenizer(PROMPT).input_ids, ""
    for _ in range(count):
        logits = model(torch.tensor([window])).logits[0, -1]
        token = int(logits.argmax())
        if token in (1, 2):
            break
        text += letters[token]
        window.append(token)
        if context and len(window) > context:
            window = window[-(context // 2) :]
    return text


def nats(model, tokenizer, text, seq, stride):
    """The sum of −ln p over all tokens but the first, each predicted once: windows of `seq` inputs
    begin every `stride` tokens, and all but the first count only what no earlier one has predicted."""
    ids = tokenizer(text).input_ids
    losses, done, start = [], 0, 0
    while done < len(ids) - 1:
        window = ids[start : start + seq + 1]
        logits = model(torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
        all_of_it = [-float(logits[i, t]) for i, t in enumerate(window[1:])]
        losses += all_of_it[done - start :]
        done, start = start + len(all_of_it), start + stride
    assert len(losses) == len(ids) - 1
    return sum(losses)


with torch.no_grad():
    full = {"use_sliding_window": False, "layer_types": ["full_attention"] * 2}
    goldens = {
        "llama_base_500000": greedy(*load("llama"), 30),
        "llama_base_10000": greedy(*load("llama", rope_parameters=None, rope_theta=1e4), 30),
        "qwen3": greedy(*load("qwen3", **full), 30),
        "qwen3_window_4": greedy(*load("qwen3"), 30),
        "qwen3_window_4_later": greedy(*load("qwen3", layer_types=None, max_window_layers=1), 30),
        "llama_context_16": greedy(*load("llama", max_position_embeddings=16), 60, 16),
    }
    with open("text.txt") as file:
        text = file.read()
    for name, entries in [("llama", {}), ("qwen3", full), ("qwen3_window_4", {})]:
        exact = load(name.split("_")[0], torch.float64, **entries)
        goldens[f"{name}_nats_64_64"] = nats(*exact, text, 64, 64)
        goldens[f"{name}_nats_48_20"] = nats(*exact, text, 48, 20)
with open("goldens.json", "w") as file:
    json.dump(goldens, file, indent=1)
    file.write("\n")
