#!/usr/bin/env python3
"""Runs the experiments of EXPERIMENTS.md and prints their tables, as Markdown.

Every row is one configuration with a few keys set, over three seeds. Runs that are finished are taken as they are;
after an interruption the same command goes on. Needs Python 3.9 and `cargo build --release`.

    scripts/experiments.py                      everything
    scripts/experiments.py codecs-mnist         one table
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs" / "experiments"

PARTITIONS = {
    "IID": '"iid"',
    "Dirichlet 0.5": '{ kind = "dirichlet", alpha = 0.5 }',
    "Dirichlet 0.1": '{ kind = "dirichlet", alpha = 0.1 }',
}
ALGORITHMS = ["centralized", "fedavg", "splitfed-v1", "splitfed-v2", "sequential"]
CODECS = {
    "f32": ('"f32"', '"f32"'),
    "f16": ('"f16"', '"f16"'),
    "bf16": ('"bf16"', '"bf16"'),
    "int8": ('"int8"', '"int8"'),
    "int8, one scale per tensor": ('{ kind = "int8", scale = "tensor" }',) * 2,
    "int4": ('"int4"', '"int4"'),
    "int4, one scale per tensor": ('{ kind = "int4", scale = "tensor" }',) * 2,
    "topk 0.1": ('{ kind = "topk", fraction = 0.1 }', '"f32"'),
    "topk 0.1 of int8": ('{ kind = "topk", fraction = 0.1, values = "int8" }', '"int8"'),
}


def algorithm_rows():
    """Each row's label, its cells' column and name, and what they set."""
    for algorithm in ALGORITHMS:
        yield algorithm, [
            (column, f"{algorithm}-{slug(column)}", {"training.algorithm": algorithm, "data.partition": partition})
            for column, partition in PARTITIONS.items()
        ]


def codec_rows():
    """As `algorithm_rows`, with one column."""
    for codec, (activations, gradients) in CODECS.items():
        sets = {"wire.activations": activations, "wire.gradients": gradients}
        yield codec, [("", slug(codec), sets)]


# Of each table: the configuration, its rows, and the keys that it sets beside those of the row.
TABLES = {
    "algorithms-mnist": ("algorithms-mnist", algorithm_rows, {}),
    "algorithms-synthetic": ("algorithms-synthetic", algorithm_rows, {}),
    "codecs-mnist": ("algorithms-mnist", codec_rows, {"data.partition": PARTITIONS["Dirichlet 0.5"]}),
    # On skewed data the seeds differ more than the codecs, and after 30 rounds everybody has learned it all.
    "codecs-synthetic": ("algorithms-synthetic", codec_rows, {"training.max_rounds": "15"}),
}


def slug(text):
    """The text as a part of a file's name."""
    return "".join(c if c.isalnum() or c == "." else "-" for c in text.lower()).replace("--", "-")


def run(arguments, table, name, sets):
    """The outcome of one configuration over all seeds: what `partway compare` writes, and processor seconds."""
    config, _, common = TABLES[table]
    out = arguments.out / table / name
    command = [str(arguments.partway), "compare", str(CONFIGS / f"{config}.toml"), "--seeds", arguments.seeds]
    for key, value in {"name": name, **common, **sets}.items():
        command += ["--set", f"{key}={value}"]
    print(f"{table}: {name}", file=sys.stderr)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "log.txt", "a", encoding="utf-8") as log:
        done = subprocess.run(command + ["--out", str(out)], cwd=ROOT, stdout=log, stderr=log, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode == 130:
        sys.exit("interrupted: the same command goes on")
    if done.returncode != 0:
        print(f"{table}: {name}: exit code {done.returncode}; see {out / 'log.txt'}", file=sys.stderr)
        return None
    # A finished run costs nothing the second time: the first time's seconds are kept.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kept = out / "processor_seconds.txt"
    if not kept.exists():
        kept.write_text(f"{seconds}\n", encoding="utf-8")
    outcome = json.loads((out / "compare.json").read_text(encoding="utf-8"))["experiments"][0]
    outcome["processor_seconds"] = float(kept.read_text(encoding="utf-8")) / len(outcome["runs"])
    return outcome


def percent(outcome):
    """Mean and standard deviation of the last accuracy, in points."""
    mean, deviation = (outcome[key]["final_accuracy"] for key in ("mean", "standard_deviation"))
    return f"{100 * mean:.1f} ± {100 * (deviation or 0):.1f}"


def megabytes(outcome):
    """Bytes of a run in both directions, in units of 10^6."""
    return f"{(outcome['mean']['bytes_up'] + outcome['mean']['bytes_down']) / 1e6:.1f}"


def algorithm_table(results):
    """Accuracy in each partition, and bytes, which are the same in all of them."""
    lines = [["algorithm", *PARTITIONS, "MB per run"]]
    for label, outcomes in results:
        bytes_ = next((megabytes(outcome) for outcome in outcomes if outcome), "")
        lines.append([label, *(percent(outcome) if outcome else "failed" for outcome in outcomes), bytes_])
    return lines


def codec_table(results):
    """Accuracy, bytes and processor time."""
    lines = [["codec", "accuracy", "MB per run", "of f32", "processor seconds per run"]]
    plain = next((outcome for _, [outcome] in results if outcome), None)
    for label, [outcome] in results:
        if outcome is None:
            lines.append([label, "failed", "", "", ""])
            continue
        share = float(megabytes(outcome)) / float(megabytes(plain))
        seconds = f"{outcome['processor_seconds']:.1f}"
        lines.append([label, percent(outcome), megabytes(outcome), f"{share:.3f}", seconds])
    return lines


def markdown(lines):
    """The lines as a Markdown table."""
    head, *rows = lines
    shown = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in shown)


def main():
    """Runs what is not finished, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs" / "experiments", help="folder of all runs")
    parser.add_argument("--seeds", default="1,2,3", help="seeds of each row [default: 1,2,3]")
    parser.add_argument("--partway", type=pathlib.Path, default=ROOT / "target" / "release" / "partway")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    unknown = [table for table in arguments.tables if table not in TABLES]
    if unknown:
        parser.error(f"there is no table {unknown[0]!r}; there are {', '.join(TABLES)}")
    if not arguments.partway.is_file():
        parser.error(f"there is no {arguments.partway}: `cargo build --release` makes it")
    for table in arguments.tables or TABLES:
        rows = TABLES[table][1]
        results = [(label, [run(arguments, table, name, sets) for _, name, sets in cells]) for label, cells in rows()]
        lines = algorithm_table(results) if rows is algorithm_rows else codec_table(results)
        print(f"\n{table}\n\n{markdown(lines)}", flush=True)


if __name__ == "__main__":
    main()
