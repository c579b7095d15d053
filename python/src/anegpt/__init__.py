"""Models, and MIL programs with NumPy arrays, on Apple's Neural Engine or on its emulator anywhere.

``anegpt.load(path).generate("Once upon a time")`` continues a text; :class:`Model` has its loss and its
tokens too. Programs:

>>> import anegpt, numpy as np
>>> text = '''program(1.3)
... {
...     func main<ios18>(tensor<fp16, [1, 2, 1, 16]> x) {
...         tensor<fp16, [1, 2, 1, 16]> y = relu(x=x)[name=string("y")];
...     } -> (y);
... }'''
>>> anegpt.check(text).legal
True
>>> y = anegpt.run(text, {"x": np.full((1, 2, 1, 16), -3.0)})["y"]
>>> y.dtype, float(y.max())
(dtype('float16'), 0.0)

:class:`Device` opens a machine and compiles; :class:`Program` runs; :func:`check` says what a chip
refuses, :func:`estimate` how long it would take. :mod:`anegpt.ane_bridge` is the thin layer below,
with surfaces in bytes.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple, Type, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _library
from ._model import Generated, Loss, Model, load
from .ane_bridge import ANEBridge, ANEKernel

__all__ = [
    "Device",
    "Estimate",
    "Fault",
    "Generated",
    "Loss",
    "Model",
    "OperationCost",
    "Port",
    "Program",
    "Report",
    "Violation",
    "check",
    "estimate",
    "load",
    "read_weights",
    "run",
    "weight_file",
]

__version__ = _library.load().ane_bridge_version().decode("ascii")

#: NumPy's type for each element type that a port may have.
_DTYPES = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "bool": np.bool_,
}


@dataclass(frozen=True)
class Port:
    """A named input or output."""

    name: str
    dtype: "np.dtype[Any]"
    shape: Tuple[int, ...]
    #: Its number in the order of binding, which is alphabetical.
    index: int


class Program:
    """A compiled program; :meth:`Device.compile` makes one. As a context manager it frees itself."""

    def __init__(self, kernel: ANEKernel) -> None:
        self._kernel = kernel
        # One set of surfaces: a call writes, runs and reads without another one in between.
        self._lock = threading.RLock()
        library = kernel._library
        described = json.loads(
            _library.take_text(library, library.ane_bridge_describe(kernel.handle))
        )
        #: Which machine it runs on.
        self.device: str = described["device"]
        #: Inputs and outputs by name, in the order of binding.
        self.inputs = _ports(described["inputs"])
        self.outputs = _ports(described["outputs"])

    def __call__(
        self,
        inputs: Optional[Mapping[str, ArrayLike]] = None,
        /,
        out: Optional[Mapping[str, NDArray[Any]]] = None,
        **named: ArrayLike,
    ) -> Dict[str, NDArray[Any]]:
        """Runs the program on arrays by name and returns the outputs by name.

        Arrays are converted to the type of their port, straight into the device's memory where the
        device shares it. Outputs go to `out` where it names them.

        Raises:
            TypeError: an input is missing, unknown, or of another kind (floats for integers).
            ValueError: an array has another shape than its port.
            RuntimeError: the machine refused or failed.
        """
        given = {**(inputs or {}), **named}
        self._check_names(given)
        with self._lock:
            for name, value in given.items():
                self.write(name, value)
            self._kernel.run()
            out = out or {}
            return {name: self.read(name, out.get(name)) for name in self.outputs}

    def _check_names(self, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in self.inputs:
                known = ", ".join(self.inputs)
                raise TypeError(f"the program has no input `{name}`; it has {known}")
        missing = [name for name in self.inputs if name not in given]
        if missing:
            raise TypeError(f"input `{missing[0]}` is missing")

    def write(self, name: str, value: ArrayLike) -> None:
        """Replaces an input, converted to its type.

        Raises:
            TypeError: the array is of another kind than the input, such as floats for integers.
            ValueError: the array has another shape than the input.
        """
        port = self.inputs[name]
        array = np.asarray(value)
        if array.shape != port.shape:
            raise ValueError(f"input `{name}` is {list(port.shape)}, not {list(array.shape)}")
        if array.dtype == port.dtype and array.flags.c_contiguous:
            self._kernel.write_input(port.index, array)
            return
        try:
            mapping = self._kernel.map_input(port.index, port.shape, port.dtype)
            with mapping as memory:
                np.copyto(memory, array, casting="same_kind")
        except RuntimeError:
            # Not shared by this device: convert first.
            self._kernel.write_input(port.index, array.astype(port.dtype, casting="same_kind"))

    def read(self, name: str, out: Optional[NDArray[Any]] = None) -> NDArray[Any]:
        """Copies an output, to `out` if given."""
        port = self.outputs[name]
        return self._kernel.read_output(port.index, port.shape, port.dtype, out)

    def run(self) -> None:
        """Runs the program on what its inputs hold.

        Raises:
            RuntimeError: the machine refused or failed.
        """
        self._kernel.run()

    def submit(self) -> None:
        """Starts a run and returns at once; reading an output waits for it."""
        self._kernel.submit()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits for the run submitted last, at most `timeout` seconds; whether it has finished."""
        return self._kernel.wait(timeout)

    @contextmanager
    def map_input(self, name: str) -> Iterator[NDArray[Any]]:
        """The memory of an input as an array, to be filled in place; the program cannot run meanwhile.

        Raises:
            RuntimeError: the device does not share it.
        """
        port = self.inputs[name]
        with self._kernel.map_input(port.index, port.shape, port.dtype) as array:
            yield array

    @contextmanager
    def map_output(self, name: str) -> Iterator[NDArray[Any]]:
        """The memory of an output as a read-only array; the program cannot run meanwhile.

        Raises:
            RuntimeError: the device does not share it.
        """
        port = self.outputs[name]
        with self._kernel.map_output(port.index, port.shape, port.dtype) as array:
            yield array

    @property
    def seconds(self) -> float:
        """Seconds that the last run took on the device."""
        return self._kernel.seconds

    def free(self) -> None:
        """Unloads the program; may be called again."""
        self._kernel.free()

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.free()

    def __repr__(self) -> str:
        def listed(ports: Mapping[str, Port]) -> str:
            return ", ".join(f"{p.name}: {p.dtype}{list(p.shape)}" for p in ports.values())

        return f"<Program ({listed(self.inputs)}) -> ({listed(self.outputs)}) on {self.device}>"


