"""edgecxr and its peers on the same files here, a process each, in turn; writes the table of docs/figures.md.

    python benchmarks/peers.py PICTURES [-m BUNDLE …] [--run RUN] [--rounds 10] [-o benchmarks/results/peers] [--add]

Every process loads its model and warms up; then they take turns, one at a time, for ROUNDS rounds, every other round in
the reverse order. Two rounds take every other file (`--parts 1`: every file), the next two those that were left out;
Keras takes a fifth of them, it is that slow. The rate of a round is files by seconds, start-up excluded. A ratio is
taken within each round, so that a machine that gets slower counts for both; given is the median over the rounds with
the sign test's interval (the tightest pair of order statistics that holds at least 95 %, or the range where there are
too few rounds).

A bundle needs int8 as ONNX. Where the first holds no fp32 ONNX file, one is made from RUN, or from the same
architecture with fresh weights: speed doesn't depend on them, and answers aren't compared. Each further `-m` takes
turns with the first in int8, its peers with its own file. `--add` adds rounds to an earlier result of the same machine,
bundles and pictures. Targets are reported and not asserted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from edgecxr.bench import environment
from edgecxr.bundle import DEFAULT, Bundle, load
from edgecxr.pictures.files import find
from edgecxr.system import machine

SCHEMA = 2
HERE = Path(__file__).parent
WORKER = HERE / "peer_worker.py"
WARM_UP = 8  # files that each process runs before the first round
KERAS_PARTS = 5
FP32, INT8 = "onnxruntime fp32, plain loop", "onnxruntime int8, plain loop"  # what the ratios are taken to
DIRECT, ALONE = "openvino int8 called directly, model only", "edgecxr's engine int8, model only"
FILES = ("keras", "ort", "openvino", "litert", "edgecxr")  # kinds that go from files to answers
# What one thread needs at least, by its stages: the target's own words, and all that a picture goes through.
BOUNDS = {"bound": ("decode", "run"), "bound_of_all": ("read", "decode", "preprocess", "run")}
TARGETS = {"plain_fp32": 2.8, "plain_int8": 1.3, "bound": 0.90, "bound_of_all": 0.95}  # at least
# At most: an engine's time by that of OpenVINO called directly, on the same file.
TARGETS |= {"call": 1.05, "call_onnxruntime": 1.10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("-m", "--model", action="append", help="full, edge or a path; the first has the float peers")
    parser.add_argument("--run", type=Path, help="a RUN of edgecxr train, the first model's, for Keras and fp32")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=600, help="begin no round that would end after them")
    parser.add_argument("--parts", type=int, default=2, help="a round takes one part in so many of the files")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "peers", help="without its ending")
    parser.add_argument("--add", action="store_true", help="add rounds to the result that is there")
    parser.add_argument("--fp32", type=Path, help="where the fp32 file is, or is kept once it was made")
    arguments = parser.parse_args()
    models = arguments.model or [DEFAULT]
    bundles = {Path(name).stem: load(name) for name in models}
    if len(bundles) < len(models):
        raise SystemExit("two of the models have one name: rename a folder")
    files = [path for path in find([arguments.pictures]).paths if is_picture(path)]
    target = arguments.output.with_suffix(".json")
    earlier = json.loads(target.read_text()) if arguments.add else None
    done = max(map(len, earlier["rounds"].values())) if earlier else 0
    turns = range(done, done + arguments.rounds)
    before = environment.snapshot()
    until = before.monotonic + arguments.seconds
    with tempfile.TemporaryDirectory() as scratch:
        peers, skipped = line_up(bundles, arguments.run, arguments.fp32 or Path(scratch) / "fp32.onnx")
        rounds, failed = take_turns(peers, files, turns, arguments.parts, until, Path(scratch))
    described = environment.describe(before, environment.snapshot())
    report = summarise(bundles, files, peers, rounds, {**skipped, **failed}, described, earlier)
    target.write_text(json.dumps(report, indent=1) + "\n")
    target.with_suffix(".md").write_text(table(report))
    print(table(report))


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


def line_up(
    bundles: Mapping[str, Bundle], run: Path | None, fp32: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(name -> what the process is told, name -> why it is left out), in the order of the table.

    A peer of a further model has that model's name before its own: the first has none.
    """
    first, *further = bundles
    peers, skipped = with_floats(bundles[first], run, fp32)
    for name in further:
        found, absent = in_int8(bundles[name], common_to(bundles[name]))
        peers |= {f"{name}: {title}": peer for title, peer in found.items()}
        skipped |= {f"{name}: {title}": why for title, why in absent.items()}
    return peers, skipped


