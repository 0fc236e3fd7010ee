"""One bundle on everything that is here, and what other places left behind: one table over the same golden inputs.

    python benchmarks/everywhere.py [-m BUNDLE] [--seconds 20] [--aarch64 FOLDER] [-o benchmarks/results/everywhere]

A row is an artifact on an engine and a device: the largest difference of a logit from the bundle's golden answers,
beside the tolerance that `edgecxr verify` accepts there; the median time of one picture on every CPU; pictures/s of as
many one-threaded workers as there are CPUs; the size of network and engine; and the command that asks for the same.
Measured here are the engines that are installed, the program of examples/c where there is a C compiler and OpenVINO,
and with FOLDER (of aarch64_root.sh) an emulated aarch64 CPU, which is no place to measure time.

What runs elsewhere is measured by scripts of its own, and its rows are taken from what they left in results/: a browser
(web.json), Triton (triton.json) and a cluster (cluster.json). They say themselves what machine they ran on. A row of
another bundle is said to be one.

Writes OUTPUT.md and OUTPUT.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import emulation
from edgecxr.bench import environment, rounds
from edgecxr.bundle import Artifact, Bundle, load
from edgecxr.device.golden import GoldenCheck, reference
from edgecxr.device.verify import verify
from edgecxr.engines import ov
from edgecxr.engines.select import ROWS, Asked, Choice, choices, fingerprint, in_software, open_engine
from edgecxr.errors import EdgecxrError, UnavailableError
from edgecxr.system import machine

SCHEMA = 1
ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
LEAST, WARM_UP = 5, 3  # calls a round, and before the first


@dataclass(frozen=True)
class Row:
    """What one place answers to the golden inputs, and what it takes; None was not measured."""

    what: str  # the engine, or the program
    command: str
    device: str | None = None
    artifact: str | None = None
    precision: str | None = None
    max_difference: float | None = None  # of a logit, over the golden inputs
    tolerance: float | None = None
    reference: str | None = None  # the engine whose golden answers these were compared with
    p50_ms: float | None = None
    pictures_per_second: float | None = None
    megabytes: float | None = None  # network and engine, as they lie on the disk
    note: str = ""
    bundle_sha256: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the timing of each of the two figures")
    parser.add_argument("--aarch64", type=Path, metavar="FOLDER", help="what aarch64_root.sh made")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "everywhere", help="without its ending")
    options = parser.parse_args(arguments)
    try:
        bundle = load(options.model)
        report = measure(bundle, options.seconds, options.aarch64, RESULTS)
    except EdgecxrError as error:
        print(f"everywhere.py: {error}", file=sys.stderr)
        return error.exit_code
    text = markdown(report)
    print(text)
    options.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(bundle: Bundle, seconds: float, aarch64: Path | None = None, results: Path | None = None) -> dict[str, Any]:
    """The report: rows of this machine, then those that `results` holds of other places."""
    before = environment.snapshot()
    rows, left_out = engines(bundle, seconds)
    for made in (lambda: in_c(bundle), lambda: emulated(bundle, aarch64) if aarch64 else []):
        try:
            rows += made()
        except UnavailableError as error:
            left_out.append(str(error))
    return {
        "schema": SCHEMA,
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.digest},
        "golden_inputs": len(bundle.golden_inputs()),
        "machine": fingerprint(),
        "environment": environment.describe(before, environment.snapshot()),
        "rows": [asdict(row) for row in [*rows, *(of_others(results) if results else [])]],
        "left_out": left_out,
    }


def engines(bundle: Bundle, seconds: float) -> tuple[list[Row], list[str]]:
    """(a row for each artifact on each installed engine, what can't be run here)"""
    found, left_out = choices(bundle, Asked(device="cpu"))
    chosen = [choice for choice in found if not in_software(choice.engine, choice.precision, choice.device)]
    checks = {(c.artifact, c.engine): c for c in verify(bundle, Asked(device="cpu")).golden}
    inputs = bundle.golden_inputs()
    times = latencies(bundle, chosen, inputs, seconds)
    rates = throughputs(bundle, chosen, inputs, seconds)
    rows = [
        of_check(bundle, choice, checks[choice.artifact.file, choice.engine], p50, rate)
        for choice, p50, rate in zip(chosen, times, rates, strict=True)
    ]
    return rows, list(left_out)


def of_check(bundle: Bundle, choice: Choice, check: GoldenCheck, p50: float, rate: float) -> Row:
    return Row(
        what=choice.engine,
        command=f"edgecxr verify --engine {choice.engine} --precision {choice.precision}",
        device=f"{fingerprint()['cpu']}, {machine.cpus()} CPUs",
        artifact=choice.artifact.file,
        precision=choice.precision,
        max_difference=check.max_difference,
        tolerance=check.tolerance,
        reference=check.reference,
        p50_ms=p50,
        pictures_per_second=rate,
        megabytes=choice.artifact.bytes / 1e6 + installed(ROWS[choice.engine].packages),
        bundle_sha256=bundle.digest,
    )


def latencies(bundle: Bundle, chosen: Sequence[Choice], inputs: npt.NDArray[np.uint8], seconds: float) -> list[float]:
    """Median ms of one picture on every CPU, the choices taking turns."""
    opened = [open_engine(bundle, choice, machine.cpus()) for choice in chosen]
    cases = [
        rounds.Case({}, 1, lambda engine=engine: engine.run(inputs[:1]), LEAST, WARM_UP)  # type: ignore[misc]
        for engine in opened
    ]
    return [rounds.summary(samples, 1, latency=True)["p50_ms"] for samples in rounds.measure(cases, seconds)]


def throughputs(bundle: Bundle, chosen: Sequence[Choice], inputs: npt.NDArray[np.uint8], seconds: float) -> list[float]:
    """Pictures/s of one-threaded workers, one a CPU, over all golden inputs; the choices taking turns."""
    workers = machine.cpus()
    opened = [open_engine(bundle, choice, 1, workers) for choice in chosen]
    with ThreadPoolExecutor(workers) as pool:
        cases = [
            rounds.Case(
                {},
                len(inputs),
                lambda engine=engine: list(pool.map(lambda picture: engine.run(picture[None]), inputs)),  # type: ignore[misc]
                1,
                1,
            )
            for engine in opened
        ]
        measured = rounds.measure(cases, seconds)
    return [rounds.summary(samples, len(inputs), latency=False)["throughput"] for samples in measured]


def installed(packages: Sequence[str]) -> float:
    """10^6 bytes of the first of those packages that is installed, without what it depends on."""
    for package in packages:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in files]
        return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
    return 0.0