def _ports(described: Any) -> Dict[str, Port]:
    return {
        port["name"]: Port(
            port["name"], np.dtype(_DTYPES[port["dtype"]]), tuple(port["shape"]), index
        )
        for index, port in enumerate(described)
    }


class Device:
    """A machine that compiles and runs programs.

    Args:
        name: ``auto`` (the engine where there is one that gives the right answers to a program whose
            answers are known, else the emulator); ``ane``, ``in-memory``, ``espresso`` (the engine);
            ``emulator``, with chip, system, call path and arithmetic (``fast``, ``exact``, ``f32``)
            if wanted, for instance ``emulator:m1/macos26:exact``; ``cpu``, without an engine's rules.

    Raises:
        RuntimeError: there is no such device here.
    """

    def __init__(self, name: str = "auto") -> None:
        self._bridge = ANEBridge(device=name)
        self._bridge.init()
        #: One line that says which machine this is.
        self.description = self._bridge.device

    def compile(
        self, text: str, weights: Optional[Mapping[str, bytes]] = None
    ) -> Program:
        """Compiles the first function of a program.

        Args:
            text: the program.
            weights: its weight files by the names that it has for them; see :func:`weight_file`
                and :func:`read_weights`.

        Raises:
            RuntimeError: the machine refuses the program; the message has every reason.
        """
        return Program(self._bridge.compile_multi_weights(text, weights or {}))

    def close(self) -> None:
        """Closes the device; programs that it compiled go on working."""
        self._bridge.close()

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Device {self.description}>"


def run(
    text: str,
    inputs: Mapping[str, ArrayLike],
    weights: Optional[Mapping[str, bytes]] = None,
    device: str = "auto",
) -> Dict[str, NDArray[Any]]:
    """Compiles a program, runs it once and returns its outputs by name.

    Raises:
        RuntimeError: the machine refuses the program or fails.
        TypeError, ValueError: as :class:`Program` when it is called.
    """
    with Device(device) as opened, opened.compile(text, weights) as program:
        return program(inputs)


