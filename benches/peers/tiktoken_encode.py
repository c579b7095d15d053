"""Encodes a text with tiktoken, given one of our tokenizer files: one thread, one document per
line of JSON."""

import json
import sys
import time

import tiktoken


def byte_of():
    """Characters that stand for bytes in such files (the table of GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            table[chr(byte)] = byte
        else:
            table[chr(256 + extra)] = byte
            extra += 1
    return table


vocabulary = json.load(open(sys.argv[1]))
bytes_of = byte_of()
special = {t["content"] for t in vocabulary["added_tokens"]}
ranks = {bytes(bytes_of[c] for c in piece): i for piece, i in vocabulary["model"]["vocab"].items() if piece not in special}
splitter = vocabulary["pre_tokenizer"]
steps = splitter.get("pretokenizers", [splitter])
pattern = next((s["pattern"]["Regex"] for s in steps if s["type"] == "Split"), None)
# Without a pattern of its own, ByteLevel splits as GPT-2 does.
pattern = pattern or r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
encoding = tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
documents = [json.loads(line)["text"] for line in open(sys.argv[2])]
tokens = 0
start = time.perf_counter()
for document in documents:
    tokens += len(encoding.encode_ordinary(document))
seconds = time.perf_counter() - start
print(json.dumps({"tokens": tokens, "mb_per_s": sum(len(d.encode()) for d in documents) / seconds / 1e6}))
