"""anegpt.ane_bridge against NumPy in float64."""

import ctypes.util
import gc
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
from bounds import check_product

from anegpt import _library
from anegpt.ane_bridge import (
    ANEBridge,
    ANEKernel,
    generate_conv_mil,
    generate_dyn_matmul_mil,
)

PAIR = """program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 4, 1, 16]> b, tensor<fp16, [1, 4, 1, 16]> a) {
        tensor<fp16, [1, 4, 1, 16]> y = sub(x=b, y=a)[name=string("y")];
    } -> (y);
}
"""
SHAPE = (4, 16)


def compiled_conv(bridge, w, width):
    rows, cols = w.shape
    return bridge.compile(
        generate_conv_mil(cols, rows, width),
        bridge.build_weight_blob(w),
        input_sizes=[cols * width * 4],
        output_sizes=[rows * width * 4],
    )


class WithBridge(unittest.TestCase):
    def setUp(self):
        self.bridge = ANEBridge(device="emulator")
        self.bridge.init()
        self.addCleanup(self.bridge.close)
        self.rng = np.random.default_rng(42)

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)


class Products(WithBridge):
    def test_convolution(self):
        for rows, cols, width in [(128, 64, 16), (65, 33, 31), (256, 512, 64)]:
            w, x = 0.01 * self.normal(rows, cols), self.normal(cols, width)
            with compiled_conv(self.bridge, w, width) as kernel:
                kernel.write_input(0, x)
                self.assertIs(kernel.eval(), True)
                y = kernel.read_output(0, (rows, width))
                self.assertEqual((y.shape, y.dtype), ((rows, width), np.float32))
                check_product(y, w, x)

    def test_weights_in_the_input(self):
        rows, cols, width = 48, 80, 16
        with self.bridge.compile(generate_dyn_matmul_mil(cols, rows, width)) as kernel:
            self.assertEqual(kernel.input_sizes, [cols * (width + rows) * 4])
            for _ in range(3):
                w, x = self.normal(rows, cols), self.normal(cols, width)
                kernel.write_input(0, np.concatenate([x, w.T], axis=1))
                kernel.run()
                check_product(kernel.read_output(0, (rows, width)), w, x)
                self.assertGreaterEqual(kernel.seconds, 0)

    def test_the_bound_would_notice_a_wrong_product(self):
        w, x = self.normal(16, 64), self.normal(64, 16)
        with self.assertRaises(AssertionError):
            check_product((w @ x) * 1.02, w, x)

    def test_transposed_weights(self):
        w = self.normal(40, 24)
        blob = self.bridge.build_weight_blob(w, transpose=True)
        self.assertEqual(blob, self.bridge.build_weight_blob(np.ascontiguousarray(w.T)))
        x = self.normal(40, 16)
        with self.bridge.compile(generate_conv_mil(40, 24, 16), blob) as kernel:
            kernel.write_input(0, x)
            kernel.run()
            check_product(kernel.read_output(0, (24, 16)), w.T, x)

    def test_many_weight_files(self):
        w = self.normal(32, 32)
        text = generate_conv_mil(32, 32, 16).replace("weights/weight.bin", "weights/wq.bin")
        files = {"@model_path/weights/wq.bin": self.bridge.build_weight_blob(w)}
        files["@model_path/weights/unused.bin"] = b""
        with self.bridge.compile_multi_weights(text, files, [2048], [2048]) as kernel:
            x = self.normal(32, 16)
            kernel.write_input(0, x)
            kernel.run()
            check_product(kernel.read_output(0, (32, 16)), w, x)


