"""Tests of open_in_pytorch.py: `python3 -m unittest discover -s scripts/tests`."""

import contextlib
import gzip
import io
import json
import pathlib
import struct
import sys
import tempfile
import unittest

try:
    import tomllib  # noqa: F401

    import numpy
    import safetensors.numpy
    import torch
except ImportError as error:
    raise unittest.SkipTest(f"needs Python 3.11 with torch, numpy and safetensors: {error}") from error

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import open_in_pytorch as script

TINY = """
name = "tiny"
input = [1, 2, 2]
classes = 2
[[layer]]
kind = "flatten"
[[layer]]
name = "fc"
kind = "linear"
out = 2
bias = true
"""

# Class 1 if the last pixel is the brighter one, after z-scores with mean 0.5 and deviation 0.25.
WEIGHTS = {
    "layers.1.weight": numpy.array([[1, 0, 0, 0], [0, 0, 0, 1]], numpy.float32),
    "layers.1.bias": numpy.array([0, 0.5], numpy.float32),
}


def idx(values, element):
    return struct.pack(f">HBB{values.ndim}I", 0, element, values.ndim, *values.shape) + values.tobytes()


def batch_norm(name):
    return [f"{name}.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var")]


class RunFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_folder = pathlib.Path(folder.name)
        (self.run_folder / "model.toml").write_text(TINY)
        safetensors.numpy.save_file(WEIGHTS, self.run_folder / "model.safetensors")
        fitted = {"at": 0.2, "event": "standardized", "method": "zscore", "offsets": [0.5], "scales": [4.0]}
        events = ['{"at":0.1,"event":"listening"}', json.dumps(fitted), '{"at":0.3,"ev']
        (self.run_folder / "events.jsonl").write_text("\n".join(events))
        (self.run_folder / "config.toml").write_text('[data]\ndataset = "mnist"\n')
        self.record(0.75)
        images = numpy.array([[204, 0, 0, 0], [0, 0, 0, 204], [128, 9, 9, 128], [0, 0, 0, 204]], numpy.uint8)
        self.samples(images.reshape(4, 1, 2, 2), numpy.array([0, 1, 1, 0], ">i4"))

    def record(self, accuracy):
        (self.run_folder / "summary.json").write_text(json.dumps({"final_accuracy": accuracy}))

    def samples(self, images, labels):
        test = self.run_folder / "cloud" / "test"
        test.mkdir(parents=True, exist_ok=True)
        (test / "images.idx").write_bytes(idx(images, 8))
        (test / "labels.idx").write_bytes(idx(labels, 12))

    def main(self, *arguments):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = script.main([str(self.run_folder), *map(str, arguments)])
        return code, out.getvalue()

    def test_weights_are_the_files(self):
        model = script.open_model(self.run_folder)
        logits = model(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        self.assertEqual(logits.tolist(), [[1.0, 4.5]])

    def test_evaluation_standardizes_and_compares_with_the_run(self):
        code, out = self.main("--evaluate")
        self.assertEqual(code, 0, out)
        self.assertIn("accuracy 0.7500: 3 of 4 samples", out)
        self.record(0.5)
        code, out = self.main("--evaluate")
        self.assertEqual(code, 1, out)
        self.assertIn("not the one that the run evaluated", out)

    def test_mnist_files_are_read_compressed_and_plain(self):
        images = numpy.array([[[255, 0], [0, 0]]], numpy.uint8)
        files = [("t10k-images-idx3-ubyte", idx(images, 8)), ("t10k-labels-idx1-ubyte", idx(numpy.zeros(1, numpy.uint8), 8))]
        for suffix, pack in [(".gz", gzip.compress), ("", bytes)]:
            with tempfile.TemporaryDirectory() as folder:
                for name, data in files:
                    (pathlib.Path(folder) / (name + suffix)).write_bytes(pack(data))
                code, out = self.main("--evaluate", folder)
                self.assertEqual(code, 0, out)
                self.assertIn("accuracy 1.0000: 1 of 1 samples", out)

    def test_what_does_not_fit_is_refused_in_words(self):
        broken = [
            ("model.toml", TINY.replace("linear", "bilinear"), "is a `bilinear`"),
            ("model.toml", TINY.replace("out = 2", "out = 5"), "does not fit model.toml"),
            ("model.toml", TINY.replace("bias = true", "bais = true"), "layer 1 (fc) cannot be built"),
            ("model.toml", TINY.replace("bias = true", "bias = false"), "['layers.1.bias'] besides"),
            ("model.safetensors", "nonsense", "model.safetensors: "),
            ("events.jsonl", "", "no fitted standardization"),
            ("cloud/test/images.idx", "nonsense", "no IDX file"),
            ("cloud/test/labels.idx", idx(numpy.zeros(3, ">i4"), 12), "4 images, but 3 labels"),
        ]
        for name, content, message in broken:
            with self.subTest(message):
                path = self.run_folder / name
                before = path.read_bytes()
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
                code, out = self.main("--evaluate")
                self.assertEqual(code, 2, out)
                self.assertIn(message, out)
                path.write_bytes(before)


class Standardizers(unittest.TestCase):
    def apply(self, event, sample):
        with tempfile.TemporaryDirectory() as folder:
            line = json.dumps({"event": "standardized", **event})
            (pathlib.Path(folder) / "events.jsonl").write_text(line)
            return script.standardizer(folder)(torch.tensor(sample).reshape(1, 2, 1, 2)).flatten().tolist()

    def test_each_channel_has_its_own(self):
        event = {"method": "min-max", "offsets": [1.0, 0.0], "scales": [0.5, 2.0]}
        self.assertEqual(self.apply(event, [1.0, 3.0, 0.0, 0.25]), [0.0, 1.0, 0.0, 0.5])

    def test_the_logarithm_counts_from_the_minimum(self):
        event = {"method": "log", "shifts": [-1.0, 0.0], "offsets": [0.0, 0.0], "scales": [1.0, 2.0]}
        found = self.apply(event, [-1.0, -5.0, 0.0, numpy.e - 1])
        self.assertTrue(numpy.allclose(found, [0.0, 0.0, 0.0, 2.0]), found)

    def test_a_unit_norm_is_over_all_channels(self):
        event = {"method": "unit-norm", "offsets": [0.0, 0.0], "scales": [1.0, 1.0]}
        self.assertTrue(numpy.allclose(self.apply(event, [3.0, 0.0, 0.0, 4.0]), [0.6, 0.0, 0.0, 0.8]))
        self.assertEqual(self.apply(event, [0.0] * 4), [0.0] * 4)


class Layers(unittest.TestCase):
    def names(self, channels, **layer):
        model = script.build({"input": [channels, 4, 4], "classes": 2, "layer": [layer]})
        return [name for name in model.state_dict() if not name.endswith(".num_batches_tracked")]

    def test_tensors_have_the_names_of_the_file(self):
        self.assertEqual(
            self.names(2, kind="residual", out=3),
            ["layers.0.conv1.weight", *batch_norm("layers.0.bn1"), "layers.0.conv2.weight", *batch_norm("layers.0.bn2"),
             "layers.0.shortcut.conv.weight", *batch_norm("layers.0.shortcut.bn")],
        )
        self.assertEqual(len(self.names(3, kind="residual", out=3, stride=1)), 10)
        parts = [f"layers.0.{part}" for part in ("expand", "depthwise", "project")]
        names = [name for part in parts for name in (f"{part}.conv.weight", *batch_norm(f"{part}.bn"))]
        self.assertEqual(self.names(2, kind="inverted-residual", out=2), names)
        self.assertEqual(self.names(2, kind="inverted-residual", out=2, expansion=1), names[5:])
        self.assertEqual(self.names(4, kind="group-norm", groups=2), ["layers.0.weight", "layers.0.bias"])

    def test_the_example_of_every_kind_is_built(self):
        example = pathlib.Path(__file__).resolve().parent.parent.parent / "configs" / "models" / "small-cnn.toml"
        model = script.build({"input": [1, 28, 28], "classes": 10, **script.read_toml(example)})
        self.assertEqual(model(torch.zeros(3, 1, 28, 28)).shape, (3, 10))

    def test_blocks_compute_what_their_papers_say(self):
        x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
        inverted = script.InvertedResidual(4, 4, 1, 2).eval()
        residual = script.Residual(4, 4, 1).eval()
        with torch.no_grad():
            for block in (inverted, residual):
                for parameter in block.parameters():
                    parameter.zero_()
            # Without what the convolutions add, the input is left.
            self.assertTrue(torch.equal(inverted(x), x))
            self.assertTrue(torch.equal(residual(x), x.relu()))
        self.assertEqual(script.InvertedResidual(4, 6, 2, 1).eval()(x).shape, (2, 6, 3, 3))
        self.assertEqual(script.Residual(4, 6, 2).eval()(x).shape, (2, 6, 3, 3))


if __name__ == "__main__":
    unittest.main()
