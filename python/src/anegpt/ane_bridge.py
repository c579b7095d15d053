"""A thin layer over libane_bridge: kernels with byte-sized surfaces, and MIL text for two of them.

>>> import numpy as np
>>> from anegpt.ane_bridge import ANEBridge, generate_conv_mil
>>> bridge = ANEBridge()
>>> bridge.init()
>>> weights = np.eye(64, dtype=np.float32)
>>> with bridge.compile(generate_conv_mil(64, 64, 16), bridge.build_weight_blob(weights),
...                     input_sizes=[64 * 16 * 4], output_sizes=[64 * 16 * 4]) as kernel:
...     kernel.write_input(0, np.ones((64, 16), np.float32))
...     kernel.eval()
...     float(kernel.read_output(0, (64, 16)).mean())
True
1.0

Inputs and outputs are numbered in alphabetical order of their names in the program.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple, Type, Union

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _library

__all__ = [
    "ANEBridge",
    "ANEKernel",
    "generate_conv_mil",
    "generate_dyn_matmul_mil",
]

Shape = Union[int, Sequence[int]]


class _Handle:
    """Frees a kernel when the last reference to it, or to a view of its memory, is gone."""

    def __init__(self, library: ctypes.CDLL, value: int) -> None:
        self.library = library
        self.value = value

    def __del__(self) -> None:
        self.library.ane_bridge_free(self.value)


class ANEKernel:
    """A compiled program with one surface for each input and output.

    Made by :meth:`ANEBridge.compile`. As a context manager it frees itself.
    """

    def __init__(
        self,
        handle: int,
        n_inputs: int,
        n_outputs: int,
        input_sizes: Sequence[int],
        output_sizes: Sequence[int],
        library: Optional[ctypes.CDLL] = None,
    ) -> None:
        self._library = library if library is not None else _library.load()
        self._owner: Optional[_Handle] = _Handle(self._library, handle)
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs
        #: Bytes of each input and output.
        self.input_sizes = list(input_sizes)
        self.output_sizes = list(output_sizes)

    @property
    def handle(self) -> int:
        """The library's number for this kernel.

        Raises:
            RuntimeError: the kernel was freed.
        """
        if self._owner is None:
            raise RuntimeError("the kernel was freed")
        return self._owner.value

    @property
    def last_error(self) -> str:
        """Why this thread's last call failed; empty if it did not."""
        return _library.last_error(self._library)

    @staticmethod
    def _place(idx: int) -> int:
        """A number that C's int holds, and that is no other port's."""
        return min(max(idx, -1), 2**31 - 1)

    def _fail(self, what: str) -> RuntimeError:
        return RuntimeError(f"{what}: {self.last_error}")

    def eval(self) -> bool:
        """Runs the program on what its inputs hold; whether it succeeded.

        On False, :attr:`last_error` says why. :meth:`run` raises instead.
        """
        return bool(self._library.ane_bridge_eval(self.handle))

    def run(self) -> None:
        """Runs the program on what its inputs hold.

        Raises:
            RuntimeError: the machine refused or failed.
        """
        if not self.eval():
            raise self._fail("ANE eval failed")

    def write_input(self, idx: int, data: NDArray[Any]) -> None:
        """Copies the bytes of an array to the start of input `idx`, as they are.

        The array's type must be the one that the program declares; it is not converted.

        Raises:
            RuntimeError: there is no such input, or it has fewer bytes than the array.
        """
        data = np.ascontiguousarray(data)
        if not self._library.ane_bridge_write_input(
            self.handle, self._place(idx), data.ctypes.data, data.nbytes
        ):
            raise self._fail("ANE write failed")

    def read_output(
        self,
        idx: int,
        shape: Shape,
        dtype: DTypeLike = np.float32,
        out: Optional[NDArray[Any]] = None,
    ) -> NDArray[Any]:
        """The first bytes of output `idx` as an array, in `out` if given.

        Raises:
            RuntimeError: there is no such output, or it has fewer bytes than the array.
            TypeError: elements of `dtype` are Python objects.
            ValueError: `out` is not a contiguous array of this shape and type.
        """
        if np.dtype(dtype).hasobject:
            raise TypeError(f"an output's bytes cannot be elements of type {np.dtype(dtype)}")
        if out is None:
            out = np.empty(shape, dtype)
        else:
            wanted = (shape,) if isinstance(shape, int) else tuple(shape)
            if out.shape != wanted or out.dtype != np.dtype(dtype):
                raise ValueError(f"out is {out.dtype}{out.shape}, not {np.dtype(dtype)}{wanted}")
            if not (out.flags.c_contiguous and out.flags.writeable):
                raise ValueError("out must be contiguous and writeable")
        if not self._library.ane_bridge_read_output(
            self.handle, self._place(idx), out.ctypes.data, out.nbytes
        ):
            raise self._fail("ANE read failed")
        return out

    @contextmanager
    def map_input(
        self, idx: int, shape: Shape, dtype: DTypeLike = np.float32
    ) -> Iterator[NDArray[Any]]:
        """The memory of input `idx` as an array, to be filled in place; without a copy.

        Within the block the kernel cannot run. After it the array is read-only; it keeps the memory
        alive, but shows whatever is written next.

        Raises:
            RuntimeError: the surface is mapped already, or the device keeps it in another type.
            ValueError: the surface has fewer bytes than the array.
        """
        with self._map(idx, shape, dtype, "input") as array:
            yield array

    @contextmanager
    def map_output(
        self, idx: int, shape: Shape, dtype: DTypeLike = np.float32
    ) -> Iterator[NDArray[Any]]:
        """The memory of output `idx` as a read-only array, as :meth:`map_input`."""
        with self._map(idx, shape, dtype, "output") as array:
            yield array

    @contextmanager
    def _map(
        self, idx: int, shape: Shape, dtype: DTypeLike, side: str
    ) -> Iterator[NDArray[Any]]:
        lock = getattr(self._library, f"ane_bridge_lock_{side}")
        unlock = getattr(self._library, f"ane_bridge_unlock_{side}")
        handle, idx, length = self.handle, self._place(idx), ctypes.c_size_t()
        address = lock(handle, idx, ctypes.byref(length))
        if not address:
            raise self._fail("ANE map failed")
        try:
            memory = (ctypes.c_uint8 * length.value).from_address(address)
            memory._owner = self._owner  # type: ignore[attr-defined]
            count = int(np.prod(shape))
            if count * np.dtype(dtype).itemsize > length.value:
                raise ValueError(f"the {side} has {length.value} bytes, too few for the array")
            array = np.frombuffer(memoryview(memory), dtype, count).reshape(shape)
            array.flags.writeable = side == "input"
            try:
                yield array
            finally:
                array.flags.writeable = False
        finally:
            unlock(handle, idx)

    def submit(self) -> None:
        """Starts a run and returns at once; :meth:`wait` for it, or just read an output.

        Raises:
            RuntimeError: a run is in flight already.
        """
        if not self._library.ane_bridge_submit(self.handle):
            raise self._fail("ANE submit failed")

    def poll(self) -> bool:
        """Whether the run submitted last has finished.

        Raises:
            RuntimeError: it failed.
        """
        return self._waited(self._library.ane_bridge_poll(self.handle))

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits for the run submitted last, at most `timeout` seconds; whether it has finished.

        Raises:
            RuntimeError: it failed.
        """
        limit = -1 if timeout is None else min(round(max(timeout, 0.0) * 1000), 2**31 - 1)
        return self._waited(self._library.ane_bridge_wait(self.handle, limit))

    def _waited(self, result: int) -> bool:
        if result < 0:
            raise self._fail("ANE run failed")
        return result == 1

    @property
    def seconds(self) -> float:
        """Seconds that the last run took on the device.

        Raises:
            RuntimeError: there was none.
        """
        seconds = float(self._library.ane_bridge_run_seconds(self.handle))
        if seconds < 0:
            raise self._fail("no time is known")
        return seconds

    def free(self) -> None:
        """Unloads the program; may be called again. Views of its memory keep the memory alive."""
        self._owner = None

    def __enter__(self) -> "ANEKernel":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.free()


class ANEBridge:
    """The library and its default device.

    Args:
        library: the library's file; the one that comes with the package if not given.
        device: the device to compile on, such as ``"emulator:m1"`` or ``"cpu"``; the default device
            if not given (named by the environment variable ``ANE_BRIDGE_DEVICE``, else ``auto``).
    """

    def __init__(
        self,
        library: Optional[Union[str, os.PathLike[str]]] = None,
        device: Optional[str] = None,
    ) -> None:
        self._library = _library.load(library)
        self._name = device
        self._device: Optional[int] = None

    def init(self) -> None:
        """Opens the device; may be called again.

        Warns (:class:`RuntimeWarning`) where ``auto`` finds an engine that does not work and takes
        the emulator.

        Raises:
            RuntimeError: it cannot be opened.
        """
        if self._name is None:
            failed = self._library.ane_bridge_init() != 0
        elif self._device is None:
            self._device = self._library.ane_bridge_open(self._name.encode("utf-8"))
            failed = self._device is None
        else:
            failed = False
        if failed:
            said = _library.last_error(self._library)
            # ANEgpt's words for the default device, which is all that it has.
            raise RuntimeError(f"ANE init failed: {said}" if self._name is None else said)
        if self.warning:
            warnings.warn(self.warning, RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Closes a device that was named; its kernels go on working."""
        if self._device is not None:
            device, self._device = self._device, None
            self._library.ane_bridge_close(device)

    def __enter__(self) -> "ANEBridge":
        self.init()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_device", None) is not None:
            self.close()

    @property
    def device(self) -> str:
        """One line that says which machine programs run on."""
        address = self._library.ane_bridge_describe_device(self._opened())
        if not address:
            raise RuntimeError(_library.last_error(self._library))
        return _library.take_text(self._library, address)

    @property
    def warning(self) -> str:
        """Why the emulator computes although there is an engine; empty if nothing is wrong."""
        address = self._library.ane_bridge_device_warning(self._opened())
        if not address:
            raise RuntimeError(_library.last_error(self._library))
        return _library.take_text(self._library, address)

    def _opened(self) -> Optional[int]:
        if self._name is not None and self._device is None:
            raise RuntimeError("the device is not open: it was closed, or init() was not called")
        return self._device

    def compile(
        self,
        mil_text: Union[str, bytes],
        weight_data: Optional[bytes] = None,
        input_sizes: Optional[Sequence[int]] = None,
        output_sizes: Optional[Sequence[int]] = None,
    ) -> ANEKernel:
        """Compiles a program with at most one weight file, ``@model_path/weights/weight.bin``.

        Args:
            mil_text: the program.
            weight_data: the file, as :meth:`build_weight_blob` makes it.
            input_sizes: bytes of each input, at least those of its tensor; those if not given.
            output_sizes: the same of each output.

        Raises:
            RuntimeError: the program is refused, or a size does not fit.
        """
        weights = {"@model_path/weights/weight.bin": weight_data} if weight_data else {}
        return self.compile_multi_weights(mil_text, weights, input_sizes, output_sizes)

    def compile_multi_weights(
        self,
        mil_text: Union[str, bytes],
        weights: Mapping[str, bytes],
        input_sizes: Optional[Sequence[int]] = None,
        output_sizes: Optional[Sequence[int]] = None,
    ) -> ANEKernel:
        """As :meth:`compile`, with weight files by the names that the program has for them."""
        text = mil_text.encode("utf-8") if isinstance(mil_text, str) else bytes(mil_text)
        library = self._library
        handle = library.ane_bridge_compile_on(
            self._opened(),
            text,
            len(text),
            *_library.weight_files(weights),
            *_library.sizes(input_sizes),
            *_library.sizes(output_sizes),
        )
        if not handle:
            raise RuntimeError(f"ANE compile failed: {_library.last_error(library)}")
        ins = range(library.ane_bridge_input_count(handle))
        outs = range(library.ane_bridge_output_count(handle))
        return ANEKernel(
            handle,
            len(ins),
            len(outs),
            [library.ane_bridge_input_bytes(handle, i) for i in ins],
            [library.ane_bridge_output_bytes(handle, i) for i in outs],
            library,
        )

    @staticmethod
    def build_weight_blob(weights: NDArray[Any], transpose: bool = False) -> bytes:
        """A weight file of one matrix [rows, cols] in fp16, or of its transpose.

        Programs name it with ``offset=uint64(64)``.

        Raises:
            ValueError: `weights` is not a matrix, or has no elements.
        """
        matrix = np.require(weights, np.float32, ["C", "A"])
        if matrix.ndim != 2 or matrix.size == 0:
            raise ValueError(f"weights must be a matrix, not of shape {matrix.shape}")
        library = _library.load()
        build = library.ane_bridge_build_weight_blob
        if transpose:
            build = library.ane_bridge_build_weight_blob_transposed
        length = ctypes.c_size_t()
        rows, cols = matrix.shape
        blob = build(matrix.ctypes.data, rows, cols, ctypes.byref(length))
        if not blob:
            raise ValueError(_library.last_error(library))
        return _library.take_bytes(library, blob, length.value)

    @staticmethod
    def build_weight_blob_int8(weights: NDArray[Any]) -> Tuple[bytes, float]:
        """A weight file of one matrix in int8, and the scale to multiply it by.

        The scale is the largest magnitude divided by 127.

        Raises:
            ValueError: `weights` is not a matrix of finite numbers, or has no elements.
        """
        matrix = np.require(weights, np.float32, ["C", "A"])
        if matrix.ndim != 2 or matrix.size == 0:
            raise ValueError(f"weights must be a matrix, not of shape {matrix.shape}")
        library = _library.load()
        length, scale = ctypes.c_size_t(), ctypes.c_float()
        rows, cols = matrix.shape
        blob = library.ane_bridge_build_weight_blob_quantized(
            matrix.ctypes.data, rows, cols, ctypes.byref(scale), ctypes.byref(length)
        )
        if not blob:
            raise ValueError(_library.last_error(library))
        return _library.take_bytes(library, blob, length.value), scale.value

    @property
    def compile_count(self) -> int:
        """Programs compiled since the start or the last reset, by this process."""
        return int(self._library.ane_bridge_get_compile_count())

    def reset_compile_count(self) -> None:
        """Sets :attr:`compile_count` to 0; what the machine counts for itself stays."""
        self._library.ane_bridge_reset_compile_count()


