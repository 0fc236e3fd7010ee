"""What each artifact of a bundle keeps of the trained model, and how fast it is here on each engine: one table.

    python benchmarks/export_table.py DATA [-m BUNDLE] [--run RUN] [--split test] [--seconds 60] [-o results/export]

Every picture of DATA's split goes through every artifact on every engine that is installed. Flips and |Δp| are against
the Keras float32 logits that RUN holds for the same pictures, or, without RUN, against the bundle's fp32 file on ONNX
Runtime. p50 is the latency of one picture ready in memory on every core, the cases taking turns round by round.
Writes OUTPUT.md and OUTPUT.json (for the default model: benchmarks/results/export.md and .json).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.bench import environment, rounds, spread
from edgecxr.bundle import Bundle, load
from edgecxr.engines import Engine
from edgecxr.engines.select import ROWS, Asked, Choice, choices, fingerprint, open_engine
from edgecxr.errors import EdgecxrError, UsageError
from edgecxr.lab.dataset import Example, read_dataset
from edgecxr.lab.run import Logits, read_run
from edgecxr.pictures import decode as images
from edgecxr.system import machine
from edgecxr_export.parity import compare as parity

SCHEMA = 1
HERE = Path(__file__).parent
LEAST, WARM_UP = 5, 5  # calls a round, and before the first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--run", type=Path, help="the RUN of edgecxr train that the bundle was made from")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, help="so many pictures of the split only, evenly chosen")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the timing, all cases together")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "export", help="without its ending")
    arguments = parser.parse_args()
    try:
        report = measure(
            load(arguments.model),
            arguments.data,
            run=arguments.run,
            split=arguments.split,
            limit=arguments.limit,
            seconds=arguments.seconds,
        )
    except EdgecxrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    text = markdown(report)
    print(text)
    arguments.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    arguments.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(
    bundle: Bundle,
    data: Path,
    *,
    run: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    seconds: float = 60.0,
) -> dict[str, Any]:
    """The report. Raises UsageError where there is no reference or no picture, DataError for other pictures."""
    examples = list(read_dataset(data).split(split))
    if not examples:
        raise UsageError(f"the data have no pictures in the split {split}: {data}")
    if limit is not None:
        examples = [examples[place] for place in spread(len(examples), limit)]
    inputs = np.stack([images.network_input(example.path, bundle.preprocessing) for example in examples])
    opened = [(choice, open_engine(bundle, choice, machine.cpus())) for choice in on_cpu(bundle)]
    rows = list(range(len(examples)))
    logits = [parity.run_logits(engine, inputs, rows) for _, engine in opened]
    classes = np.array([bundle.labels.index(example.label) for example in examples])
    files = tuple(example.file for example in examples)
    reference, what = (
        (of_run(run, bundle, split, examples), "Keras float32, as the run stored them")
        if run
        else (Logits(files, classes, of_fp32([choice for choice, _ in opened], logits)), "model.fp32.onnx, onnxruntime")
    )
    groups = [example.group for example in examples]
    before = environment.snapshot()
    times = latencies([engine for _, engine in opened], inputs, seconds)
    table = []
    for (choice, engine), answered, time in zip(opened, logits, times, strict=True):
        found = parity.compare(engine, split, reference, answered, bundle.temperature, groups)
        table.append(
            {
                "artifact": choice.artifact.file,
                "engine": choice.engine,
                "precision": choice.precision,
                "megabytes": choice.artifact.bytes / 1e6,
                "accuracy": found.accuracy,
                "flips": found.flips,
                "flips_interval95": found.flips_interval95,
                "max_dp": found.max_dp,
                "p99_dp": found.p99_dp,
                "ece": found.ece,
                "timing": time,
            }
        )
    return {
        "schema": SCHEMA,
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.digest},
        "data": data.name,
        "split": split,
        "pictures": len(examples),
        "reference": {"what": what, "accuracy": float((reference.logits.argmax(1) == reference.classes).mean())},
        "threads": machine.cpus(),
        "machine": fingerprint(),
        "environment": environment.describe(before, environment.snapshot()),
        "rows": table,
    }


def on_cpu(bundle: Bundle) -> list[Choice]:
    """Every artifact on every installed engine, with bfloat16 where OpenVINO computes it."""
    found, _ = choices(bundle, Asked(device="cpu"))
    bf16 = [
        replace(choice, precision="bf16")
        for choice in found
        if choice.precision == "fp32" and "bf16" in ROWS[choice.engine].code.on_cpu()
    ]
    return [*found, *bf16]


def of_run(run: Path, bundle: Bundle, split: str, examples: Sequence[Example]) -> Logits:
    """The run's own logits of those pictures, in their order."""
    opened = read_run(run)
    if opened.labels != bundle.labels:
        raise UsageError(f"the run's labels must be the bundle's, got {', '.join(opened.labels)}: {run}")
    stored = opened.logits(split)
    place = {file: index for index, file in enumerate(stored.files)}
    absent = [example.file for example in examples if example.file not in place]
    if absent:
        raise UsageError(f"the run must have logits of every picture of {split}, it has none of {absent[0]}: {run}")
    order = [place[example.file] for example in examples]
    return Logits(tuple(example.file for example in examples), stored.classes[order], stored.logits[order])


def of_fp32(chosen: Sequence[Choice], logits: Sequence[np.ndarray]) -> np.ndarray:
    for choice, answered in zip(chosen, logits, strict=True):
        if (choice.artifact.file, choice.engine) == ("model.fp32.onnx", "onnxruntime"):
            return answered
    raise UsageError("the bundle holds no fp32 ONNX file to compare with; give --run RUN")


def latencies(engines: Sequence[Engine], inputs: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """p50 and its spread over the rounds, in ms, of one picture on each engine; in turn."""
    cases = [
        rounds.Case({}, 1, lambda engine=engine: engine.run(inputs[:1, ..., None]), LEAST, WARM_UP)  # type: ignore[misc]
        for engine in engines
    ]
    return [rounds.summary(samples, 1, latency=True) for samples in rounds.measure(cases, seconds)]


def markdown(report: dict[str, Any]) -> str:
    """The table, and in a sentence what it was measured on."""
    header = ["artifact", "engine", "MB", "accuracy", "flips", "max |Δp|", "p99 |Δp|", "p50 ms"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in report["rows"]:
        computed = f", {row['precision']}" if f".{row['precision']}." not in row["artifact"] else ""
        cells = [
            f"`{row['artifact']}`",
            row["engine"] + computed,
            f"{row['megabytes']:.1f}",
            f"{row['accuracy']:.2%}",
            f"{row['flips']} ({row['flips'] / report['pictures']:.2%})",
            f"{row['max_dp']:.2g}",
            f"{row['p99_dp']:.2g}",
            f"{row['timing']['p50_ms']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    about = report["machine"]
    return (
        "\n".join(lines)
        + f"\n\n{report['bundle']['name']} {report['bundle']['version']} on {report['pictures']} pictures "
        f"of {report['data']} ({report['split']}); reference: {report['reference']['what']}, accuracy "
        f"{report['reference']['accuracy']:.2%}. One picture at a time, {report['threads']} threads, {about['cpu']}."
    )


if __name__ == "__main__":
    main()
