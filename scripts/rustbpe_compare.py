"""Compares vocabularies that anegpt learns by nanochat's rules with those of rustbpe, nanochat's trainer.

python3 rustbpe_compare.py ANEGPT PATH...          every id of every vocabulary, and the ids of the texts
python3 rustbpe_compare.py ANEGPT --bench FILE     the time that both take, in alternating runs
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rustbpe

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
SPECIALS = 9
DOCUMENT = 10_000
ROUNDS = 7


def anegpt(*args, text=None):
    done = subprocess.run([ANEGPT, *map(str, args)], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"anegpt {' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


def byte_letters():
    """The characters by which byte-level vocabularies write bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in plain)
    letters = {chr(byte): byte for byte in plain}
    letters.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return letters


def ours(work, documents, size):
    """Learns with anegpt. Returns the file and the bytes of each token that is not special."""
    data, out = work / "documents.jsonl", work / "tokenizer.json"
    lines = (json.dumps({"text": document}) + "\n" for document in documents)
    data.write_text("".join(lines))
    anegpt("tokenizer", "train", "--rules", "nanochat", "--data", data, "--vocab-size", size, "--out", out)
    letters = byte_letters()
    vocab = json.loads(out.read_text())["model"]["vocab"]
    tokens = sorted((id, name) for name, id in vocab.items() if name != "<|bos|>")
    return out, [bytes(letters[letter] for letter in name) for _, name in tokens]


def theirs(documents, size):
    tokenizer = rustbpe.Tokenizer()
    cut = (document[:DOCUMENT] for document in documents)
    tokenizer.train_from_iterator(cut, size - SPECIALS, pattern=PATTERN)
    ranks = sorted((id, bytes(token)) for token, id in tokenizer.get_mergeable_ranks())
    return tokenizer, [token for _, token in ranks]


def compare(name, documents, size):
    with tempfile.TemporaryDirectory() as directory:
        file, own = ours(Path(directory), documents, size)
        tokenizer, expected = theirs(documents, size)
        for id, (ours_, theirs_) in enumerate(zip(own, expected)):
            if ours_ != theirs_:
                sys.exit(f"FAILED: {name}: token {id} is {ours_!r}, in rustbpe {theirs_!r}")
        if len(own) != len(expected):
            sys.exit(f"FAILED: {name}: {len(own)} tokens, in rustbpe {len(expected)}")
        tokens = 0
        for document in documents[:40]:
            got = [int(id) for id in anegpt("tokenizer", "encode", "--tokenizer", file, text=document).split()]
            if got != list(tokenizer.encode(document)):
                sys.exit(f"FAILED: {name}: the ids of {document[:60]!r} differ")
            tokens += len(got)
        print(f"ok: {name}: {len(own)} tokens and the {tokens} ids of texts are those of rustbpe", flush=True)


def documents_of(path):
    """The text files below a path; those that are longer than nanochat reads are several documents."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    texts = [file.read_text() for file in files]
    return [text[at : at + DOCUMENT] for text in texts for at in range(0, len(text), DOCUMENT)]


def ties():
    """Few letters and counts, so that most merges are chosen among equals."""
    draw = random.Random(7)
    words = ["".join(draw.choices("abcé", k=draw.randint(1, 9))) for _ in range(400)]
    return [" ".join(draw.choices(words, k=50)) for _ in range(12)]


def bench(path):
    """Ours is a whole process that reads the file; of theirs, learning alone is counted."""
    documents = [json.loads(line)["text"] for line in open(path)]
    size = 32_768
    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    print(f"{path}: {len(documents)} documents, {megabytes:.1f} MB, {size} tokens")
    ratios = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory) / "tokenizer.json"
            anegpt("tokenizer", "train", "--rules", "nanochat", "--data", path, "--out", out)
        own = time.perf_counter() - start
        tokenizer = rustbpe.Tokenizer()
        start = time.perf_counter()
        cut = (document[:DOCUMENT] for document in documents)
        tokenizer.train_from_iterator(cut, size - SPECIALS, pattern=PATTERN)
        other = time.perf_counter() - start
        ratios.append(own / other)
        print(f"anegpt {own:.2f} s, rustbpe {other:.2f} s, ratio {own / other:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


ANEGPT = sys.argv[1]
if sys.argv[2] == "--bench":
    bench(sys.argv[3])
else:
    compare("a toy corpus of ties", ties(), 1200)
    toy = "aaabdaaabac low lower lowest newest widest " * 3
    compare("the toy corpus of the unit test", [toy], 1000)
    for argument in sys.argv[2:]:
        compare(argument, documents_of(Path(argument)), 2048)
