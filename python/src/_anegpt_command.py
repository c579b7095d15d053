"""The command ``anegpt``: the program that comes with the package.

Apart from the package, so that starting it loads neither NumPy nor the library.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Becomes the program."""
    program = Path(__file__).parent / "anegpt" / "bin" / "anegpt"
    try:
        os.execv(str(program), [sys.argv[0], *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"error: cannot start {program}: {error.strerror}")
