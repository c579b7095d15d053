"""Programs by name, checks, examples of the documentation, and the trainer."""

import contextlib
import doctest
import importlib.util
import io
import json
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
from bounds import check_product

import anegpt
import anegpt.ane_bridge
from anegpt.ane_bridge import generate_conv_mil

MIXED = """program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 4, 1, 16]> x, tensor<fp16, [1, 4, 1, 1]> gain) {
        tensor<fp16, [1, 4, 1, 16]> y = mul(x=x, y=gain)[name=string("y")];
        tensor<fp16, [1, 4, 1, 16]> double = add(x=y, y=y)[name=string("double")];
    } -> (y, double);
}
"""

INTEGERS = """program(1.3)
{
    func main<ios18>(tensor<int32, [16]> x) {
        string to = const()[name=string("to"), val=string("fp32")];
        tensor<fp32, [16]> y = cast(dtype=to, x=x)[name=string("y")];
    } -> (y);
}
"""


class Programs(unittest.TestCase):
    def setUp(self):
        rng = np.random.default_rng(7)
        self.x = rng.standard_normal((1, 4, 1, 16))
        self.gain = rng.standard_normal((1, 4, 1, 1))

    def test_by_name(self):
        want = self.x.astype(np.float16) * self.gain.astype(np.float16)
        with anegpt.Device("emulator") as device, device.compile(MIXED) as program:
            self.assertEqual(list(program.inputs), ["gain", "x"])
            self.assertEqual(list(program.outputs), ["double", "y"])
            port = program.inputs["x"]
            self.assertEqual((port.dtype, port.shape, port.index), (np.float16, (1, 4, 1, 16), 1))
            self.assertIn("m4/macos15", program.device)
            self.assertIn("x: float16[1, 4, 1, 16]", repr(program))
            out = program(x=self.x, gain=self.gain)
            self.assertTrue((out["y"] == want).all() and (out["double"] == 2 * want).all())
            place = np.empty((1, 4, 1, 16), np.float16)
            again = program({"x": self.x}, gain=self.gain, out={"y": place})
            self.assertIs(again["y"], place)
            self.assertTrue((place == want).all())
            self.assertGreaterEqual(program.seconds, 0)

    def test_where_memory_is_not_shared(self):
        """In f32 an fp16 port is held in f32; its bytes are still fp16."""
        with anegpt.Device("emulator:f32") as device, device.compile(MIXED) as program:
            with self.assertRaisesRegex(RuntimeError, "cannot be shared"):
                with program.map_input("x"):
                    pass
            out = program(x=self.x, gain=self.gain)
            x, gain = self.x.astype(np.float16), self.gain.astype(np.float16)
            want = x.astype(np.float32) * gain.astype(np.float32)
            self.assertTrue((out["y"] == want.astype(np.float16)).all())

    def test_in_place_and_submitted(self):
        with anegpt.Device() as device, device.compile(MIXED) as program:
            with program.map_input("x") as x, program.map_input("gain") as gain:
                x[...], gain[...] = 3, 2
            program.submit()
            self.assertTrue(program.wait())
            with program.map_output("double") as double:
                self.assertTrue((double == 12).all())

    def test_run_with_weights(self):
        rng = np.random.default_rng(1)
        w, x = rng.standard_normal((32, 48)), rng.standard_normal((48, 16))
        text = generate_conv_mil(48, 32, 16)
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "weights" / "weight.bin"
            path.parent.mkdir()
            path.write_bytes(anegpt.weight_file(w))
            weights = anegpt.read_weights(place, text)
        y = anegpt.run(text, {"x": x.reshape(1, 48, 1, 16)}, weights)["y"]
        check_product(y.reshape(32, 16), w, x)
        with self.assertRaises(OSError):
            anegpt.read_weights("nowhere", text)

    def test_integers(self):
        y = anegpt.run(INTEGERS, {"x": np.arange(-8, 8)}, device="cpu")["y"]
        self.assertEqual((y.dtype, y.tolist()), (np.float32, list(range(-8, 8))))
        with self.assertRaises(TypeError):
            anegpt.run(INTEGERS, {"x": np.arange(16) / 2}, device="cpu")

    def test_wrong_inputs(self):
        with anegpt.Device("cpu") as device, device.compile(MIXED) as program:
            with self.assertRaisesRegex(TypeError, "`x` is missing"):
                program(gain=self.gain)
            with self.assertRaisesRegex(TypeError, "no input `z`; it has gain, x"):
                program(x=self.x, gain=self.gain, z=1)
            with self.assertRaisesRegex(ValueError, r"`x` is \[1, 4, 1, 16\], not \[4, 16\]"):
                program(x=self.x[0, :, 0], gain=self.gain)

    @unittest.skipIf(sys.platform == "darwin", "there may be a Neural Engine")
    def test_no_engine(self):
        says = "^no Neural Engine on this machine .*; use the device `emulator`, which runs the same"
        for name in ["ane", "in-memory", "espresso"]:
            with self.assertRaisesRegex(RuntimeError, says):
                anegpt.Device(name)


