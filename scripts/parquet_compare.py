#!/usr/bin/env python3
"""Files that pyarrow writes, read by anegpt: the texts must be those that went in.

parquet_compare.py ANEGPT            every kind of file, against the same texts as JSON lines
parquet_compare.py --fixtures DIR    writes the small files of crates/data/tests/parquet
"""
import itertools
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def texts(count, longest, seed):
    """Texts of all lengths, some of other alphabets, some repeated, blank or absent."""
    rng = random.Random(seed)
    words = ["once", "upon", "a", "time", "été", "日本語", "naïve", "🦊", "the", "river\n", "Ωμέγα"]
    out = []
    for n in range(count):
        kind = rng.random()
        if kind < 0.08:
            out.append(None)
        elif kind < 0.14:
            out.append(rng.choice(["", "  \n"]))
        elif kind < 0.35 and out:
            out.append(rng.choice(out))
        else:
            length = int(longest ** rng.random())
            out.append(f"{n}: " + " ".join(rng.choice(words) for _ in range(length)))
    return out


def table(rows, kind, required):
    values = [row if row is not None or not required else "" for row in rows]
    column = pa.array(values, kind)
    schema = pa.schema([("id", pa.int64()), pa.field("text", kind, nullable=not required), ("tags", pa.list_(pa.string()))])
    tags = [["a", "b"][: n % 3] for n in range(len(rows))]
    return pa.table([list(range(len(rows))), column, tags], schema=schema)


def nested(count, seed):
    """Rows with lists and structures, some of them empty or absent."""
    rng = random.Random(seed)
    words = texts(40, 6, seed)
    word, number = pa.string(), pa.int64()
    schema = pa.schema([
        ("id", pa.int32()), pa.field("n", number, nullable=False), ("text", word),
        ("choices", pa.struct([("text", pa.list_(word)), ("label", pa.list_(word))])),
        ("messages", pa.list_(pa.struct([("role", word), ("content", word)]))),
        ("deep", pa.list_(pa.list_(number))),
    ])

    def some(make, absent=0.1):
        return None if rng.random() < absent else make()

    def several(make, most=4):
        return some(lambda: [make() for _ in range(rng.randint(0, most))])

    def drawn():
        return rng.choice(words)

    def integer():
        return rng.randint(-2**40, 2**40)

    rows = [{
        "id": some(lambda: rng.randint(-2**31, 2**31 - 1)),
        "n": integer(),
        "text": drawn(),
        "choices": some(lambda: {"text": several(drawn), "label": several(lambda: rng.choice("ABCD"))}),
        "messages": several(lambda: some(lambda: {"role": drawn(), "content": drawn()})),
        "deep": several(lambda: several(lambda: some(integer))),
    } for _ in range(count)]
    return pa.Table.from_pylist(rows, schema=schema), [plain(row, pa.struct(schema)) for row in rows]


def plain(value, kind):
    """A value with empty lists where lists are absent."""
    if pa.types.is_list(kind):
        return [plain(of, kind.value_type) for of in value or []]
    if pa.types.is_struct(kind) and value is not None:
        return {field.name: plain(value[field.name], field.type) for field in kind}
    return value


def write_lines(rows, path):
    lines = [json.dumps({"text": row}) for row in rows if row is not None and row.strip()]
    path.write_text("".join(line + "\n" for line in lines))


def fixtures(directory):
    rows = texts(60, 12, 1)
    write_lines(rows, directory / "texts.jsonl")
    settings = {
        "snappy_v1": dict(compression="snappy", data_page_version="1.0", row_group_size=16),
        "zstd_v2": dict(compression="zstd", data_page_version="2.0", row_group_size=25, write_page_checksum=True),
        "plain_v1": dict(compression="none", use_dictionary=False, data_page_version="1.0", row_group_size=60),
        "gzip_v2": dict(compression="gzip", use_dictionary=False, data_page_version="2.0", row_group_size=7),
    }
    for name, how in settings.items():
        required = name == "plain_v1"
        data = table(rows, pa.string(), required)
        pq.write_table(data, directory / f"{name}.parquet", data_page_size=300, **how)
    pq.write_table(table(rows, pa.string(), False), directory / "lz4.parquet", compression="lz4")
    data, expected = nested(40, 3)
    (directory / "nested.jsonl").write_text("".join(json.dumps(row) + "\n" for row in expected))
    pq.write_table(data, directory / "nested_v1.parquet", compression="snappy", data_page_version="1.0", row_group_size=15)
    pq.write_table(
        data, directory / "nested_v2.parquet", compression="zstd", data_page_version="2.0", use_dictionary=False,
        data_page_size=100, row_group_size=40,
    )
    delta = {"text": "DELTA_LENGTH_BYTE_ARRAY"}
    pq.write_table(
        table(rows, pa.string(), False), directory / "delta.parquet", use_dictionary=False, column_encoding=delta
    )


def compare(anegpt):
    checked = 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        rows = texts(3000, 400, 2)
        lines = place / "texts.jsonl"
        write_lines(rows, lines)
        tokenizer = place / "tokenizer.json"

        def run(*arguments):
            subprocess.run([anegpt, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

        run("tokenizer", "train", "--data", lines, "--vocab-size", 400, "--out", tokenizer)

        def ids(path):
            out = place / "out.bin"
            run("data", "tokenize", "--data", path, "--tokenizer", tokenizer, "--out", out)
            return out.read_bytes()

        want = ids(lines)
        for codec, version, dictionary, page, kind, required in itertools.product(
            ["none", "snappy", "zstd", "gzip"], ["1.0", "2.0"], [True, False], [1000, 1 << 20],
            [pa.string(), pa.large_string(), pa.binary()], [True, False],
        ):
            if page == 1000 and kind != pa.string():
                continue
            values = rows if kind != pa.binary() else [r.encode() if r is not None else None for r in rows]
            if required and kind == pa.binary():
                values = [b"" if v is None else v for v in values]
            path = place / "file.parquet"
            pq.write_table(
                table(values, kind, required), path, compression=codec, data_page_version=version,
                use_dictionary=dictionary, data_page_size=page, row_group_size=700,
                write_page_checksum=page == 1000, dictionary_pagesize_limit=20_000 if page == 1000 else None,
            )
            what = f"{codec}, pages {version} of {page}, dictionary {dictionary}, {kind}, required {required}"
            assert ids(path) == want, what
            checked += 1
    print(f"{checked} files of pyarrow {pa.__version__}: the same ids as from JSON lines")


if sys.argv[1] == "--fixtures":
    fixtures(Path(sys.argv[2]))
else:
    compare(sys.argv[1])
