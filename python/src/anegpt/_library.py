"""Finds, loads and declares libane_bridge."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import (
    POINTER,
    c_bool,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_size_t,
    c_void_p,
)
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

_SIZES = POINTER(c_size_t)
_COMPILE = [c_int, _SIZES, c_int, _SIZES]
_WEIGHTS = [POINTER(c_char_p), POINTER(c_void_p), _SIZES, c_int]

#: Result and parameters of every function, as in ane_bridge.h. Memory that the library gives out is
#: a c_void_p, so that its address survives until it is given back.
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "ane_bridge_init": (c_int, []),
    "ane_bridge_compile": (
        c_void_p,
        [c_char_p, c_size_t, c_void_p, c_size_t, *_COMPILE],
    ),
    "ane_bridge_compile_multi_weights": (c_void_p, [c_char_p, c_size_t, *_WEIGHTS, *_COMPILE]),
    "ane_bridge_compile_on": (c_void_p, [c_void_p, c_char_p, c_size_t, *_WEIGHTS, *_COMPILE]),
    "ane_bridge_eval": (c_bool, [c_void_p]),
    "ane_bridge_write_input": (c_bool, [c_void_p, c_int, c_void_p, c_size_t]),
    "ane_bridge_read_output": (c_bool, [c_void_p, c_int, c_void_p, c_size_t]),
    "ane_bridge_write_input_f32": (c_bool, [c_void_p, c_int, c_void_p, c_size_t]),
    "ane_bridge_read_output_f32": (c_bool, [c_void_p, c_int, c_void_p, c_size_t]),
    "ane_bridge_free": (None, [c_void_p]),
    "ane_bridge_get_compile_count": (c_int, []),
    "ane_bridge_reset_compile_count": (None, []),
    "ane_bridge_build_weight_blob": (c_void_p, [c_void_p, c_int, c_int, _SIZES]),
    "ane_bridge_build_weight_blob_transposed": (c_void_p, [c_void_p, c_int, c_int, _SIZES]),
    "ane_bridge_build_weight_blob_int8": (c_void_p, [c_void_p, c_int, c_int, _SIZES]),
    "ane_bridge_build_weight_blob_quantized": (
        c_void_p,
        [c_void_p, c_int, c_int, POINTER(c_float), _SIZES],
    ),
    "ane_bridge_free_blob": (None, [c_void_p]),
    "ane_bridge_last_error": (c_char_p, []),
    "ane_bridge_version": (c_char_p, []),
    "ane_bridge_open": (c_void_p, [c_char_p]),
    "ane_bridge_close": (None, [c_void_p]),
    "ane_bridge_describe_device": (c_void_p, [c_void_p]),
    "ane_bridge_device_warning": (c_void_p, [c_void_p]),
    "ane_bridge_describe": (c_void_p, [c_void_p]),
    "ane_bridge_input_count": (c_int, [c_void_p]),
    "ane_bridge_output_count": (c_int, [c_void_p]),
    "ane_bridge_input_bytes": (c_size_t, [c_void_p, c_int]),
    "ane_bridge_output_bytes": (c_size_t, [c_void_p, c_int]),
    "ane_bridge_lock_input": (c_void_p, [c_void_p, c_int, _SIZES]),
    "ane_bridge_unlock_input": (c_bool, [c_void_p, c_int]),
    "ane_bridge_lock_output": (c_void_p, [c_void_p, c_int, _SIZES]),
    "ane_bridge_unlock_output": (c_bool, [c_void_p, c_int]),
    "ane_bridge_submit": (c_bool, [c_void_p]),
    "ane_bridge_poll": (c_int, [c_void_p]),
    "ane_bridge_wait": (c_int, [c_void_p, c_int]),
    "ane_bridge_run_seconds": (c_double, [c_void_p]),
    "ane_bridge_check": (c_void_p, [c_char_p, c_char_p, c_size_t]),
    "ane_bridge_estimate": (c_void_p, [c_char_p, c_char_p, c_size_t]),
}

_loaded: Optional[ctypes.CDLL] = None
_loading = threading.Lock()


def candidates() -> list[Path]:
    """Where the library is looked for, in order: ANE_BRIDGE_LIBRARY, else beside this module."""
    named = os.environ.get("ANE_BRIDGE_LIBRARY")
    if named:
        return [Path(named)]
    suffix = "dylib" if sys.platform == "darwin" else "so"
    return [Path(__file__).parent / f"libane_bridge.{suffix}"]


def load(path: Optional[os.PathLike[str] | str] = None) -> ctypes.CDLL:
    """The library at `path`, or the one that comes with the package.

    Raises:
        RuntimeError: there is none, or it is not libane_bridge.
    """
    global _loaded
    if path is not None:
        return _declare(Path(path))
    with _loading:
        if _loaded is None:
            found = [place for place in candidates() if place.exists()]
            if not found:
                looked = ", ".join(map(str, candidates()))
                raise RuntimeError(
                    f"libane_bridge was not found (looked for {looked}): install the package with "
                    "pip, or set ANE_BRIDGE_LIBRARY to the library"
                )
            _loaded = _declare(found[0])
        return _loaded


def _declare(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        functions = {name: getattr(library, name) for name in PROTOTYPES}
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"{path} is not this package's libane_bridge: {error}") from error
    for name, (result, parameters) in PROTOTYPES.items():
        function = functions[name]
        function.restype = result
        function.argtypes = parameters
    return library


def last_error(library: ctypes.CDLL) -> str:
    """What went wrong in this thread's last call; empty if nothing did."""
    text: bytes = library.ane_bridge_last_error()
    return text.decode("utf-8", "replace")


def take_bytes(library: ctypes.CDLL, address: int, length: int) -> bytes:
    """Copies memory that the library gave out, and gives it back."""
    copy = ctypes.string_at(address, length)
    library.ane_bridge_free_blob(address)
    return copy


def take_text(library: ctypes.CDLL, address: int) -> str:
    """Copies a text that the library gave out, and gives it back."""
    copy = ctypes.string_at(address)
    library.ane_bridge_free_blob(address)
    return copy.decode("utf-8")


def sizes(values: Optional[Sequence[int]]) -> tuple[int, Any]:
    """A count and an array for C; none of either for None."""
    if values is None:
        return 0, None
    for value in values:
        if not 0 <= value < 2**64:
            raise ValueError(f"a surface cannot have {value} bytes")
    return len(values), (c_size_t * len(values))(*values)


def weight_files(weights: Mapping[str, bytes]) -> tuple[Any, Any, Any, int]:
    """Names, data, lengths and count for C. The arrays keep what they point to alive."""
    count = len(weights)
    names = (c_char_p * count)(*(name.encode("utf-8") for name in weights))
    files = [bytes(data) for data in weights.values()]
    datas = (c_void_p * count)(
        *(ctypes.cast(ctypes.c_char_p(data), c_void_p).value for data in files)
    )
    datas._files = files  # type: ignore[attr-defined]
    lengths = (c_size_t * count)(*(len(data) for data in files))
    return names, datas, lengths, count
