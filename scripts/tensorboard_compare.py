"""Compares event files with the log that they were made of, by TensorBoard's own reader.

usage: tensorboard_compare.py LOG.jsonl DIRECTORY
"""

import json
import math
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

log, directory = sys.argv[1:]

GROUPS = {"step": "train", "eval": "validation"}
MAY_BE_NULL = ("loss", "val_loss", "grad_norm")


def single(value):
    """The value as a number of four bytes."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def numbers(tag, value):
    if isinstance(value, bool):
        yield tag, float(value)
    elif isinstance(value, (int, float)):
        yield tag, float(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(f"{tag}/{name}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            names = [inner.get(key) for key in ("label", "tensor", "name")] if isinstance(inner, dict) else []
            name = next((name for name in names if isinstance(name, str)), str(index))
            yield from numbers(f"{tag}/{name}", inner)


scalars, texts, step = {}, {}, 0
for line in open(log):
    event = json.loads(line)
    kind, step = event["event"], event.get("step", step)
    if kind == "start":
        settings = json.dumps(event)
        texts.setdefault("start/settings", []).append((step, settings))
        continue
    for name, value in event.items():
        if name in ("event", "time", "step"):
            continue
        tag = f"{GROUPS.get(kind, kind)}/{name}"
        if isinstance(value, str):
            if name in ("text", "message"):
                texts.setdefault(tag, []).append((step, value))
        elif value is None:
            if name in MAY_BE_NULL and kind != "done":
                scalars.setdefault(tag, []).append((step, math.nan))
        else:
            for tag, number in numbers(tag, value):
                scalars.setdefault(tag, []).append((step, single(number)))

read = EventAccumulator(directory, size_guidance={"scalars": 0, "tensors": 0})
read.Reload()
tags = read.Tags()
assert set(tags["scalars"]) == set(scalars), set(tags["scalars"]) ^ set(scalars)
assert set(tags["tensors"]) == set(texts), set(tags["tensors"]) ^ set(texts)


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


for tag, expected in scalars.items():
    found = [(event.step, event.value) for event in read.Scalars(tag)]
    assert len(found) == len(expected), (tag, len(found), len(expected))
    for (a, x), (b, y) in zip(found, expected):
        assert a == b and same(x, y), (tag, a, x, b, y)
for tag, expected in texts.items():
    found = [(event.step, event.tensor_proto.string_val[0].decode()) for event in read.Tensors(tag)]
    if tag == "start/settings":
        # Shown with their lines; what they say is the same.
        found = [(step, json.loads(text)) for step, text in found]
        expected = [(step, json.loads(text)) for step, text in expected]
    assert found == expected, tag
    assert read.SummaryMetadata(tag).plugin_data.plugin_name == "text", tag
count = sum(map(len, scalars.values())), sum(map(len, texts.values()))
print("TensorBoard reads %d numbers of %d names and %d texts of %d" % (count[0], len(scalars), count[1], len(texts)))
