"""python3 cuda_stubs.py OUT: libraries that stand in for NVIDIA's, so that PyTorch's wheel runs without them.

PyTorch's wheel for Linux on x86-64 is linked with CUDA, which is gigabytes of other wheels. Its part for the
CPU never calls it: functions that do nothing, under the names and versions that the wheel asks for, let it
load. LD_LIBRARY_PATH=OUT finds them. This needs cc, nm and readelf.
"""

import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

CUDA = re.compile(r"(__)?(cuda|cu[A-Z]|cublas|cudnn|cufft|cupti|curand|cusolver|cusparse|nccl|nv)")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def asked(libraries):
    """The versions that are asked of each library, and the undefined names of each version."""
    versions, names = defaultdict(set), defaultdict(set)
    for path in libraries:
        for library in re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", path)):
            versions[library]
        library = None
        for line in run("readelf", "-VW", path).splitlines():
            if found := re.search(r"File: (\S+)", line):
                library = found[1]
            elif library and (found := re.search(r"Name: (\S+)\s+Flags", line)):
                versions[library].add(found[1])
        for line in run("nm", "-D", "--undefined-only", path).splitlines():
            name, _, version = line.split()[-1].partition("@")
            names[version].add(name)
    return versions, names


def stub(out, library, nodes, plain):
    """A library with the names of each version, and with names of no version."""
    source, script = out / "stub.c", out / "stub.map"
    every = sorted(plain.union(*nodes.values()))
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in every))
    version = "{} {{ global: {} }};\n"
    text = (version.format(v, " ".join(f"{n};" for n in sorted(of))) for v, of in nodes.items())
    script.write_text("".join(text))
    flags = [f"-Wl,-soname,{library}"] + [f"-Wl,--version-script={script}"] * bool(nodes)
    run("cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", out / library, source, *flags)


def main(out):
    lib = Path(importlib.util.find_spec("torch").origin).parent / "lib"
    versions, names = asked(sorted(lib.glob("*.so*")))
    out.mkdir(parents=True, exist_ok=True)
    for library in sorted(versions):
        if re.match(r"lib(cu|nv|nccl)", library) and not (lib / library).exists():
            runtime = library.startswith("libcudart")
            plain = {name for name in names[""] if runtime and CUDA.match(name)}
            stub(out, library, {v: names[v] for v in versions[library]}, plain)


main(Path(sys.argv[1]))