class Blobs(WithBridge):
    def test_layout(self):
        blob = self.bridge.build_weight_blob(np.array([[1.0, -2.0, 65504.0]]))
        head = np.frombuffer(blob[:128], np.uint32)
        self.assertEqual(list(head[:2]), [1, 2])
        self.assertEqual(list(head[16:22]), [0xDEADBEEF, 1, 6, 0, 128, 0])
        self.assertEqual(np.frombuffer(blob[128:], np.float16).tolist(), [1, -2, 65504])
        self.assertEqual(len(self.bridge.build_weight_blob(self.normal(128, 64))), 16512)

    def test_rounding_is_numpys(self):
        w = self.normal(100, 100) * np.float32(100)
        data = np.frombuffer(self.bridge.build_weight_blob(w)[128:], np.float16)
        self.assertTrue((data.reshape(w.shape) == w.astype(np.float16)).all())

    def test_matrices_anywhere_in_memory(self):
        w = self.normal(4, 6)
        odd = np.frombuffer(b"x" + w.tobytes(), np.float32, offset=1).reshape(w.shape)
        build = self.bridge.build_weight_blob
        for matrix in [odd, np.asfortranarray(w), np.repeat(w, 2, axis=1)[:, ::2], w.tolist()]:
            self.assertEqual(build(matrix), build(w))
        self.assertEqual(
            self.bridge.build_weight_blob_int8(odd), self.bridge.build_weight_blob_int8(w)
        )

    def test_int8(self):
        w = self.normal(20, 30)
        blob, scale = self.bridge.build_weight_blob_int8(w)
        q = np.frombuffer(blob[128:], np.int8).reshape(w.shape)
        self.assertLessEqual(np.abs(q * np.float64(scale) - w).max(), 0.5001 * scale)

    def test_errors(self):
        for wrong in [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0, 3))]:
            with self.assertRaisesRegex(ValueError, "must be a matrix"):
                self.bridge.build_weight_blob(wrong)
        with self.assertRaisesRegex(ValueError, "element 1 is NaN"):
            self.bridge.build_weight_blob_int8(np.array([[0, np.nan]]))


class Training(WithBridge):
    def test_two_layers_with_weights_compiled_in(self):
        """A network learns the identity; every step compiles three programs anew."""
        d, h, s, rate = 64, 128, 16, 0.02
        w1, w2 = 0.05 * self.normal(h, d), 0.05 * self.normal(d, h)
        x = np.sin(np.arange(d * s, dtype=np.float32) * 0.05).reshape(d, s)
        self.bridge.reset_compile_count()

        def times(w, v):
            with compiled_conv(self.bridge, w, s) as kernel:
                kernel.write_input(0, v)
                kernel.run()
                y = kernel.read_output(0, (w.shape[0], s))
            check_product(y, w, v)
            return y

        losses = []
        while self.bridge.compile_count < 90:
            a = times(w1, x)
            r = np.maximum(a, 0)
            error = times(w2, r) - x
            losses.append(float((error**2).mean()))
            dy = error / np.float32(s)
            da = np.where(a > 0, times(w2.T, dy), 0).astype(np.float32)
            w2 = w2 - np.float32(rate) * (dy @ r.T)
            w1 = w1 - np.float32(rate) * (da @ x.T)
        self.assertEqual((len(losses), self.bridge.compile_count), (30, 90))
        self.assertLess(losses[-1], 0.05 * losses[0])

    def test_the_engine_counts_for_itself(self):
        for _ in range(119):
            self.bridge.compile(PAIR).free()
        self.bridge.reset_compile_count()
        self.assertEqual(self.bridge.compile_count, 0)
        with self.assertRaisesRegex(RuntimeError, "ANE083"):
            self.bridge.compile(PAIR)
        self.assertEqual(self.bridge.compile_count, 0)


