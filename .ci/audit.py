#!/usr/bin/env python3
"""Checks the licence of every dependency against the list in deny.toml, without a network."""
import json
import re
import subprocess
import sys
import tomllib

with open("deny.toml", "rb") as file:
    licences = tomllib.load(file)["licenses"]
allowed = set(licences["allow"])
metadata = json.loads(
    subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"],
        check=True, capture_output=True, text=True,
    ).stdout
)


def permitted(expression: str) -> bool:
    """Evaluates an SPDX expression: OR needs one permitted side, AND both."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    words = {"OR": "or", "AND": "and", "(": "(", ")": ")"}
    out, skip = [], False
    for i, token in enumerate(tokens):
        if skip:
            skip = False
        elif token in words:
            out.append(words[token])
        elif token == "WITH":
            skip = True
        else:
            name = token
            if i + 2 < len(tokens) and tokens[i + 1] == "WITH":
                name = f"{token} WITH {tokens[i + 2]}"
            out.append(str(name in allowed or token in allowed))
    return bool(eval(" ".join(out)))  # only True, False, or, and, parentheses


faults = 0
for package in metadata["packages"]:
    licence = package.get("license") or "none"
    if licence == "none" or not permitted(licence):
        print(f"audit: {package['name']} {package['version']}: licence {licence} is not allowed")
        faults += 1
print(f"audit: {len(metadata['packages'])} packages, {faults} with a licence that is not allowed")
sys.exit(1 if faults else 0)