def _known(kind: Any, described: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of a data class; a newer library describes more."""
    return {field.name: described[field.name] for field in fields(kind)}


@dataclass(frozen=True)
class Fault:
    """A breach of the rules of the language."""

    message: str
    hint: str
    context: str
    line: Optional[int]
    column: Optional[int]


@dataclass(frozen=True)
class Violation:
    """A breach of a rule of the machine."""

    #: For instance ``ANE021``; see docs/ane-rules.md.
    id: str
    title: str
    #: ``error`` (refused by the machine), ``silent`` (it would run and be wrong) or ``warning``.
    severity: str
    #: How sure the rule is: ``high``, ``medium`` or ``low``.
    confidence: str
    evidence: str
    function: str
    #: ``whole``, ``parameter``, ``output`` or ``operation``.
    place: str
    name: Optional[str]
    message: str
    hint: str


@dataclass(frozen=True)
class Report:
    """What is wrong with a program. It is true where nothing is in the way of running it."""

    profile: str
    legal: bool
    faults: Tuple[Fault, ...]
    violations: Tuple[Violation, ...]

    def __bool__(self) -> bool:
        return self.legal


def check(text: str, profile: str = "m4/macos15/in-memory") -> Report:
    """Holds a program against the rules of the language and of a machine.

    Args:
        text: the program.
        profile: chip, system and call path, parts of which may be left out.

    Raises:
        ValueError: there is no such profile.
    """
    library = _library.load()
    data = text.encode("utf-8")
    address = library.ane_bridge_check(profile.encode("utf-8"), data, len(data))
    if not address:
        raise ValueError(_library.last_error(library))
    found = json.loads(_library.take_text(library, address))
    return Report(
        found["profile"],
        found["legal"],
        tuple(Fault(**_known(Fault, fault)) for fault in found["faults"]),
        tuple(Violation(**_known(Violation, rule)) for rule in found["rules"]),
    )


@dataclass(frozen=True)
class OperationCost:
    """The forecast of one operation."""

    op: str
    name: str
    seconds: float
    #: Floating-point operations of a product; 0 for all others.
    flops: float
    #: Bytes that stream from memory.
    bytes: float
    #: What limits it, one of the names in :attr:`Estimate.parts`.
    bound_by: str
    #: Whether its weights fall into the 1-MiB notch of this chip's DMA.
    notch: bool


@dataclass(frozen=True)
class Estimate:
    """The forecast of one run, from a law fitted to published timings; not confirmed on hardware."""

    profile: str
    function: str
    seconds: float
    #: Ends of the error bar.
    low: float
    high: float
    #: What takes most of the time.
    bound_by: str
    #: Whether the chip's constants are fitted to its own timings, not from rules of scale.
    fitted: bool
    #: Seconds by cause.
    parts: Mapping[str, float]
    operations: Tuple[OperationCost, ...]


def estimate(text: str, profile: str = "m4/macos15/in-memory") -> Estimate:
    """Forecasts how long the first function of a program takes on a machine.

    Args:
        text: the program.
        profile: as for :func:`check`.

    Raises:
        ValueError: there is no such profile, or the text is not a valid program.
    """
    library = _library.load()
    data = text.encode("utf-8")
    address = library.ane_bridge_estimate(profile.encode("utf-8"), data, len(data))
    if not address:
        raise ValueError(_library.last_error(library))
    found = json.loads(_library.take_text(library, address))
    first = found["functions"][0]
    operations = tuple(
        OperationCost(**_known(OperationCost, operation)) for operation in first["operations"]
    )
    first = {**first, "profile": found["profile"], "operations": operations}
    return Estimate(**_known(Estimate, first))


def weight_file(matrix: NDArray[Any]) -> bytes:
    """A weight file of one matrix in fp16, to be named with ``offset=uint64(64)``."""
    return ANEBridge.build_weight_blob(matrix)


def read_weights(
    directory: Union[str, os.PathLike[str]], text: str
) -> Dict[str, bytes]:
    """The weight files that a program names, with `directory` for ``@model_path``.

    Raises:
        OSError: a file cannot be read.
    """
    import re
    from pathlib import Path

    names = set(re.findall(r'BLOBFILE\s*\(\s*path\s*=\s*string\("([^"]+)"\)', text))
    base = Path(directory)
    return {
        name: (base / name.removeprefix("@model_path/")).read_bytes() for name in sorted(names)
    }
