#!/usr/bin/env python3
"""Runs the planner's experiments of EXPERIMENTS.md on the virtual clock and prints their tables, as Markdown.

Runs that are finished are taken as they are; after an interruption the same command goes on. Needs Python 3.9 and
`cargo build --release`.

    scripts/planner_experiments.py               both
    scripts/planner_experiments.py fedadapt      every rate and codec against every cut, and a rate that changes
    scripts/planner_experiments.py fleet-20      twenty unequal edges, all algorithms
"""

import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs" / "experiments"

RATES = [75, 50, 25, 10, 5]
CODECS = ["f32", "int8"]
# Of the devices' profiles, which are of this program's kernels.
SPEEDS = [1, 0.25]
DEVICES = ["pi4", "pi3", "jetson"]
# Mbit/s one after the other, each for so many seconds of the virtual clock.
CHANGING = [75, 10, 50, 5, 25]
EACH_RATE_S = 180

# The first is the configuration itself; with a shared or handed-on model some layers are the cloud's.
SPLIT = {"plan.allow_local": "false", "plan.max_depth": 11}
FLEET = {
    "planned": {},
    "planned, always split": SPLIT,
    "fedavg": {"training.algorithm": "fedavg"},
    "splitfed-v2": {"training.algorithm": "splitfed-v2", **SPLIT},
    "sequential": {"training.algorithm": "sequential", **SPLIT},
    "centralized": {"training.algorithm": "centralized", **SPLIT},
}


class Runs:
    """Runs configurations, each in a folder of its own."""

    def __init__(self, arguments):
        self.partway = arguments.partway
        self.out = arguments.out.resolve()

    def run(self, config, name, sets):
        """The folder of a finished run, or None if it failed."""
        out = self.out / config / name
        summary = out / "summary.json"
        if summary.exists() and json.loads(summary.read_text(encoding="utf-8")).get("weights_sha256"):
            return out
        print(f"{config}: {name}", file=sys.stderr)
        command = [str(self.partway), "run", str(CONFIGS / f"{config}.toml"), "--out", str(out)]
        for key, value in {"name": f'"{name}"', **sets}.items():
            command += ["--set", f"{key}={value}"]
        out.parent.mkdir(parents=True, exist_ok=True)
        log = out.with_suffix(".log")
        with open(log, "w", encoding="utf-8") as file:
            done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, check=False)
        if done.returncode == 130:
            sys.exit("interrupted: the same command goes on")
        if done.returncode != 0:
            print(f"{config}: {name}: exit code {done.returncode}; see {log}", file=sys.stderr)
            return None
        return out

    def plan(self, config, sets):
        """What `partway plan` says."""
        command = [str(self.partway), "plan", str(CONFIGS / f"{config}.toml"), "--json"]
        for key, value in sets.items():
            command += ["--set", f"{key}={value}"]
        return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)

    def planned(self, config, sets):
        """Of each edge: its predicted step in milliseconds, and its cut."""
        return {edge["name"]: (edge["step_ms"], edge["cut"]) for edge in self.plan(config, sets)["edges"]}

    def layers(self, config):
        """How many layers the configuration's model has."""
        return len(self.plan(config, {})["layers"])


def events(folder, kind):
    """The events of a run that are of one kind."""
    with open(folder / "events.jsonl", encoding="utf-8") as lines:
        return [event for event in map(json.loads, lines) if event["event"] == kind]


def last_round(folder):
    """Of each edge in a run's last round: the median latency of its steps in milliseconds, and its cut."""
    steps = events(folder, "step")
    last = max(step["round"] for step in steps)
    latencies = collections.defaultdict(list)
    cuts = {}
    for step in steps:
        if step["round"] == last:
            latencies[step["edge"]].append(step["latency_ms"])
            cuts[step["edge"]] = step["cut"]
    return {edge: (statistics.median(values), cuts[edge]) for edge, values in latencies.items()}


def at_rate(rate):
    """What sets every link to a rate in Mbit/s."""
    return {f"edge.{device}.{way}_mbps": rate for device in DEVICES for way in ("uplink", "downlink")}


def fedadapt(runs):
    """The slowest device's step, planned, without a split and with the best of all cuts, by speed, codec and rate.

    The cost model is the virtual clock's own, so that cuts need not be run; what is planned is, once per codec and rate.
    """
    layers = runs.layers("fedadapt")
    lines = [[
        "speed", "codec", "Mbit/s", "no split, ms", "planned, ms", "shorter by", "best of all cuts, ms", "in the run, ms", "cuts",
    ]]
    for speed in SPEEDS:
        for codec in CODECS:
            for rate in RATES:
                sets = {**at_rate(rate), "wire.activations": f'"{codec}"', "wire.gradients": f'"{codec}"'}
                sets |= {f"edge.{device}.speed": speed for device in DEVICES}
                planned = runs.planned("fedadapt", sets)
                cuts = [runs.planned("fedadapt", {**sets, "plan.fixed_cut": cut}) for cut in range(1, layers + 1)]
                # There are as many workers as edges and room for all links, so that each edge's best cut is its own.
                best = max(min(steps[edge][0] for steps in cuts) for edge in planned)
                slowest = max(step for step, _ in planned.values())
                unsplit = max(step for step, _ in cuts[-1].values())
                ran = ""
                if speed == SPEEDS[0]:
                    folder = runs.run("fedadapt", f"{codec}-{rate}", sets)
                    ran = f"{max(step for step, _ in last_round(folder).values()):.0f}" if folder else "failed"
                lines.append([
                    speed, codec, rate, f"{unsplit:.0f}", f"{slowest:.0f}", f"{100 * (1 - slowest / unsplit):.1f} %",
                    f"{best:.0f}", ran, " ".join(f"{edge} {planned[edge][1]}" for edge in sorted(planned)),
                ])
    return lines