class Surfaces(WithBridge):
    def halves(self):
        a, b = (self.normal(*SHAPE).astype(np.float16) for _ in range(2))
        return a, b

    def test_fp16_and_the_order_of_binding(self):
        a, b = self.halves()
        with self.bridge.compile(PAIR) as kernel:
            self.assertEqual((kernel.n_inputs, kernel.n_outputs), (2, 1))
            self.assertEqual((kernel.input_sizes, kernel.output_sizes), ([128, 128], [128]))
            kernel.write_input(0, a)
            kernel.write_input(1, b)
            kernel.run()
            y = kernel.read_output(0, SHAPE, np.float16)
        self.assertTrue((y == b - a).all())

    def test_memory_is_shared(self):
        a, b = self.halves()
        with self.bridge.compile(PAIR) as kernel:
            with kernel.map_input(0, SHAPE, np.float16) as memory:
                memory[...] = a
                self.assertFalse(kernel.eval())
                self.assertIn("is locked", kernel.last_error)
                with self.assertRaisesRegex(RuntimeError, "is locked"):
                    with kernel.map_input(0, SHAPE, np.float16):
                        pass
            with self.assertRaisesRegex(ValueError, "read-only"):
                memory[0] = 0
            kernel.write_input(1, b)
            kernel.run()
            with kernel.map_output(0, SHAPE, np.float16) as y:
                self.assertTrue((y == b - a).all())
                self.assertFalse(y.flags.writeable or y.flags.owndata)
            kernel.write_input(1, a)
            kernel.run()
            # The view shows what is there now, and outlives the kernel.
            self.assertTrue((y == 0).all())
        gc.collect()
        self.assertTrue((y == 0).all())
        self.assertEqual(float(y.sum()), 0)

    def test_a_mapping_is_undone_after_an_error(self):
        with self.bridge.compile(PAIR) as kernel:
            with self.assertRaises(ZeroDivisionError):
                with kernel.map_input(0, SHAPE, np.float16):
                    raise ZeroDivisionError
            with self.assertRaisesRegex(ValueError, "128 bytes, too few"):
                with kernel.map_input(0, SHAPE, np.float32):
                    pass
            kernel.run()

    def test_reading_in_place(self):
        a, b = self.halves()
        with self.bridge.compile(PAIR) as kernel:
            kernel.write_input(1, b)
            kernel.run()
            out = np.empty(SHAPE, np.float16)
            self.assertIs(kernel.read_output(0, SHAPE, np.float16, out=out), out)
            self.assertTrue((out == b).all())
            for wrong in [np.empty(SHAPE), np.empty((16, 4), np.float16), out[:, ::2]]:
                with self.assertRaises(ValueError):
                    kernel.read_output(0, wrong.shape if wrong.shape != (16, 4) else SHAPE,
                                       np.float16, out=wrong)

    def test_arrays_that_are_not_contiguous(self):
        _, b = self.halves()
        with self.bridge.compile(PAIR) as kernel:
            kernel.write_input(1, np.asfortranarray(b))
            kernel.run()
            self.assertTrue((kernel.read_output(0, SHAPE, np.float16) == b).all())

    def test_surfaces_larger_than_tensors(self):
        with self.bridge.compile(PAIR, None, [49152, 49152], [49152]) as kernel:
            kernel.write_input(1, np.ones(49152 // 2, np.float16))
            kernel.run()
            y = kernel.read_output(0, 49152 // 2, np.float16)
            self.assertEqual((y[:64].min(), y[64:].max()), (1, 0))


class Errors(WithBridge):
    def test_compile(self):
        for text, words in [
            ("", "not a valid MIL program"),
            (PAIR.replace("sub", "bus"), "line 4"),
            (PAIR.replace("fp16", "fp32"), "ANE026"),
            (generate_conv_mil(8, 8, 16), "weight.bin` was not given"),
        ]:
            with self.assertRaisesRegex(RuntimeError, f"ANE compile failed: (?s:.)*{words}"):
                self.bridge.compile(text)
        for inputs, outputs in [([128], None), ([128, 12], None), (None, [0])]:
            with self.assertRaises(RuntimeError):
                self.bridge.compile(PAIR, None, inputs, outputs)
        for size in [-1, 2**64 + 128]:
            with self.assertRaises(ValueError):
                self.bridge.compile(PAIR, None, [128, size], [128])

    def test_input_and_output(self):
        with self.bridge.compile(PAIR) as kernel:
            for call in [
                lambda: kernel.write_input(2, np.zeros(4, np.float16)),
                lambda: kernel.write_input(-1, np.zeros(4, np.float16)),
                lambda: kernel.write_input(2**32, np.zeros(4, np.float16)),
                lambda: kernel.read_output(-(2**32), 4, np.float16),
                lambda: kernel.write_input(0, np.zeros(65, np.float16)),
                lambda: kernel.write_input(0, np.zeros(3, np.uint8)),
                lambda: kernel.read_output(1, 4, np.float16),
                lambda: kernel.read_output(0, 65, np.float16),
                kernel.poll,
                lambda: kernel.seconds,
            ]:
                with self.assertRaisesRegex(RuntimeError, ": ."):
                    call()

    def test_objects_are_not_read(self):
        """Bytes of a surface are no pointers."""
        with self.bridge.compile(PAIR) as kernel:
            kernel.write_input(1, np.ones(SHAPE, np.float16))
            kernel.run()
            for dtype in [object, np.dtype([("x", object)])]:
                with self.assertRaisesRegex(TypeError, "cannot be elements"):
                    kernel.read_output(0, 4, dtype)

    def test_freed_kernels(self):
        kernel = self.bridge.compile(PAIR)
        number = kernel.handle
        kernel.free()
        kernel.free()
        for call in [kernel.eval, kernel.submit, lambda: kernel.read_output(0, 1)]:
            with self.assertRaisesRegex(RuntimeError, "was freed"):
                call()
        # The number itself is stale as well, and cannot harm.
        stale = ANEKernel(number, 2, 1, [128, 128], [128])
        self.assertFalse(stale.eval())
        self.assertIn("not a kernel in use", stale.last_error)

    def test_devices(self):
        with self.assertRaisesRegex(RuntimeError, "no device called `toaster`"):
            ANEBridge(device="toaster").init()
        with self.assertRaisesRegex(RuntimeError, r"init\(\) was not called"):
            ANEBridge(device="cpu").compile(PAIR)
        with ANEBridge(device="emulator:m1/macos26") as bridge:
            self.assertEqual(bridge.warning, "")
            self.assertIn("m1/macos26", bridge.device)
            with self.assertRaisesRegex(RuntimeError, "ANE021"):
                bridge.compile(generate_conv_mil(64, 64, 16), bridge.build_weight_blob(np.eye(64)))

    def test_generators(self):
        for generate in [generate_conv_mil, generate_dyn_matmul_mil]:
            with self.assertRaisesRegex(ValueError, "spatial must be at least 1"):
                generate(8, 8, 0)


class Concurrency(WithBridge):
    def test_submission(self):
        a = np.ones(SHAPE, np.float16)
        with self.bridge.compile(PAIR) as kernel:
            for i in range(20):
                kernel.write_input(1, a * np.float16(i))
                kernel.submit()
                if i % 2:
                    self.assertIs(kernel.wait(60), True)
                    self.assertIs(kernel.poll(), True)
                self.assertTrue((kernel.read_output(0, SHAPE, np.float16) == i).all())

    def test_threads(self):
        w = self.normal(64, 64)
        x = [self.normal(64, 16) for _ in range(8)]
        failures = []

        def work(i):
            try:
                with compiled_conv(self.bridge, w, 16) as kernel:
                    for _ in range(25):
                        kernel.write_input(0, x[i])
                        kernel.run()
                        check_product(kernel.read_output(0, (64, 16)), w, x[i])
            except BaseException as error:  # reported by the main thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        self.assertEqual(failures, [])


class Library(unittest.TestCase):
    def run_python(self, code, **environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )

    def test_the_default_device(self):
        code = """
from anegpt.ane_bridge import ANEBridge
bridge = ANEBridge()
try:
    bridge.compile("")
except RuntimeError as error:
    print(error)
bridge.init(); bridge.init()
print(bridge.compile_count, bridge.device)
"""
        done = self.run_python(code, ANE_BRIDGE_DEVICE="emulator:m2")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, "(?s)not initialized.*0 emulated Neural Engine m2/")
        done = self.run_python("from anegpt.ane_bridge import *; ANEBridge().init()",
                               ANE_BRIDGE_DEVICE="abacus")
        self.assertIn("ANE init failed: there is no device called `abacus`", done.stderr)

    def test_an_engine_that_does_not_work_is_warned_of(self):
        reason = "the engine gave wrong answers"
        with mock.patch.object(ANEBridge, "warning", reason):
            bridge = ANEBridge(device="emulator")
            with self.assertWarnsRegex(RuntimeWarning, reason):
                bridge.init()
            bridge.close()

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_a_forked_process_is_told_so(self):
        code = f"""
import os, signal, anegpt
program = anegpt.Device("emulator").compile({PAIR!r})
program.run()
if os.fork() == 0:
    signal.alarm(60)
    program.run()
assert os.wait()[1] == 1 << 8
program.run()
"""
        done = self.run_python(code)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("RuntimeError: ANE eval failed: this process was forked", done.stderr)

    def test_a_library_that_is_missing(self):
        with tempfile.TemporaryDirectory() as place:
            done = self.run_python("import anegpt", ANE_BRIDGE_LIBRARY=f"{place}/lib.so")
        self.assertIn("set ANE_BRIDGE_LIBRARY", done.stderr)

    def test_a_library_that_is_another(self):
        with tempfile.NamedTemporaryFile(suffix=".so") as text:
            text.write(b"not a library")
            text.flush()
            for path in [text.name, ctypes.util.find_library("c") or text.name]:
                with self.assertRaisesRegex(RuntimeError, "is not this package's libane_bridge: ."):
                    ANEBridge(library=path)

    def test_a_library_by_path(self):
        path = next(place for place in _library.candidates() if place.exists())
        with ANEBridge(library=path, device="cpu") as bridge, bridge.compile(PAIR) as kernel:
            self.assertTrue(kernel.eval())

    def test_all_functions_are_declared(self):
        header = Path(__file__).parents[2] / "crates/bridge/include/ane_bridge.h"
        if not header.exists():
            self.skipTest("no header: not run from the repository")
        import re

        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        found = {
            name: 0 if arguments.strip() == "void" else arguments.count(",") + 1
            for name, arguments in re.findall(r"(ane_bridge_\w+)\(([^)]*)\)", text)
        }
        declared = {name: len(args) for name, (_, args) in _library.PROTOTYPES.items()}
        self.assertEqual(declared, found)


if __name__ == "__main__":
    unittest.main()