def common_to(bundle: Bundle) -> dict[str, Any]:
    return {"size": bundle.preprocessing.height, "threads": machine.cpus(), "warm_up": WARM_UP}


def with_floats(bundle: Bundle, run: Path | None, fp32: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The first model's peers, float ones among them, and those left out."""
    learnt = json.loads(bundle.read("reports/training.json"))["run"]["recipe"]
    fresh = {"run": str(run) if run else None, "middle_blocks": learnt.get("middle_blocks", 8)}
    common = {**common_to(bundle), **fresh}
    onnx, tflite = files_of(bundle, "onnx"), files_of(bundle, "tflite")
    skipped: dict[str, str] = {}
    if "fp32" not in onnx and not fp32.exists():
        say("making the fp32 file")
        done = subprocess.run(
            [sys.executable, WORKER, json.dumps({**common, "kind": "build-fp32", "model": str(fp32)})],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            skipped[FP32] = f"the fp32 file can't be made: {last_line(done.stderr)}"
    if "fp32" not in onnx and fp32.exists():
        onnx["fp32"] = str(fp32)
    peers: dict[str, dict[str, Any]] = {"Keras predict": {**common, "kind": "keras"}}
    if "fp32" in onnx:
        peers |= plain(common, "fp32", onnx["fp32"])
    name = "litert fp32, plain loop"
    if "fp32" in tflite:
        peers[name] = {**common, "kind": "litert", "model": tflite["fp32"]}
    else:
        skipped[name] = "the bundle holds no fp32 TFLite file"
    found, absent = in_int8(bundle, common)
    return peers | found, skipped | absent


def in_int8(bundle: Bundle, common: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What runs the bundle's int8 files, and what is left out."""
    onnx, tflite = files_of(bundle, "onnx"), files_of(bundle, "tflite")
    if "int8" not in onnx:
        raise SystemExit(f"the bundle holds no int8 ONNX file: {bundle.path}")
    skipped: dict[str, str] = {}
    peers = plain(common, "int8", onnx["int8"])
    name = "litert int8, plain loop"
    if "int8" in tflite:
        peers[name] = {**common, "kind": "litert", "model": tflite["int8"]}
    else:
        skipped[name] = "the bundle holds no int8 TFLite file"
    # Of edgecxr what its engines make of the bundle's own int8 files.
    engines = ["onnxruntime", "openvino", *(["litert"] if "int8" in tflite else [])]
    for kind, prefix in (("edgecxr", "edgecxr"), ("bound", "bound of edgecxr")):
        for engine in engines:
            told = {**common, "kind": kind, "bundle": str(bundle.path), "engine": engine, "precision": "int8"}
            peers[f"{prefix} int8, {engine}"] = told
    # Without files: what a call costs beyond the engine's own.
    peers[DIRECT] = {**common, "kind": "direct", "model": onnx["int8"]}
    for engine in ("openvino", "onnxruntime"):
        told = {**common, "kind": "engine", "bundle": str(bundle.path), "engine": engine, "precision": "int8"}
        peers[f"{ALONE}, {engine}"] = told
    return peers, skipped


def files_of(bundle: Bundle, kind: str) -> dict[str, str]:
    """The paths of the bundle's files of a format, by precision."""
    return {a.precision: str(bundle.path / a.file) for a in bundle.artifacts if a.format == kind}


def plain(common: Mapping[str, Any], precision: str, model: str) -> dict[str, dict[str, Any]]:
    """Peers that need an ONNX file alone."""
    told = {**common, "model": model}
    return {
        f"onnxruntime {precision}, plain loop": {**told, "kind": "ort"},
        f"openvino {precision}, plain loop": {**told, "kind": "openvino", "hint": "LATENCY"},
        f"openvino {precision}, AsyncInferQueue": {**told, "kind": "openvino", "hint": "THROUGHPUT"},
    }


class Process:
    """A peer that is loaded and waits for its turn."""

    def __init__(self, peer: dict[str, Any], files: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, WORKER, json.dumps(peer), files],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(files.parent)},  # where no result of `edgecxr tune` lies
        )  # fmt: skip
        self.answer()

    def answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, complaint = self._process.communicate()
            raise RuntimeError(last_line(complaint))
        answer: dict[str, float] = json.loads(line)
        return answer

    def run(self, places: Sequence[int]) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(places)) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self._process.communicate()


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1][:200]