def fedadapt_changing(runs):
    """What is planned of the slowest device as the rate changes: the first rounds that began after each change."""
    trace = runs.out / "fedadapt-changing.csv"
    trace.parent.mkdir(parents=True, exist_ok=True)
    steps = [f"{index * EACH_RATE_S},{rate},{rate}" for index, rate in enumerate(CHANGING)]
    trace.write_text("seconds,up_mbps,down_mbps\n" + "\n".join(steps) + "\n", encoding="utf-8")
    sets = {f"edge.{device}.trace": f'"{trace}"' for device in DEVICES}
    sets["training.max_rounds"] = 45
    sets |= {f"edge.{device}.speed": SPEEDS[-1] for device in DEVICES}
    sets |= {"wire.activations": '"int8"', "wire.gradients": '"int8"'}
    folder = runs.run("fedadapt", "changing", sets)
    if folder is None:
        return [["failed"]]
    plans = events(folder, "planned")
    measured = collections.defaultdict(list)
    for step in events(folder, "step"):
        measured[step["round"], step["edge"]].append(step["latency_ms"])
    lines = [["from, s", "Mbit/s", "rounds that begin after it: cut of pi3-0, median step in ms"]]
    for index, rate in enumerate(CHANGING):
        begun = index * EACH_RATE_S
        rounds = [plan for plan in plans if begun < plan["at"] < begun + EACH_RATE_S][:4]
        cells = []
        for plan in rounds:
            cut = next(edge["cut"] for edge in plan["edges"] if edge["edge"] == "pi3-0")
            latencies = measured[plan["round"], "pi3-0"]
            cells.append(f"{cut} ({statistics.median(latencies):.0f})" if latencies else f"{cut}")
        lines.append([begun, rate, ", ".join(cells)])
    return lines


def fleet(runs):
    """Virtual time to the target of every algorithm, and of every single cut."""
    rows = dict(FLEET)
    for cut in range(1, runs.layers("fleet-20")):
        rows[f"splitfed-v1 at cut {cut}"] = {"plan.fixed_cut": cut}
    found = {}
    for name, sets in rows.items():
        folder = runs.run("fleet-20", name.replace(",", "").replace(" ", "-"), sets)
        if folder:
            found[name] = (folder, json.loads((folder / "summary.json").read_text(encoding="utf-8")))

    def seconds(name):
        reached = found[name][1].get("seconds_to_target")
        return float("inf") if reached is None else reached

    cuts = sorted((name for name in found if " at cut " in name), key=seconds)
    shown = [name for name in FLEET if name in found] + cuts[:1]
    lines = [["", "virtual seconds to the target", "rounds", "accuracy", "GB", "deadline hits"]]
    for name in sorted(shown, key=seconds):
        summary = found[name][1]
        reached = seconds(name)
        hits = summary.get("deadline_hit_rate")
        lines.append([
            f"{name} (the best single cut)" if name in cuts else name,
            "not reached" if reached == float("inf") else f"{reached:.0f}",
            summary["rounds"],
            f"{100 * summary['final_accuracy']:.1f} %",
            f"{(summary['bytes_up'] + summary['bytes_down']) / 1e9:.2f}",
            "" if hits is None else f"{100 * hits:.1f} %",
        ])
    if shown:
        folders = [str(found[name][0]) for name in shown]
        out = runs.out / "fleet-20-compared"
        command = [str(runs.partway), "compare", *folders, "--out", str(out)]
        with open(runs.out / "fleet-20-compared.log", "w", encoding="utf-8") as log:
            subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False)
        print(f"plots: {out / 'compare.html'}", file=sys.stderr)
    return lines


# Each table's name, and what makes it.
EXPERIMENTS = {
    "fedadapt": [("fedadapt", fedadapt), ("fedadapt, the rate changes", fedadapt_changing)],
    "fleet-20": [("fleet-20", fleet)],
}


def markdown(lines):
    """The lines as a Markdown table."""
    head, *rows = [[str(cell) for cell in line] for line in lines]
    shown = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in shown)


def main():
    """Runs what is not finished, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=", ".join(EXPERIMENTS))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs" / "planner", help="folder of all runs")
    parser.add_argument("--partway", type=pathlib.Path, default=ROOT / "target" / "release" / "partway")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.experiments if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"there is no experiment {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}")
    if not arguments.partway.is_file():
        parser.error(f"there is no {arguments.partway}: `cargo build --release` makes it")
    runs = Runs(arguments)
    for name in arguments.experiments or EXPERIMENTS:
        for title, table in EXPERIMENTS[name]:
            print(f"\n{title}\n\n{markdown(table(runs))}", flush=True)


if __name__ == "__main__":
    main()
