#!/usr/bin/env python3
"""Opens the model that a run has trained in PyTorch, and evaluates it as the run did.

    scripts/open_in_pytorch.py runs/quickstart                 # prints the model
    scripts/open_in_pytorch.py runs/quickstart --evaluate      # on the run's own test set
    scripts/open_in_pytorch.py runs/quickstart --evaluate datasets/mnist

or, in Python:

    from open_in_pytorch import open_model, standardizer
    model, standardize = open_model("runs/quickstart"), standardizer("runs/quickstart")
    logits = model(standardize(images))                        # images: float32, [batch, channels, h, w]

Reads `model.toml` (the layers), `model.safetensors` (their tensors) and, for samples, `events.jsonl` (the
fitted standardization) of the run's folder. Needs Python 3.11 with torch, numpy and safetensors.
"""

import argparse
import gzip
import json
import math
import pathlib
import struct
import sys
import tomllib
from collections import OrderedDict

import numpy
import safetensors.numpy
import torch
from torch import nn
from torch.nn import functional

# Rounding may decide otherwise between two almost equal logits.
ROUNDING_SHARE = 1e-3

# The element types of IDX files that hold samples and labels.
IDX_ELEMENTS = {0x08: ">u1", 0x0C: ">i4", 0x0D: ">f4"}


class Refused(Exception):
    """A file that cannot be used, and why."""


def normed_conv(in_channels, out_channels, kernel, stride=1, groups=1):
    """A convolution without bias that keeps the size at stride 1, then batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels)))


class Residual(nn.Module):
    """ResNet's basic block (He et al. 2016)."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        keeps_shape = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if keeps_shape else normed_conv(in_channels, out_channels, 1, stride)

    def forward(self, x):
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018)."""

    def __init__(self, in_channels, out_channels, stride, expansion):
        super().__init__()
        hidden = in_channels * expansion
        self.expand = None if expansion == 1 else normed_conv(in_channels, hidden, 1)
        self.depthwise = normed_conv(hidden, hidden, 3, stride, groups=hidden)
        self.project = normed_conv(hidden, out_channels, 1)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x):
        inner = x if self.expand is None else functional.relu6(self.expand(x))
        inner = self.project(functional.relu6(self.depthwise(inner)))
        return x + inner if self.adds_input else inner


def conv2d(inputs, out, kernel, stride=1, padding=0, groups=1, bias=True):
    return nn.Conv2d(inputs, out, kernel, stride, padding, groups=groups, bias=bias)


def pool(kind):
    """Windows adjoin where there is no stride."""
    return lambda _, kernel, stride=None, padding=0: kind(kernel, stride or kernel, padding)


# The layer kinds of a model file, each called with the channels or features that reach it and its keys.
LAYERS = {
    "conv2d": conv2d,
    "batch-norm2d": lambda inputs: nn.BatchNorm2d(inputs),
    "group-norm": lambda inputs, groups: nn.GroupNorm(groups, inputs),
    "local-response-norm": lambda _, size=5, alpha=1e-4, beta=0.75, k=1.0: nn.LocalResponseNorm(size, alpha, beta, k),
    "linear": lambda inputs, out, bias=True: nn.Linear(inputs, out, bias),
    "relu": lambda _: nn.ReLU(),
    "relu6": lambda _: nn.ReLU6(),
    "gelu": lambda _: nn.GELU(),
    "max-pool2d": pool(nn.MaxPool2d),
    "avg-pool2d": pool(nn.AvgPool2d),
    "global-avg-pool": lambda _: nn.AdaptiveAvgPool2d(1),
    "flatten": lambda _: nn.Flatten(),
    "dropout": lambda _, p=0.5: nn.Dropout(p),
    "residual": lambda inputs, out, stride=1: Residual(inputs, out, stride),
    "inverted-residual": lambda inputs, out, stride=1, expansion=6: InvertedResidual(inputs, out, stride, expansion),
}


def read(path, parse):
    """What `parse` makes of the bytes of a file."""
    try:
        return parse(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, EOFError, gzip.BadGzipFile, safetensors.SafetensorError) as error:
        raise Refused(f"{path}: {error}") from error


def read_toml(path):
    return read(path, lambda data: tomllib.loads(data.decode()))


def build(spec):
    """The model that a `model.toml` describes, with PyTorch's own initial weights."""
    layers = []
    # What reaches a layer follows from the layers before: one sample is sent through them.
    probe = torch.zeros(1, *spec["input"])
    for index, layer in enumerate(spec["layer"]):
        keys = {key: value for key, value in layer.items() if key not in ("name", "kind")}
        kind = layer["kind"]
        if kind not in LAYERS:
            raise Refused(f"layer {index} ({layer.get('name', kind)}) is a `{kind}`, which this script cannot build yet")
        if keys.get("out") == "classes":
            keys["out"] = spec["classes"]
        try:
            built = LAYERS[kind](probe.shape[1], **keys)
            with torch.no_grad():
                probe = built.eval()(probe)
        except (TypeError, ValueError, RuntimeError) as error:
            raise Refused(f"layer {index} ({layer.get('name', kind)}) cannot be built: {error}") from error
        layers.append(built)
    # The names of the tensors are then those of the file: layers.0.weight and so on.
    return nn.Sequential(OrderedDict(layers=nn.Sequential(*layers)))


