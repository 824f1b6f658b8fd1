#!/usr/bin/env python3
"""Runs the planner's experiments of EXPERIMENTS.md and prints their tables, as Markdown.

Runs that are finished are taken as they are; after an interruption the same command goes on. Needs Python 3.9 and
`cargo build --release`. The last two use the wall clock: the machine must have nothing else to do.

    scripts/planner_experiments.py               all
    scripts/planner_experiments.py fedadapt      every rate and codec against every cut, and a rate that changes
    scripts/planner_experiments.py fleet-20      twenty unequal edges, all algorithms
    scripts/planner_experiments.py halved-link   prediction error and deadline hits, before and after links halve
    scripts/planner_experiments.py clocks        a fixed cut's time under the wall clock and under the virtual one
"""

import argparse
import collections
import functools
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"

RATES = [75, 50, 25, 10, 5]
CODECS = ["f32", "int8"]
# Of the devices' profiles, which are of this program's kernels.
SPEEDS = [1, 0.25]
DEVICES = ["pi4", "pi3", "jetson"]
# Mbit/s one after the other, each for so many seconds of the virtual clock.
CHANGING = [75, 10, 50, 5, 25]
EACH_RATE_S = 180

# Of the fleet of twenty: its models, and what the others than the configuration's own need.
MODELS = {"lenet5": {}, "vgg5": {"model.arch": '"vgg5"', "data.pad": 2}}
# Each algorithm's best is taken; where it is cut does not change what is learned.
LEARNING_RATES = [0.05, 0.02, 0.01]
INT8 = {"wire.activations": '"int8"', "wire.gradients": '"int8"'}

# By configuration: which edges' links (Mbit/s before) halve when, in seconds of the run, and how long it is.
HALVED = {
    "quickstart": {"edges": {"robot": 200}, "at": 18, "rounds": 45},
    "vgg5": {"edges": {"sensor": 200, "camera": 100}, "at": 25, "rounds": 50},
}

# How long after the coordinator its edges are started, at most.
START_S = 0.2

# By configuration: its edges, the cut that they keep, and rounds.
CLOCKS = {
    "quickstart": {"edges": ["camera", "gateway", "robot"], "cut": 3, "rounds": 40},
    "vgg5": {"edges": ["sensor", "camera", "gateway", "workstation"], "cut": 3, "rounds": 40},
}


class Runs:
    """Runs configurations, each in a folder of its own."""

    def __init__(self, arguments):
        self.partway = arguments.partway
        self.out = arguments.out.resolve()

    def run(self, config, name, sets):
        """The folder of a finished run, or None if it failed."""
        out = self.out / pathlib.Path(config).name / name
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

    def layers(self, config, sets):
        """How many layers the configuration's model has."""
        return len(self.plan(config, sets)["layers"])


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


def round_times(folder):
    """How long each of a run's rounds took, from its plan to its end, in seconds."""
    begun = {event["round"]: event["at"] for event in events(folder, "planned")}
    return [event["at"] - begun[event["round"]] for event in events(folder, "round-done")]


def at_rate(rate):
    """What sets every link to a rate in Mbit/s."""
    return {f"edge.{device}.{way}_mbps": rate for device in DEVICES for way in ("uplink", "downlink")}


def fedadapt(runs):
    """The slowest device's step, planned, without a split and with the best of all cuts, by speed, codec and rate.

    The cost model is the virtual clock's own, so that cuts need not be run; what is planned is.
    """
    layers = runs.layers("experiments/fedadapt", {})
    lines = [[
        "speed", "codec", "Mbit/s", "no split, ms", "planned, ms", "shorter by", "best of all cuts, ms", "in the run, ms", "cuts",
    ]]
    for speed in SPEEDS:
        for codec in CODECS:
            for rate in RATES:
                sets = {**at_rate(rate), "wire.activations": f'"{codec}"', "wire.gradients": f'"{codec}"'}
                sets |= {f"edge.{device}.speed": speed for device in DEVICES}
                planned = runs.planned("experiments/fedadapt", sets)
                cuts = [runs.planned("experiments/fedadapt", {**sets, "plan.fixed_cut": cut}) for cut in range(1, layers + 1)]
                # There are as many workers as edges and room for all links, so that each edge's best cut is its own.
                best = max(min(steps[edge][0] for steps in cuts) for edge in planned)
                slowest = max(step for step, _ in planned.values())
                unsplit = max(step for step, _ in cuts[-1].values())
                folder = runs.run("experiments/fedadapt", f"{speed}-{codec}-{rate}", {**sets, "training.max_rounds": 3})
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
    folder = runs.run("experiments/fedadapt", "changing", sets)
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