def in_c(bundle: Bundle) -> list[Row]:
    """The program of examples/c on each ONNX file that it takes; raises UnavailableError where it can't be built."""
    with tempfile.TemporaryDirectory(prefix="edgecxr-") as scratch:
        program = build(Path(scratch), [])
        return [
            Row(
                **compared(bundle, artifact, run_in_c([str(program)], bundle, artifact, Path(scratch)), ov.NAME),
                what="examples/c",
                command=f"examples/c/classify {artifact.file} PICTURE.pgm …",
                device=f"{fingerprint()['cpu']}, {machine.cpus()} CPUs",
                megabytes=(artifact.bytes + program.stat().st_size) / 1e6 + installed(ROWS[ov.NAME].packages),
                note="openvino's C API: its row has the time",
            )
            for artifact in taken_in_c(bundle)
        ]


def taken_in_c(bundle: Bundle) -> list[Artifact]:
    return [a for a in bundle.artifacts if a.format == "onnx" and a.precision in ("fp32", "int8")]


def build(folder: Path, settings: Sequence[str]) -> Path:
    """The program of examples/c, built in `folder` with those `settings` of make; raises UnavailableError."""
    for name in ("classify.c", "Makefile"):
        shutil.copy(ROOT / "examples" / "c" / name, folder)
    try:
        subprocess.run(
            ["make", "-s", f"PYTHON={sys.executable}", *settings],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise UnavailableError(f"examples/c can't be built ({said[-1] if said else type(error).__name__})") from None
    return folder / "classify"


def run_in_c(
    program: Sequence[str],
    bundle: Bundle,
    artifact: Artifact,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> npt.NDArray[np.float32]:
    """Logits (G, K) of the golden inputs (of the first `limit`); raises UnavailableError where the program fails."""
    pictures = []
    for place, image in enumerate(bundle.golden_inputs()[:limit]):
        pictures.append(folder / f"{place}.pgm")
        height, width, _ = image.shape
        pictures[-1].write_bytes(f"P5\n{width} {height}\n255\n".encode() + image.tobytes())
    model = folder / artifact.file
    model.write_bytes(bundle.read(artifact.file))
    done = subprocess.run(
        [*program, str(model), *map(str, pictures)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise UnavailableError(f"examples/c ended with {done.returncode} ({said[-1] if said else 'no word'})")
    lines = [line.partition(" ood ")[0].split() for line in done.stdout.splitlines()]
    return np.array([[float(number) for number in line] for line in lines], dtype=np.float32)


def compared(bundle: Bundle, artifact: Artifact, found: npt.NDArray[np.float32], engine: str) -> dict[str, Any]:
    """The fields of a row that compare logits (G, K) with the golden ones, as `edgecxr verify` would."""
    row, tolerance, _ = reference(bundle, Choice(artifact, engine, "cpu", artifact.precision))
    return {
        "artifact": artifact.file,
        "precision": artifact.precision,
        "max_difference": float(np.abs(found - row.logits).max()),
        "tolerance": tolerance,
        "reference": row.engine,
        "bundle_sha256": bundle.digest,
    }


def emulated(bundle: Bundle, aarch64: Path) -> list[Row]:
    """The integer ONNX files on ONNX Runtime on an emulated aarch64 CPU with dot products."""
    rows = []
    cpu = list(emulation.AARCH64_CPUS)[-1]
    package = aarch64 / "site" / "onnxruntime"
    weight = sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) / 1e6
    for artifact in (a for a in bundle.artifacts if a.format == "onnx" and a.precision == "int8"):
        answers = emulation.run(bundle.read(artifact.file), bundle.golden_inputs(), cpu, aarch64)
        rows.append(
            Row(
                **compared(bundle, artifact, answers.logits, "onnxruntime"),
                what="onnxruntime",
                command="python benchmarks/emulation.py --aarch64 FOLDER",
                device=f"{cpu}, emulated",
                megabytes=artifact.bytes / 1e6 + weight,
                note="emulated: right or wrong, and no time",
            )
        )
    return rows


def of_others(results: Path) -> list[Row]:
    """The rows of what other scripts left in `results`; raises UnavailableError for a report of another form."""
    rows: list[Row] = []
    for name, script, read in (
        ("web.json", "web.py", in_a_browser),
        ("triton.json", "triton.py", behind_triton),
        ("cluster.json", "cluster.py", on_a_cluster),
    ):
        if not (results / name).is_file():
            continue
        try:
            rows += read(json.loads((results / name).read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UnavailableError(f"results/{name} must be what benchmarks/{script} writes, got {error!r}") from None
    return rows


def in_a_browser(report: Mapping[str, Any]) -> list[Row]:
    golden = report["golden"]
    return [
        Row(
            what="browser, onnxruntime-web",
            command="python benchmarks/web.py",
            device=f"{report['on']}, threads: {report['threads']}",
            max_difference=golden["largest_difference"],
            tolerance=golden["tolerance"],
            reference="onnxruntime",
            p50_ms=report["network_ms"]["browser"]["p50"],
            megabytes=sum(report["site_megabytes"].values()),
            note="the site with the bundle, without the browser",
            bundle_sha256=report["bundle_sha256"],
        )
    ]


def behind_triton(report: Mapping[str, Any]) -> list[Row]:
    golden = report["golden"]
    alone = next(row for row in report["measured"] if row["at_a_time"] == 1)
    rates = {row["at_a_time"]: median(row["triton"]["pictures_per_second"]) for row in report["measured"]}
    best = max(rates, key=lambda count: rates[count])
    said = f"; golden answers weren't compared: {golden['why']}" if golden["max_difference"] is None else ""
    return [
        Row(
            what="Triton, from a file's bytes",
            command="python benchmarks/triton.py PICTURES",
            max_difference=golden["max_difference"],
            tolerance=golden.get("tolerance"),
            reference="onnxruntime",
            p50_ms=alone["triton"]["p50_ms"],
            pictures_per_second=rates[best],
            note=f"decoding is in the times; pictures/s of {best} requests at a time{said}",
            bundle_sha256=report["bundle_sha256"],
        )
    ]


def on_a_cluster(report: Mapping[str, Any]) -> list[Row]:
    return [
        Row(
            what=f"infer --ray, workers: {row['workers']}",
            command="python benchmarks/cluster.py PICTURES",
            pictures_per_second=median(row["ray"]["pictures_per_second"]),
            note=f"from files, {row['ratio'][0]:.2f} of as many plain processes; its records are `infer`'s",
            bundle_sha256=report["bundle_sha256"],
        )
        for row in report["throughput"]
    ]


def markdown(report: Mapping[str, Any]) -> str:
    """The table, with what wasn't run below."""
    header = ["what", "device", "file", "largest Δ of a logit", "accepted", "p50 ms", "pictures/s", "MB", "command"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    notes = []
    for row in report["rows"]:
        other = row["bundle_sha256"] is not None and row["bundle_sha256"] != report["bundle"]["sha256"]
        said = [row["note"]] if row["note"] else []
        said += ["another bundle"] if other else []
        if said:
            notes.append("; ".join(said))
        cells = [
            row["what"] + (f" [{len(notes)}]" if said else ""),
            row["device"] or "",
            f"`{row['artifact']}`" if row["artifact"] else "",
            shown(row["max_difference"], ".2g"),
            shown(row["tolerance"], "g"),
            shown(row["p50_ms"], ".1f"),
            shown(row["pictures_per_second"], ".1f"),
            shown(row["megabytes"], ".0f"),
            f"`{row['command']}`",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"[{number}] {note}." for number, note in enumerate(notes, start=1))]
    bundle = report["bundle"]
    lines += [
        "",
        f"{bundle['name']} {bundle['version']}, the same {report['golden_inputs']} golden inputs everywhere; Δ is to "
        "the bundle's golden answers of that engine, or of another one where it holds none. MB: network and engine. "
        "Empty: not measured.",
        *(f"Not run: {reason}." for reason in report["left_out"]),
    ]
    return "\n".join(lines)


def shown(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


if __name__ == "__main__":
    sys.exit(main())