_BUILD_INFO = (
    '[buildInfo = dict<string, string>({{"coremlc-component-MIL", "3510.2.1"}, '
    '{"coremlc-version", "3505.4.1"}, {"coremltools-component-milinternal", ""}, '
    '{"coremltools-version", "9.0"}})]'
)


def _program(port: str, statements: Sequence[str], output: str) -> str:
    body = "".join(f"        {statement}\n" for statement in statements)
    return (
        f"program(1.3)\n{_BUILD_INFO}\n{{\n    func main<ios18>({port}) {{\n"
        f"{body}    }} -> ({output});\n}}\n"
    )


def _const(kind: str, name: str, value: str) -> str:
    return f'{kind} {name} = const()[name=string("{name}"), val={value}];'


def _tensor(dtype: str, *shape: int) -> str:
    return f"tensor<{dtype}, [{', '.join(map(str, shape))}]>"


def _ints(*values: int) -> Tuple[str, str]:
    kind = f"tensor<int32, [{len(values)}]>"
    return kind, f"{kind}([{', '.join(map(str, values))}])"


def _op(kind: str, name: str, call: str) -> str:
    return f'{kind} {name} = {call}[name=string("{name}")];'


def _check_extents(**extents: int) -> None:
    for name, extent in extents.items():
        if extent < 1:
            raise ValueError(f"{name} must be at least 1, not {extent}")