def seconds_to_target(run):
    """Clock seconds of a finished run (folder and summary) until the target; infinite if it was not reached."""
    reached = run[1].get("seconds_to_target")
    return float("inf") if reached is None else reached


def fleet(runs, model):
    """Virtual time to the target of every algorithm, each with the best of some learning rates, and of single cuts."""
    config = "experiments/fleet-20"
    layers = runs.layers(config, MODELS[model])
    split = {"plan.allow_local": "false", "plan.max_depth": layers - 1}
    local = {"plan.max_depth": layers}

    def run(name, rate, sets):
        sgd = f'{{ kind = "sgd", lr = {rate}, momentum = 0.9 }}'
        sets = {**MODELS[model], "training.optimizer": sgd, **sets}
        folder = runs.run(config, f"{model}-{name}-{rate}".replace(",", "").replace(" ", "-"), sets)
        return folder and (folder, json.loads((folder / "summary.json").read_text(encoding="utf-8")))

    def best(name, rates, sets):
        found = [(made, rate) for rate in rates if (made := run(name, rate, sets))]
        return min(found, key=lambda of: seconds_to_target(of[0])) if found else None

    rows = {"planned": best("planned", LEARNING_RATES, local)}
    if rows["planned"] is None:
        return [[model, "failed"]]
    rate = [rows["planned"][1]]
    rows["planned, int8"] = best("planned, int8", rate, {**local, **INT8})
    rows["planned, always split"] = best("planned, always split", rate, split)
    rows["`fedavg`"] = best("fedavg", rate, {**local, "training.algorithm": "fedavg"})
    for algorithm in ("splitfed-v2", "sequential", "centralized"):
        rows[f"`{algorithm}`"] = best(algorithm, LEARNING_RATES, {**split, "training.algorithm": algorithm})
    cuts = {cut: best(f"cut {cut}", rate, {**split, "plan.fixed_cut": cut}) for cut in range(1, layers)}
    cut = min((cut for cut in cuts if cuts[cut]), key=lambda cut: seconds_to_target(cuts[cut][0]), default=None)
    if cut is not None:
        rows[f"`splitfed-v1` at cut {cut} (the best single cut)"] = cuts[cut]
    rows = {name: row for name, row in rows.items() if row}
    lines = [[model, "learning rate", "seconds to the target", "rounds", "accuracy", "GB"]]
    for name in sorted(rows, key=lambda name: seconds_to_target(rows[name][0])):
        made, rate = rows[name]
        reached, summary = seconds_to_target(made), made[1]
        lines.append([
            name, rate, "not reached" if reached == float("inf") else f"{reached:.0f}", summary["rounds"],
            f"{100 * summary['final_accuracy']:.1f} %", f"{(summary['bytes_up'] + summary['bytes_down']) / 1e9:.2f}",
        ])
    out = runs.out / f"fleet-20-{model}-compared"
    command = [str(runs.partway), "compare", *(str(made[0]) for made, _ in rows.values()), "--out", str(out)]
    with open(out.with_suffix(".log"), "w", encoding="utf-8") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False)
    print(f"plots: {out / 'compare.html'}", file=sys.stderr)
    return lines


def quality(steps):
    """Of some steps: the median prediction error and the share within the deadline, in per cent."""
    errors = [abs(step["latency_ms"] - step["predicted_ms"]) / step["latency_ms"] for step in steps]
    in_time = [step["latency_ms"] <= step["deadline_ms"] for step in steps]
    return [f"{100 * statistics.median(errors):.1f} %", f"{100 * statistics.mean(in_time):.1f} %"] if steps else ["", ""]