def open_model(run):
    """The trained model of a run's folder, ready for inference."""
    run = pathlib.Path(run)
    model = build(read_toml(run / "model.toml"))
    path = run / "model.safetensors"
    tensors = read(path, safetensors.numpy.load)
    state = {name: torch.from_numpy(values.copy()) for name, values in tensors.items()}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise Refused(f"{path} does not fit model.toml: {error}") from error
    # PyTorch counts batches for a kind of running mean that Partway does not have.
    missing = [name for name in missing if not name.endswith(".num_batches_tracked")]
    if missing or unexpected:
        raise Refused(f"{path} does not fit model.toml: it lacks {missing} and has {unexpected} besides")
    return model.eval()


def standardizer(run):
    """What the run did to every sample before its model: a function of float32 batches [batch, c, h, w]."""
    path = pathlib.Path(run) / "events.jsonl"
    # Other lines are many, and one that a crash cut off is no JSON.
    lines = read(path, lambda data: [line for line in data.splitlines() if b'"standardized"' in line])
    fitted = [event for event in map(json.loads, lines) if event["event"] == "standardized"]
    if not fitted:
        raise Refused(f"{path} has no fitted standardization: did the run begin to train?")
    fitted = fitted[-1]
    plane = lambda values: torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
    offsets, scales = plane(fitted["offsets"]), plane(fitted["scales"])

    def transform(x):
        match fitted["method"]:
            case "log":
                return torch.log1p((x - plane(fitted["shifts"])).clamp(min=0))
            case "unit-norm":
                norm = x.double().flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
                return torch.where(norm > 0, x / norm, x.double()).float()
            case _:
                return x

    return lambda x: (transform(x) - offsets) * scales


def parse_idx(data):
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_ELEMENTS:
        raise ValueError("it is no IDX file of bytes, 32-bit integers or floats")
    rank = data[3]
    if len(data) < 4 + 4 * rank:
        raise ValueError("it ends within its dimensions")
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    element = numpy.dtype(IDX_ELEMENTS[data[2]])
    values = data[4 + 4 * rank :]
    if len(values) != math.prod(shape) * element.itemsize:
        raise ValueError(f"it has {len(values)} bytes of values where {shape} need {math.prod(shape) * element.itemsize}")
    return numpy.frombuffer(values, element).reshape(shape)


def read_samples(folder):
    """Images [n, c, h, w] as float32 and labels [n] of a shard, or of the test files of MNIST."""
    folder = pathlib.Path(folder)
    pairs = [("images.idx", "labels.idx")] + [
        (f"t10k-images-idx3-ubyte{suffix}", f"t10k-labels-idx1-ubyte{suffix}") for suffix in ("", ".gz")
    ]
    for images, labels in pairs:
        if (folder / images).exists():
            images, labels = read(folder / images, parse_idx), read(folder / labels, parse_idx)
            break
    else:
        names = ", ".join(images for images, _ in pairs)
        raise Refused(f"{folder} has none of {names}: give a folder that has one with --evaluate")
    if len(images) != len(labels):
        raise Refused(f"{folder} has {len(images)} images, but {len(labels)} labels")
    # Bytes stand for values from 0 to 1.
    scale = 255 if images.dtype.kind == "u" else 1
    images = torch.from_numpy(images.astype(numpy.float32)) / scale
    return images.reshape(len(images), -1, *images.shape[-2:]), torch.from_numpy(labels.astype(numpy.int64))


@torch.inference_mode()
def count_correct(model, standardize, images, labels, batch=250):
    """How many of the samples the model gives its largest logit to their label."""
    correct = 0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        correct += int((model(standardize(x)).argmax(1) == y).sum())
    return correct


def recorded_accuracy(run):
    """The run's own figure for the cloud's test set, where it has one."""
    if read_toml(run / "config.toml")["data"].get("evaluate", "cloud") != "cloud":
        return None
    return read(run / "summary.json", json.loads).get("final_accuracy")


def evaluate(run, folder=None):
    """Prints the accuracy; returns whether it is the run's own, where the samples are."""
    own = folder is None
    folder = run / "cloud" / "test" if own else folder
    images, labels = read_samples(folder)
    correct = count_correct(open_model(run), standardizer(run), images, labels)
    accuracy = correct / len(labels)
    print(f"accuracy {accuracy:.4f}: {correct} of {len(labels)} samples in {folder}")
    recorded = recorded_accuracy(run)
    if recorded is None:
        print("the run has no accuracy on the cloud's test set to compare with")
        return True
    print(f"the run's final_accuracy: {recorded:.4f}")
    return not own or abs(accuracy - recorded) <= ROUNDING_SHARE


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="the run's folder, such as runs/quickstart")
    parser.add_argument(
        "--evaluate",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="samples to evaluate on, as IDX files: a shard or MNIST's test files [default: the run's test set]",
    )
    arguments = parser.parse_args(arguments)
    try:
        if arguments.evaluate is None:
            print(open_model(arguments.run))
            return 0
        if not evaluate(arguments.run, arguments.evaluate or None):
            print("error: the model is not the one that the run evaluated", file=sys.stderr)
            return 1
        return 0
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