def generate_conv_mil(in_ch: int, out_ch: int, spatial: int) -> str:
    """A program for y = W·x: a convolution of width 1 with fp32 ports, in fp16.

    Input x is [1, in_ch, 1, spatial], output y [1, out_ch, 1, spatial]; W [out_ch, in_ch] is the
    weight file ``@model_path/weights/weight.bin``.
    """
    _check_extents(in_ch=in_ch, out_ch=out_ch, spatial=spatial)
    weight = _tensor("fp16", out_ch, in_ch, 1, 1)
    file = 'BLOBFILE(path=string("@model_path/weights/weight.bin"), offset=uint64(64))'
    y = (1, out_ch, 1, spatial)
    statements = [
        _const("string", "pad_type", 'string("valid")'),
        _const(_ints(1, 1)[0], "strides", _ints(1, 1)[1]),
        _const(_ints(0, 0, 0, 0)[0], "pad", _ints(0, 0, 0, 0)[1]),
        _const(_ints(1, 1)[0], "dilations", _ints(1, 1)[1]),
        _const("int32", "groups", "int32(1)"),
        _const("string", "to_fp16", 'string("fp16")'),
        _const("string", "to_fp32", 'string("fp32")'),
        _const(weight, "W", f"{weight}({file})"),
        _op(_tensor("fp16", 1, in_ch, 1, spatial), "x16", "cast(dtype=to_fp16, x=x)"),
        _op(
            _tensor("fp16", *y),
            "y16",
            "conv(dilations=dilations, groups=groups, pad=pad, pad_type=pad_type, "
            "strides=strides, weight=W, x=x16)",
        ),
        _op(_tensor("fp32", *y), "y", "cast(dtype=to_fp32, x=y16)"),
    ]
    return _program(f"{_tensor('fp32', 1, in_ch, 1, spatial)} x", statements, "y")