class Checks(unittest.TestCase):
    def test_legal(self):
        report = anegpt.check(generate_conv_mil(64, 64, 16))
        self.assertTrue(report and report.legal)
        self.assertEqual((report.profile, report.faults), ("m4/macos15/in-memory", ()))

    def test_rules_with_ids(self):
        report = anegpt.check(generate_conv_mil(64, 64, 16), "m1")
        self.assertFalse(report)
        ports = [v for v in report.violations if v.id == "ANE021"]
        self.assertEqual(sorted(v.name for v in ports), ["x", "y"])
        self.assertEqual((ports[0].severity, ports[0].place), ("error", "parameter"))
        self.assertTrue(ports[0].hint and ports[0].evidence)

    def test_faults_of_the_language(self):
        report = anegpt.check(MIXED.replace("mul", "mull"))
        self.assertFalse(report)
        fault = report.faults[0]
        self.assertEqual(fault.line, 4)
        self.assertIn("mull", fault.message)
        self.assertEqual(report.violations, ())

    def test_unknown_profiles(self):
        with self.assertRaisesRegex(ValueError, "m9"):
            anegpt.check(MIXED, "m9")


class Estimates(unittest.TestCase):
    def test_parts_make_up_the_time(self):
        found = anegpt.estimate(MIXED, "m1")
        self.assertEqual((found.profile, found.function), ("m1/macos15/in-memory", "main"))
        self.assertTrue(found.low < found.seconds < found.high)
        self.assertAlmostEqual(sum(found.parts.values()), found.seconds)
        self.assertIn(found.bound_by, found.parts)
        self.assertEqual([o.name for o in found.operations], ["y", "double"])

    def test_more_work_takes_longer(self):
        small, large = (anegpt.estimate(generate_conv_mil(n, n, 64)) for n in (64, 2048))
        self.assertLess(2 * small.seconds, large.seconds)

    def test_errors(self):
        with self.assertRaisesRegex(ValueError, "m9"):
            anegpt.estimate(MIXED, "m9")
        with self.assertRaisesRegex(ValueError, "line 4"):
            anegpt.estimate(MIXED.replace("mul", "mull"))


class NewerLibraries(unittest.TestCase):
    def setUp(self):
        def newer(described):
            if isinstance(described, list):
                return [newer(item) for item in described]
            if isinstance(described, dict):
                return {**{k: newer(v) for k, v in described.items()}, "added": 1}
            return described

        take = anegpt._library.take_text
        patch = unittest.mock.patch.object(
            anegpt._library, "take_text", lambda *args: json.dumps(newer(json.loads(take(*args))))
        )
        patch.start()
        self.addCleanup(patch.stop)

    def test_fields_that_were_added_are_left_out(self):
        found = anegpt.estimate(MIXED, "m1")
        self.assertEqual((found.function, found.operations[0].name), ("main", "y"))
        self.assertTrue(anegpt.check(generate_conv_mil(64, 64, 16), "m1").violations)
        self.assertTrue(anegpt.check(MIXED.replace("mul", "mull")).faults)


class Examples(unittest.TestCase):
    def test_documentation(self):
        for module in [anegpt, anegpt.ane_bridge]:
            result = doctest.testmod(module)
            self.assertGreater(result.attempted, 0)
            self.assertEqual(result.failed, 0)

    def test_marker_of_types(self):
        self.assertTrue((Path(anegpt.__file__).parent / "py.typed").exists())
        self.assertRegex(anegpt.__version__, r"^\d+\.\d+\.\d+")

    def test_the_trainer_learns(self):
        """The text's grammar can be learned far below the entropy of single characters."""
        path = Path(__file__).parents[1] / "examples" / "train_characters.py"
        spec = importlib.util.spec_from_file_location("train_characters", path)
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            losses, unigram = example.train(example.stories(0), 150, "emulator")
        self.assertLess(np.mean(losses[-10:]), 0.25 * unigram)
        self.assertGreater(losses[0], 0.9 * unigram)
        self.assertIn("step     1  loss", printed.getvalue())
        with contextlib.redirect_stdout(io.StringIO()):
            again, _ = example.train(example.stories(0), 20, "emulator")
        # The same seed gives the same numbers; the learning rate depends on the number of steps.
        self.assertEqual((len(again), again[0]), (20, losses[0]))


if __name__ == "__main__":
    unittest.main()
