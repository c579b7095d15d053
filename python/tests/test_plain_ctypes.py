"""The library as a script for the original bridge uses it: nine functions, by ctypes, under the
name that the script looks for."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path

import numpy as np
from bounds import check_product

from anegpt import _library
from anegpt.ane_bridge import ANEBridge, generate_conv_mil, generate_dyn_matmul_mil


class NineFunctions(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        found = next(path for path in _library.candidates() if path.exists())
        # Another file than the package's, so that its state is its own; the name is a Mac's anywhere.
        self.path = shutil.copy(found, Path(place.name) / "libane_bridge.dylib")
        lib = ctypes.CDLL(str(self.path))
        sizes = POINTER(c_size_t)
        lib.ane_bridge_init.restype = c_int
        lib.ane_bridge_compile.restype = c_void_p
        lib.ane_bridge_compile.argtypes = [
            c_char_p, c_size_t, c_char_p, c_size_t, c_int, sizes, c_int, sizes,
        ]
        lib.ane_bridge_compile_multi_weights.restype = c_void_p
        lib.ane_bridge_compile_multi_weights.argtypes = [
            c_char_p, c_size_t, POINTER(c_char_p), POINTER(c_char_p), sizes, c_int,
            c_int, sizes, c_int, sizes,
        ]
        lib.ane_bridge_eval.restype = c_bool
        lib.ane_bridge_eval.argtypes = [c_void_p]
        # Declared to return nothing, as originally.
        lib.ane_bridge_write_input.restype = None
        lib.ane_bridge_write_input.argtypes = [c_void_p, c_int, c_void_p, c_size_t]
        lib.ane_bridge_read_output.restype = None
        lib.ane_bridge_read_output.argtypes = [c_void_p, c_int, c_void_p, c_size_t]
        lib.ane_bridge_free.restype = None
        lib.ane_bridge_free.argtypes = [c_void_p]
        lib.ane_bridge_get_compile_count.restype = c_int
        lib.ane_bridge_reset_compile_count.restype = None
        self.lib = lib

    def test_a_product(self):
        rng = np.random.default_rng(42)
        w = (0.01 * rng.standard_normal((128, 64))).astype(np.float32)
        x = rng.standard_normal((64, 16)).astype(np.float32)
        text, blob = generate_conv_mil(64, 128, 16).encode(), ANEBridge.build_weight_blob(w)
        ins, outs = (c_size_t * 1)(x.nbytes), (c_size_t * 1)(128 * 16 * 4)
        one = [text, len(text), blob, len(blob), 1, ins, 1, outs]
        self.assertIsNone(self.lib.ane_bridge_compile(*one), "before init")
        self.assertEqual(self.lib.ane_bridge_init(), 0)
        name = (c_char_p * 1)(b"@model_path/weights/weight.bin")
        many = [text, len(text), name, (c_char_p * 1)(blob), (c_size_t * 1)(len(blob)), 1]
        many += [1, ins, 1, outs]
        for kernel in [
            self.lib.ane_bridge_compile(*one),
            self.lib.ane_bridge_compile_multi_weights(*many),
        ]:
            self.assertIsNotNone(kernel)
            self.lib.ane_bridge_write_input(kernel, 0, x.ctypes.data_as(c_void_p), x.nbytes)
            self.assertTrue(self.lib.ane_bridge_eval(kernel))
            y = np.empty((128, 16), np.float32)
            self.lib.ane_bridge_read_output(kernel, 0, y.ctypes.data_as(c_void_p), y.nbytes)
            check_product(y, w, x)
            self.lib.ane_bridge_free(kernel)
        self.assertEqual(self.lib.ane_bridge_get_compile_count(), 2)
        self.lib.ane_bridge_reset_compile_count()
        self.assertEqual(self.lib.ane_bridge_get_compile_count(), 0)

    def test_weights_in_the_input_as_a_trainer_writes_them(self):
        """A kernel that is compiled once and run with other weights each time, from arrays that were
        joined in float64 or transposed, its results read and not asked about."""
        inp, out, width = 64, 256, 32
        text = generate_dyn_matmul_mil(inp, out, width).encode()
        ins, outs = (c_size_t * 1)(inp * (width + out) * 4), (c_size_t * 1)(out * width * 4)
        self.assertEqual(self.lib.ane_bridge_init(), 0)
        kernel = self.lib.ane_bridge_compile(text, len(text), None, 0, 1, ins, 1, outs)
        self.assertIsNotNone(kernel)
        rng = np.random.default_rng(7)
        for _ in range(3):
            w, x = rng.standard_normal((out, inp)), rng.standard_normal((inp, width))
            both = np.concatenate([x, w.T], axis=1).astype(np.float32)
            self.lib.ane_bridge_write_input(kernel, 0, both.ctypes.data_as(c_void_p), both.nbytes)
            self.lib.ane_bridge_eval(kernel)
            y = np.empty((out, width), np.float32)
            self.lib.ane_bridge_read_output(kernel, 0, y.ctypes.data_as(c_void_p), y.nbytes)
            check_product(y, w.astype(np.float32), x.astype(np.float32))
        self.lib.ane_bridge_free(kernel)
        self.assertEqual(self.lib.ane_bridge_get_compile_count(), 1)

    def test_errors_on_standard_error(self):
        """The original wrote why it could not compile; what was written for it has no other way to
        know. Why a run failed it never said."""
        code = f"""
import ctypes
lib = ctypes.CDLL({str(self.path)!r})
lib.ane_bridge_compile.restype = lib.ane_bridge_compile_multi_weights.restype = ctypes.c_void_p
lib.ane_bridge_init()
assert not lib.ane_bridge_compile(b"nonsense", 8, None, 0, 0, None, 0, None)
assert not lib.ane_bridge_compile_multi_weights(b"nonsense", 8, *[None] * 3, 0, 0, None, 0, None)
lib.ane_bridge_eval(None)
"""
        compiles = 2 * ["ane_bridge: the text is not a valid MIL program"]
        for value, says in [
            ("", compiles),
            ("0", []),
            ("1", compiles + ["ane_bridge: kernel is null"]),
        ]:
            environment = {**os.environ, "ANE_BRIDGE_VERBOSE": value}
            done = subprocess.run([sys.executable, "-c", code], env=environment,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            lines = [line for line in done.stderr.splitlines() if line.startswith("ane_bridge:")]
            self.assertEqual(lines, says)
            self.assertEqual(bool(done.stderr), bool(says))


if __name__ == "__main__":
    unittest.main()