def generate_dyn_matmul_mil(in_ch: int, out_ch: int, spatial: int) -> str:
    """A program for y = W·x with W in the input, so that it is compiled once for all weights.

    Input x is [1, in_ch, 1, spatial + out_ch] in fp32: row i holds the activations of channel i, and
    behind them column i of W, so that the region of weights is Wᵀ [in_ch, out_ch]. Output y is
    [1, out_ch, 1, spatial] in fp32. The product is in fp16.
    """
    _check_extents(in_ch=in_ch, out_ch=out_ch, spatial=spatial)
    width = spatial + out_ch

    def ints(name: str, *values: int) -> str:
        kind, value = _ints(*values)
        return _const(kind, name, value)

    statements = [
        _const("string", "to_fp16", 'string("fp16")'),
        _const("string", "to_fp32", 'string("fp32")'),
        _const("bool", "no", "bool(false)"),
        ints("begin_x", 0, 0, 0, 0),
        ints("size_x", 1, in_ch, 1, spatial),
        ints("begin_w", 0, 0, 0, spatial),
        ints("size_w", 1, in_ch, 1, out_ch),
        ints("rows_x", 1, 1, in_ch, spatial),
        ints("rows_w", 1, 1, in_ch, out_ch),
        ints("turn", 0, 1, 3, 2),
        ints("shape_y", 1, out_ch, 1, spatial),
        _op(_tensor("fp16", 1, in_ch, 1, width), "x16", "cast(dtype=to_fp16, x=x)"),
        _op(
            _tensor("fp16", 1, in_ch, 1, spatial),
            "act",
            "slice_by_size(begin=begin_x, size=size_x, x=x16)",
        ),
        _op(
            _tensor("fp16", 1, in_ch, 1, out_ch),
            "weight",
            "slice_by_size(begin=begin_w, size=size_w, x=x16)",
        ),
        _op(_tensor("fp16", 1, 1, in_ch, spatial), "act2", "reshape(shape=rows_x, x=act)"),
        _op(_tensor("fp16", 1, 1, spatial, in_ch), "act3", "transpose(perm=turn, x=act2)"),
        _op(_tensor("fp16", 1, 1, in_ch, out_ch), "weight2", "reshape(shape=rows_w, x=weight)"),
        _op(
            _tensor("fp16", 1, 1, spatial, out_ch),
            "product",
            "matmul(transpose_x=no, transpose_y=no, x=act3, y=weight2)",
        ),
        _op(_tensor("fp16", 1, 1, out_ch, spatial), "turned", "transpose(perm=turn, x=product)"),
        _op(_tensor("fp16", 1, out_ch, 1, spatial), "y16", "reshape(shape=shape_y, x=turned)"),
        _op(_tensor("fp32", 1, out_ch, 1, spatial), "y", "cast(dtype=to_fp32, x=y16)"),
    ]
    return _program(f"{_tensor('fp32', 1, in_ch, 1, width)} x", statements, "y")
