#!/usr/bin/env python3
"""Writes a new measurement into configs/devices/server.toml and scales the other devices from it.

Each of these says in its `source` by which three factors it is slower than the server core: per FLOP of what is matrix
multiplication, per byte (and per FLOP of what memory bounds), and per call. Needs Python 3.11 and `cargo build --release`.

    scripts/scale_devices.py --runs 7            measures on this machine, which must have nothing else to do
    scripts/scale_devices.py profile.toml ...    takes calibrations that `partway-edge profile > profile.toml` printed

Of several calibrations the one that found the machine fastest is taken: what else a machine does adds to its times
and takes nothing away.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEVICES = ROOT / "configs" / "devices"
# Kinds whose FLOPs are matrix multiplication; the others' are bounded by memory.
PRODUCTS = {"conv2d", "linear", "residual", "inverted-residual"}
FACTORS = re.compile(
    r"linear layers and blocks by ([0-9.]+) \(matrix\s+multiplication\), everything per byte,\s+"
    r"and per FLOP of layers that memory bounds, by ([0-9.]+), per call by ([0-9.]+)"
)


def line(coefficients, product, factors):
    """One pass of a kind, scaled, as TOML."""
    compute, memory, call = factors
    by = {"per_flop": compute if product else memory, "per_byte": memory, "fixed": call}
    parts = [f"{key} = {coefficients[key] * by[key]:.3e}".replace("e-0", "e-") for key in by if coefficients.get(key, 0) > 0]
    return "{ " + ", ".join(parts) + " }" if parts else "{}"


def tables(profile, factors):
    """The tables of a device file."""
    text = []
    if "other" in profile:
        text += ["[other]"] + [f"{way} = {line(profile['other'][way], True, factors)}" for way in ("forward", "backward")]
        text.append("")
    for kind, model in profile["kinds"].items():
        text.append(f"[kinds.{kind}]")
        text += [f"{way} = {line(model[way], kind in PRODUCTS, factors)}" for way in ("forward", "backward")]
        text.append("")
    return "\n".join(text)


def weight(profile):
    """How slow a calibration found the machine: the kinds that take most of every model's time."""
    kinds = profile["kinds"]
    flops, size = 1e8, 1e6
    return sum(
        model[way].get("per_flop", 0) * (flops if kind in PRODUCTS else size)
        + model[way].get("per_byte", 0) * 4 * size + model[way].get("fixed", 0)
        for kind, model in kinds.items() for way in ("forward", "backward")
    )


def rewrite(path, profile, factors):
    """Replaces the tables of a device file; everything above them stays."""
    head = path.read_text(encoding="utf-8")
    head = head[: min(head.index(mark) for mark in ("\n[other]", "\n[kinds.") if mark in head) + 1]
    path.write_text(head + tables(profile, factors).rstrip("\n") + "\n", encoding="utf-8")


def main():
    """Measures or reads, and writes all device files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="*", type=pathlib.Path, metavar="PROFILE")
    parser.add_argument("--runs", type=int, default=7, help="how often to measure, without profiles [default: 7]")
    parser.add_argument("--edge", type=pathlib.Path, default=ROOT / "target" / "release" / "partway-edge")
    arguments = parser.parse_args()
    texts = [path.read_text(encoding="utf-8") for path in arguments.profiles]
    while not arguments.profiles and len(texts) < arguments.runs:
        measured = subprocess.run([str(arguments.edge), "profile"], stdout=subprocess.PIPE, check=True, text=True)
        texts.append(measured.stdout)
    profiles = sorted((tomllib.loads(text) for text in texts), key=weight)
    print("relative times:", ", ".join(f"{weight(profile) / weight(profiles[0]):.2f}" for profile in profiles), file=sys.stderr)
    rewrite(DEVICES / "server.toml", profiles[0], (1.0, 1.0, 1.0))
    for path in sorted(DEVICES.glob("*.toml")):
        if path.name == "server.toml":
            continue
        found = FACTORS.search(tomllib.loads(path.read_text(encoding="utf-8"))["source"])
        if found is None:
            sys.exit(f"{path}: its source does not say the factors by which it is scaled")
        rewrite(path, profiles[0], tuple(map(float, found.groups())))


if __name__ == "__main__":
    main()