def take_turns(
    peers: dict[str, dict[str, Any]], files: Sequence[Path], turns: range, parts: int, until: float, scratch: Path
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """(name -> a row a round, name -> why it failed)"""
    listed = scratch / "files.json"
    listed.write_text(json.dumps([str(path.resolve()) for path in files]))
    running: dict[str, Process] = {}
    failed: dict[str, str] = {}
    for name, peer in peers.items():
        say(f"loading {name}")
        try:
            running[name] = Process(peer, listed)
        except RuntimeError as error:
            failed[name] = str(error)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    longest = 0.0
    for turn in turns:
        begin = time.monotonic()
        if longest and begin + longest > until:
            say(f"no time for more rounds: {turn - turns.start} of {len(turns)}")
            break
        for name in list(running) if turn % 2 == 0 else list(reversed(running)):
            each = KERAS_PARTS if peers[name]["kind"] == "keras" else parts
            places = range(turn // 2 % each, len(files), each)
            row = running[name].run(places)
            rounds[name].append({**row, "pictures": len(places)})
            say(f"round {turn + 1} of {turns.stop}: {name}: {len(places) / row['seconds']:.1f}/s")
        longest = max(longest, time.monotonic() - begin)
    for process in running.values():
        process.end()
    return rounds, failed


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def summarise(
    bundles: Mapping[str, Bundle],
    files: Sequence[Path],
    peers: dict[str, dict[str, Any]],
    rounds: dict[str, list[dict[str, float]]],
    skipped: dict[str, str],
    described: dict[str, Any],
    earlier: dict[str, Any] | None,
) -> dict[str, Any]:
    """The report: each peer's rounds, and edgecxr's ratios to the plain loops and to its bound."""
    same = {
        "bundles_sha256": {name: bundle.digest for name, bundle in bundles.items()},
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "cpu": described["cpu"],
        "packages": described["packages"],
    }
    before: list[dict[str, Any]] = []
    if earlier is not None:
        if earlier["same"] != same:
            raise SystemExit("the earlier result is of another machine, bundle or set of pictures")
        rounds = {name: [*earlier["rounds"].get(name, []), *rows] for name, rows in rounds.items()}
        before = earlier["machines"]
    rates = {name: [row["pictures"] / row["seconds"] for row in rows] for name, rows in rounds.items()}
    cpus = machine.cpus()
    ours = {}
    for name in [name for name in rates if peers[name]["kind"] == "edgecxr"]:
        model, title = parted(name)
        one = rounds.get(f"{model}bound of {title}", [])
        bounds = {
            bound: [cpus * row["pictures"] / sum(row[stage] for stage in stages) for row in one]
            for bound, stages in BOUNDS.items()
        }
        ours[name] = {
            "plain_fp32": None if model else ratio(rates[name], rates.get(FP32, [])),
            "plain_int8": ratio(rates[name], rates.get(f"{model}{INT8}", [])),
            "models": {
                other: ratio(rates[name], rates[f"{prefix}{title}"])
                for other, prefix in prefixes(bundles).items()
                if prefix != model and f"{prefix}{title}" in rates
            },
            **{bound: ratio(rates[name], values) for bound, values in bounds.items()},
            "bound_pictures_per_s": {bound: median(values) if values else None for bound, values in bounds.items()},
            "one_thread_ms": {
                stage: 1e3 * median(row[stage] / row["pictures"] for row in one)
                for stage in ("read", "decode", "preprocess", "run", "post")
            }
            if one
            else None,
        }
    calls = [
        f"{model}{ALONE}, {engine}" for model in prefixes(bundles).values() for engine in ("openvino", "onnxruntime")
    ]
    return {
        "schema": SCHEMA,
        "what": "edgecxr and its peers over the same files, in turn, start-up excluded",
        "same": same,
        "models": {name: f"{bundle.name} {bundle.version}" for name, bundle in bundles.items()},
        "threads": cpus,
        "rates": {
            name: {"median": median(values), "low": min(values), "high": max(values), "rounds": values}
            for name, values in rates.items()
            if peers[name]["kind"] in FILES
        },
        "model_only": {
            name: {"median": median(values), "low": min(values), "high": max(values), "rounds": values}
            for name, values in rates.items()
            if peers[name]["kind"] in ("direct", "engine")
        },
        "call": {
            name: ratio(rates[f"{parted(name)[0]}{DIRECT}"], rates[name])
            for name in calls
            if name in rates and f"{parted(name)[0]}{DIRECT}" in rates
        },
        "edgecxr": ours,
        "targets": TARGETS,
        "skipped": skipped,
        "rounds": rounds,
        "machines": [*before, described],
    }


def prefixes(bundles: Mapping[str, Bundle]) -> dict[str, str]:
    """What stands before the names of each model's peers: nothing for the first."""
    return {name: f"{name}: " if place else "" for place, name in enumerate(bundles)}


def parted(name: str) -> tuple[str, str]:
    """(the prefix of its model, the peer's name alone)"""
    model, colon, title = name.rpartition(": ")
    return model + colon, title


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any] | None:
    """The median of the rounds' own ratios, with the sign test's interval."""
    if not theirs:
        return None
    values = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    low, high, coverage = sign_interval(values)
    return {"median": median(values), "interval": [low, high], "coverage": coverage, "rounds": len(values)}


def sign_interval(values: Sequence[float], wanted: float = 0.95) -> tuple[float, float, float]:
    """(low, high, coverage) of the median of sorted `values`: the tightest order statistics that cover `wanted`.

    Coverage of the k-th smallest to the k-th largest of n is 1 - 2 P(B < k), B binomial of n halves; distribution-free
    (Conover, Practical Nonparametric Statistics, 3.2). Where even the range covers less, the range and what it covers.
    """
    n, best = len(values), 1
    tail = [sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(n // 2 + 1)]  # P(B < k)
    for k in range(1, n // 2 + 1):
        if 1 - 2 * tail[k] >= wanted:
            best = k
    return values[best - 1], values[n - best], 1 - 2 * tail[best] if n > 1 else 0.0


def table(report: dict[str, Any]) -> str:
    """The report as Markdown, for docs/figures.md."""
    found = report["machines"][-1]
    count = max(len(rows) for rows in report["rounds"].values())
    most = max(row["pictures"] for rows in report["rounds"].values() for row in rows)
    lines = [
        f"{report['same']['files']} pictures, {count} rounds in turn of {most} each, a process each, "
        f"start-up excluded; {found['cpu']}, {found['cpus_usable']} CPUs ({', '.join(found['cpu_features'])}). "
        f"{'; '.join(f'{name} is {what}' for name, what in report['models'].items())}. "
        f"What names no model is {next(iter(report['models']))}'s.",
        "",
        "| what | pictures/s | slowest–fastest round |",
        "|---|---|---|",
    ]
    for name, row in sorted(report["rates"].items(), key=lambda item: item[1]["median"]):
        bold = "**" if name in report["edgecxr"] else ""
        lines.append(f"| {bold}{name}{bold} | {bold}{row['median']:.1f}{bold} | {row['low']:.1f}–{row['high']:.1f} |")
    lines += ["", "| edgecxr, as a ratio within each round | to | ratio | interval | target |", "|---|---|---|---|---|"]
    titles = {bound: f"cores / ({' + '.join(stages)}), one-threaded" for bound, stages in BOUNDS.items()}

    def tell(name: str, other: str, row: Mapping[str, Any] | None, target: str = "") -> None:
        if row:
            low, high = row["interval"]
            interval = f"{low:.2f}–{high:.2f} ({row['coverage']:.1%})"
            lines.append(f"| {name} | {other} | {row['median']:.2f} | {interval} | {target} |")

    for name, row in report["edgecxr"].items():
        model, _ = parted(name)
        for key, title in {"plain_fp32": FP32, "plain_int8": f"{model}{INT8}", **titles}.items():
            tell(name, title, row[key], f"≥ {report['targets'][key]:.2f}")
        for other, found in row["models"].items():
            tell(name, f"the same of {other}", found)
    for name, row in report["call"].items():
        limit = report["targets"]["call" if name.endswith("openvino") else "call_onnxruntime"]
        tell(f"{name}: time", f"{parted(name)[0]}{DIRECT}", row, f"≤ {limit:.2f}")
    if report["skipped"]:
        lines += ["", *(f"Left out: {name} ({why})." for name, why in report["skipped"].items())]
    told = sorted({sentence for each in report["machines"] for sentence in environment.warnings(each)})
    return "\n".join([*lines, *([""] if told else []), *(f"Note: {sentence}." for sentence in told)]) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
