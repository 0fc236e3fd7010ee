"""How big and how quick to start is an installation? Size, `edgecxr --help`, the first record.

    python benchmarks/footprint.py [PICTURE] [-o benchmarks/results/footprint] [--starts 10]

Makes a virtual environment, installs this checkout with the extra `cpu` (constraints.txt) and compiles its bytecode,
as pip does; sums up what lies under its site-packages, the embedded models included (without pip itself, which an image
of a device needn't hold). Then starts it STARTS times: until `--help` has been printed, until `infer` has printed its
first record: of a picture and, with the extra `dicom`, of a compressed DICOM film. Start times have the files in the
system's cache. Needs an index of packages, or pip's cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median
from typing import Any

from edgecxr.bench import environment
from edgecxr.bench.cold import start

SCHEMA = 1
HERE = Path(__file__).parent
ROOT = HERE.parent
NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils", "__pycache__")  # what venv brings
DICOM = ROOT / "tests" / "fuzz" / "corpus" / "dicom" / "lossless.dcm"
TARGETS = {"help_s": 0.3, "first_record_s": 1.0, "install_megabytes": 240}  # with two models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, nargs="?", default=ROOT / "samples" / "phantom-1.png")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "footprint", help="without its ending")
    parser.add_argument("--starts", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        python = install(Path(scratch) / "venv")
        sizes = weigh(python)
        before = environment.snapshot()
        times = starts(python, arguments.picture.resolve(), arguments.starts)
        described = environment.describe(before, environment.snapshot())
        install(Path(scratch) / "venv", "dicom")
        extra = sum(weigh(python).values()) - sum(sizes.values())
        compressed = starts(python, DICOM, arguments.starts)["first_record_s"]
    report = {
        "schema": SCHEMA,
        "what": "an installation of edgecxr[cpu] with its model and bytecode",
        "install_megabytes": sum(sizes.values()),
        "parts_megabytes": dict(sorted(sizes.items(), key=lambda item: -item[1])),
        **times,
        "dicom": {"more_megabytes": extra, "first_record_s": compressed},
        "targets": TARGETS,
        "machine": described,
    }
    arguments.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(table(report))
    print(table(report))


def install(folder: Path, extra: str = "cpu") -> Path:
    """An environment with edgecxr[cpu], fresh where it isn't there yet; its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    command = [python, "-m", "pip", "install", "-q", "--compile", "-c", ROOT / "constraints.txt", f"{ROOT}[{extra}]"]
    subprocess.run(list(map(str, command)), check=True)
    return python


def weigh(python: Path) -> dict[str, float]:
    """10^6 bytes of each top-level name under site-packages; a shared library is part of its package."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    sizes: dict[str, float] = {}
    for entry in site.iterdir():
        name = entry.name.split(".")[0].split("-")[0]
        if name in NOT_OURS:
            continue
        files = [entry] if entry.is_file() else [path for path in entry.rglob("*") if path.is_file()]
        sizes[name] = sizes.get(name, 0.0) + sum(path.stat().st_size for path in files) / 1e6
    return sizes


def starts(python: Path, picture: Path, count: int) -> dict[str, Any]:
    """Seconds until `--help` has ended and until the first record, in turn."""
    edgecxr = python.parent / "edgecxr"
    help_seconds, first_seconds, peaks = [], [], []
    with tempfile.TemporaryDirectory() as elsewhere:  # not the checkout, whose sources would be imported
        for turn in range(count + 1):
            begin = time.perf_counter()
            subprocess.run([edgecxr, "--help"], capture_output=True, check=True, cwd=elsewhere)
            took = time.perf_counter() - begin
            first = start([str(edgecxr), "infer", str(picture), "-o", "-", "--quiet"])
            if turn:  # the first one fills the system's cache
                help_seconds.append(took)
                first_seconds.append(first.seconds)
                peaks.append(first.peak_megabytes)
    return {
        "help_s": spread(help_seconds),
        "first_record_s": spread(first_seconds),
        "peak_megabytes": max((peak for peak in peaks if peak), default=None),
    }


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": median(values), "low": min(values), "high": max(values), "starts": values}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    parts = ", ".join(f"{name} {size:.0f}" for name, size in list(report["parts_megabytes"].items())[:6])
    target = report["targets"]
    found = report["machine"]
    lines = [
        f"A fresh environment with `edgecxr[cpu]`; {found['cpu']}, {found['cpus_usable']} CPUs.",
        "",
        "| what | figure | target |",
        "|---|---|---|",
        f"| install with model and bytecode | {report['install_megabytes']:.0f} MB ({parts}) "
        f"| < {target['install_megabytes']} MB |",
    ]
    for key, name in (("help_s", "`edgecxr --help`"), ("first_record_s", "process start to first record")):
        row = report[key]
        lines.append(
            f"| {name} | {row['median']:.2f} s ({row['low']:.2f}–{row['high']:.2f}, {len(row['starts'])} starts) "
            f"| ≤ {target[key]} s |"
        )
    more, row = report["dicom"]["more_megabytes"], report["dicom"]["first_record_s"]
    lines.append(
        f"| with the extra `dicom`: {more:.0f} MB more, to the first record of a compressed film "
        f"| {row['median']:.2f} s ({row['low']:.2f}–{row['high']:.2f}, {len(row['starts'])} starts) | |"
    )
    told = environment.warnings(report["machine"])
    return "\n".join([*lines, *([""] if told else []), *(f"Note: {sentence}." for sentence in told)]) + "\n"


if __name__ == "__main__":
    if sys.platform == "win32":
        raise SystemExit("this looks for bin/python, which Windows calls otherwise")
    main()