def halved_link(runs):
    """Prediction error and deadline hits before links halve, in the rounds that this happens in, and after them."""
    lines = [["", "rounds", "steps", "cuts", "median error", "within the deadline"]]
    for config, halved in HALVED.items():
        sets = {"training.max_rounds": halved["rounds"], "training.target_accuracy": 1.0}
        runs.out.mkdir(parents=True, exist_ok=True)
        for edge, mbps in halved["edges"].items():
            trace = runs.out / f"halved-{config}-{edge}.csv"
            trace.write_text(f"seconds,up_mbps,down_mbps\n0,{mbps},{mbps}\n{halved['at']},{mbps / 2},{mbps / 2}\n")
            sets[f"edge.{edge}.trace"] = f'"{trace}"'
        folder = runs.run(config, "halved-link", sets)
        if folder is None:
            lines.append([config, "failed"])
            continue
        steps, done = events(folder, "step"), {}
        for event in events(folder, "round-done"):
            done[event["round"]] = event["at"]
        # Times count from the start of each process, of which the edges' comes last.
        hit = min(number for number, at in done.items() if at > halved["at"] + START_S)
        parts = {
            "before": range(2, hit), "links halve": range(hit, hit + 1), "the next round": range(hit + 1, hit + 2),
            "after": range(hit + 2, halved["rounds"] + 1),
        }
        for part, rounds in parts.items():
            own = [step for step in steps if step["round"] in rounds]
            cuts = collections.defaultdict(set)
            for step in own:
                if step["edge"] in halved["edges"]:
                    cuts[step["edge"]].add(step["cut"])
            shown = "; ".join(f"{edge} {', '.join(map(str, sorted(cuts[edge])))}" for edge in sorted(cuts))
            lines.append([f"{config}, {part}", f"{rounds[0]} to {rounds[-1]}", len(own), shown, *quality(own)])
    return lines


def clocks(runs):
    """A fixed cut under both clocks: the virtual one with the profile that the wall clock's run measured."""
    lines = [["", "cut", "wall, s", "virtual, s", "virtual to wall", "of the median rounds", "the same weights"]]
    for config, fixed in CLOCKS.items():
        sets = {
            "plan.fixed_cut": fixed["cut"], "training.max_rounds": fixed["rounds"], "training.target_accuracy": 1.0,
        }
        wall = runs.run(config, "wall", sets)
        if wall is None:
            lines.append([config, fixed["cut"], "failed"])
            continue
        profile = f'"{wall / "calibration.toml"}"'
        sets |= {"clock": '"virtual"', "cloud.profile": profile}
        virtual = runs.run(config, "virtual", sets | {f"edge.{edge}.profile": profile for edge in fixed["edges"]})
        if virtual is None:
            lines.append([config, fixed["cut"], "", "failed"])
            continue
        both = [json.loads((run / "summary.json").read_text(encoding="utf-8")) for run in (wall, virtual)]
        seconds = [summary["seconds_training"] for summary in both]
        rounds = [statistics.median(round_times(run)) for run in (wall, virtual)]
        is_same = both[0]["weights_sha256"] == both[1]["weights_sha256"]
        lines.append([
            config, fixed["cut"], *(f"{value:.1f}" for value in seconds), f"{seconds[1] / seconds[0]:.2f}",
            f"{rounds[1] / rounds[0]:.2f}", "yes" if is_same else "no",
        ])
    return lines


# Each table's name, and what makes it.
EXPERIMENTS = {
    "fedadapt": [("fedadapt", fedadapt), ("fedadapt, the rate changes", fedadapt_changing)],
    "fleet-20": [(f"fleet-20, {model}", functools.partial(fleet, model=model)) for model in MODELS],
    "halved-link": [("halved-link", halved_link)],
    "clocks": [("clocks", clocks)],
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
