#!/usr/bin/env python3
"""Times training steps of Partway's kernels beside PyTorch's on this CPU.

    scripts/compare_with_pytorch.py                            # 1 and 2 threads, all models
    scripts/compare_with_pytorch.py --threads 4 --models VGG-5 --rounds 9

Builds the benchmark `kernels` of partway-model and lets it and PyTorch take turns of a few seconds; ratios
are medians over the rounds. The models, batches and the optimizer (SGD with momentum) are those of the
benchmark. Needs Python 3.11 with torch; nothing else in Partway does.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Residual(nn.Module):
    """The basic block of ResNet."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = normed(inputs, outputs, 3, stride)
        self.second = normed(outputs, outputs, 3, 1)
        keeps_shape = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if keeps_shape else normed(inputs, outputs, 1, stride)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def normed(inputs, outputs, kernel, stride):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def lenet5():
    convolutions = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    convolutions += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return convolutions + [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]


def vgg5():
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten()]
    return layers + [nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10)]


def vgg11():
    layers, inputs = [], 3
    for outputs, pools in [
        (64, True), (128, True), (256, False), (256, True),
        (512, False), (512, True), (512, False), (512, True),
    ]:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pools else []
        inputs = outputs
    return layers + [nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]


def resnet18():
    layers, inputs = [normed(3, 64, 3, 1), nn.ReLU()], 64
    for outputs, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        layers.append(Residual(inputs, outputs, stride))
        inputs = outputs
    return layers + [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]


# Layers, input and batch of each model, by the example's names.
MODELS = {
    "LeNet-5": (lenet5, (1, 28, 28), 64),
    "VGG-5": (vgg5, (3, 32, 32), 100),
    "VGG-11": (vgg11, (3, 32, 32), 32),
    "ResNet-18": (resnet18, (3, 32, 32), 32),
}


class Training:
    """A model of PyTorch in training on one batch."""

    def __init__(self, name):
        layers, shape, batch = MODELS[name]
        torch.manual_seed(1)
        self.model = nn.Sequential(*layers())
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.inputs = torch.rand(batch, *shape) * 2 - 1
        self.labels = torch.tensor([(n * 7 + 3) % 10 for n in range(batch)])
        self.step()
        self.step()

    def step(self):
        begun = time.perf_counter()
        loss = nn.functional.cross_entropy(self.model(self.inputs), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()
        return 1e3 * (time.perf_counter() - begun)

    def median_step(self, seconds):
        """The median time of a step in ms."""
        begun, times = time.monotonic(), []
        while len(times) < 3 or time.monotonic() - begun < seconds:
            times.append(self.step())
        return statistics.median(times)


def build():
    """Builds the benchmark of the kernels, and says where it is."""
    command = ["cargo", "bench", "--locked", "--package", "partway-model", "--bench", "kernels", "--no-run"]
    command.append("--message-format=json-render-diagnostics")
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    executables = (json.loads(line).get("executable") for line in built.splitlines())
    return next(path for path in executables if path)


def own_step(program, name, threads, seconds):
    """The median time of a step of Partway's in ms."""
    command = [program, "own", name, str(threads), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn")
    parser.add_argument("--program", type=pathlib.Path, help="the benchmark of the kernels, if it is built already")
    arguments = parser.parse_args()
    program = arguments.program or build()
    print(f"PyTorch {torch.__version__}; ms per training step, medians of {arguments.rounds} rounds")
    print(f"{'model':<10} {'threads':>7} {'PyTorch':>9} {'Partway':>9} {'ratio':>6}")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for name in arguments.models:
            training, rounds = Training(name), []
            for _ in range(arguments.rounds):
                theirs = training.median_step(arguments.seconds)
                rounds.append((theirs, own_step(program, name, threads, arguments.seconds)))
            theirs, own = (statistics.median(turn[side] for turn in rounds) for side in (0, 1))
            ratio = statistics.median(own / theirs for theirs, own in rounds)
            print(f"{name:<10} {threads:>7} {theirs:>9.2f} {own:>9.2f} {ratio:>5.2f}x", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
