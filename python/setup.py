"""Builds libane_bridge with cargo and puts it into the package.

The wheel holds no code for the interpreter, so that one serves every Python 3 of a platform.
ANEGPT_CARGO_FLAGS adds arguments to cargo, such as `--target x86_64-apple-darwin`; ANE_BRIDGE_PREBUILT
names a library that is taken as it is (a universal one, say).
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


def build_library():
    """Builds the library and returns its path, as cargo reports it."""
    prebuilt = os.environ.get("ANE_BRIDGE_PREBUILT")
    if prebuilt:
        return Path(prebuilt)
    if shutil.which("cargo") is None:
        raise SystemExit(
            "anegpt is built from Rust source: install a Rust toolchain (https://rustup.rs)"
        )
    command = ["cargo", "build", "--release", "--locked", "-p", "bridge", "--lib"]
    command += ["--message-format=json-render-diagnostics"]
    command += shlex.split(os.environ.get("ANEGPT_CARGO_FLAGS", ""))
    out = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, text=True)
    for line in out.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["target"]["name"] == "ane_bridge":
            for file in message["filenames"]:
                if file.endswith(NAME):
                    return Path(file)
    raise SystemExit(f"cargo built no {NAME}")


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            place = Path(self.build_lib) / "anegpt"
        else:
            place = Path(__file__).resolve().parent / "src" / "anegpt"
        place.mkdir(parents=True, exist_ok=True)
        # A file that is loaded somewhere must not be written into, but may be replaced.
        (place / NAME).unlink(missing_ok=True)
        shutil.copy2(build_library(), place / NAME)


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
