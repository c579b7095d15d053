"""Builds libane_bridge and the program anegpt with cargo and puts them into the package.

The wheel holds no code for the interpreter, so that one serves every Python 3 of a platform.
ANEGPT_CARGO_FLAGS adds arguments to cargo, such as `--target x86_64-apple-darwin`; ANE_BRIDGE_PREBUILT
names a library and ANEGPT_PREBUILT a program that are taken as they are (universal ones, say).
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

REPOSITORY = Path(__file__).resolve().parent.parent
NAME = "libane_bridge.dylib" if sys.platform == "darwin" else "libane_bridge.so"


def version():
    if not (REPOSITORY / "crates" / "bridge").is_dir():
        raise SystemExit(
            "anegpt's library is built from the whole repository: run `pip wheel ./python` in a clone"
        )
    text = (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8")
    return re.search(r'\[workspace\.package\][^\[]*?^version = "([^"]+)"', text, re.M | re.S)[1]


def cargo(package, target, name):
    """Builds a target of a package and returns the path of its file called `name`, as cargo reports it."""
    if shutil.which("cargo") is None:
        raise SystemExit(
            "anegpt is built from Rust source: install a Rust toolchain (https://rustup.rs)"
        )
    command = ["cargo", "build", "--release", "--locked", "-p", package, *target]
    command += ["--message-format=json-render-diagnostics"]
    command += shlex.split(os.environ.get("ANEGPT_CARGO_FLAGS", ""))
    out = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, text=True)
    for line in out.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact":
            for file in message["filenames"]:
                if Path(file).name == name:
                    return Path(file)
    raise SystemExit(f"cargo built no {name}")


def build_library():
    """Path of the library, which is built unless it is given."""
    prebuilt = os.environ.get("ANE_BRIDGE_PREBUILT")
    return Path(prebuilt) if prebuilt else cargo("bridge", ["--lib"], NAME)


def build_program():
    """Path of the program, which is built unless it is given."""
    prebuilt = os.environ.get("ANEGPT_PREBUILT")
    return Path(prebuilt) if prebuilt else cargo("anegpt", ["--bin", "anegpt"], "anegpt")


def put(file, place):
    """Copies a file. One that is loaded somewhere must not be written into, but may be replaced."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    shutil.copy2(file, place)


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            place = Path(self.build_lib) / "anegpt"
        else:
            place = Path(__file__).resolve().parent / "src" / "anegpt"
        put(build_library(), place / NAME)
        put(build_program(), place / "bin" / "anegpt")


def architecture(library):
    """What a wheel's tag calls the processors that a Mach-O file is for."""
    head = library.read_bytes()[:8]
    if head[:4] in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"):
        return "universal2"
    return {0x0100000C: "arm64", 0x01000007: "x86_64"}[int.from_bytes(head[4:], "little")]


class NoSourceArchive(sdist):
    def run(self):
        raise SystemExit(
            "anegpt has no source archive, since its library is built from the whole repository: run "
            "`pip wheel ./python` in a clone"
        )


class PlatformWheel(bdist_wheel):
    """py3-none-<platform>: any Python, this platform."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        platform = super().get_tag()[2]
        library = Path(self.bdist_dir) / "anegpt" / NAME
        if platform.startswith("macosx") and library.exists():
            # The interpreter may be for more processors than the library.
            version = platform.split("_")[1:3]
            platform = "_".join(["macosx", *version, architecture(library)])
        return ("py3", "none", platform)


class PlatformDistribution(Distribution):
    """Goes to the platform's directory, since it holds a library."""

    def has_ext_modules(self):
        return True


setup(
    version=version(),
    distclass=PlatformDistribution,
    cmdclass={
        "build_py": BuildWithLibrary,
        "bdist_wheel": PlatformWheel,
        "sdist": NoSourceArchive,
    },
)
