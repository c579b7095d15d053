#!/usr/bin/env python3
"""Prints the libraries that a Mach-O file loads; fails unless all of them are public ones.

What is private is opened at run time, so that a Mac that lacks it can say so.
"""
import struct
import sys

MAGIC_64 = 0xFEEDFACF
ARM64 = 0x0100000C
# LC_LOAD_DYLIB, and its weak, re-exported, lazy and upward variants.
LOADS = {0xC, 0x80000018, 0x8000001F, 0x20, 0x80000023}
PUBLIC = ("/usr/lib/", "/System/Library/Frameworks/")


def libraries(data: bytes) -> list[str]:
    magic, cpu, _, _, count, _, _, _ = struct.unpack_from("<8I", data)
    assert (magic, cpu) == (MAGIC_64, ARM64), "no arm64 Mach-O file"
    at, found = 32, []
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, at)
        if command in LOADS:
            start = at + struct.unpack_from("<I", data, at + 8)[0]
            found.append(data[start : at + size].split(b"\0", 1)[0].decode())
        at += size
    assert found, "a program that loads nothing"
    return found


faults = 0
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        for name in libraries(file.read()):
            private = not name.startswith(PUBLIC)
            faults += private
            print(f"{path}: loads {name}{' (not public)' if private else ''}")
sys.exit(1 if faults else 0)
