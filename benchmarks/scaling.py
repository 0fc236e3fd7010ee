"""Does it scale? Time, throughput and memory of `edgecxr infer` over 100, 1,000 and 10,000 files.

    python benchmarks/scaling.py PICTURES [-m BUNDLE] [--files 100,1000,10000] [-o benchmarks/results/scaling] [--add]

The files are links to PICTURES, which is as good as files: each is opened, read and decoded anew. Each size is one
fresh process of `edgecxr infer` with records in a file. Its resident memory is looked at twice a second: given are its
peak (VmHWM) and the slope by least squares after the first 1,000 pictures. `--add` keeps the sizes of an earlier result
that aren't measured anew.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.bench import environment
from edgecxr.bench.cold import peak_megabytes
from edgecxr.bundle import load
from edgecxr.pictures import files

SCHEMA = 1
HERE = Path(__file__).parent
SIZES = "100,1000,10000"
LOOK_SECONDS = 0.5
SETTLED = 1000  # pictures after which memory should be flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--files", default=SIZES)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "scaling", help="without its ending")
    parser.add_argument("--add", action="store_true")
    arguments = parser.parse_args()
    bundle = load(arguments.model)
    sources = [path for path in files.find([arguments.pictures]).paths if path.suffix != ".csv"]
    target = arguments.output.with_suffix(".json")
    rows = {row["files"]: row for row in json.loads(target.read_text())["sizes"]} if arguments.add else {}
    for count in map(int, arguments.files.split(",")):
        rows[count] = measure(bundle.path, sources, count)
        print(line(rows[count]), file=sys.stderr)
    report = {
        "schema": SCHEMA,
        "what": "edgecxr infer over folders of links to the same pictures, a fresh process each",
        "model": f"{bundle.name} {bundle.version}",
        "bundle_sha256": bundle.digest,
        "pictures": len(sources),
        "sizes": [rows[count] for count in sorted(rows)],
    }
    target.write_text(json.dumps(report, indent=1) + "\n")
    target.with_suffix(".md").write_text(table(report))
    print(table(report))


def measure(bundle: Path, sources: Sequence[Path], count: int) -> dict[str, Any]:
    """One run over `count` links; raises SystemExit where not every file is scored."""
    before = environment.snapshot()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        folder.mkdir()
        for place in range(count):
            source = sources[place % len(sources)]
            (folder / f"{place:06}{source.suffix}").symlink_to(source.resolve())
        output = Path(scratch) / "records.jsonl"
        command = [sys.executable, "-m", "edgecxr", "infer", folder, "-m", bundle, "-o", output, "--json", "--quiet"]
        begin = time.perf_counter()
        with subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": scratch},  # where no result of `edgecxr tune` lies
        ) as process:
            looks, peak = follow(process, output, begin)
            assert process.stdout is not None
            summary = json.loads(process.stdout.read())
        seconds = time.perf_counter() - begin
        records = sum(1 for _ in output.open())
    if process.returncode or records != count:
        raise SystemExit(f"{records} of {count} files have a record, exit code {process.returncode}")
    return {
        "files": count,
        "seconds": seconds,
        "pictures_per_second": summary["pictures_per_second"],
        "peak_megabytes": peak,
        "slope_megabytes_per_1000": slope(looks, count),
        **{key: summary[key] for key in ("engine", "precision", "workers", "threads", "batch_size")},
        "machine": environment.describe(before, environment.snapshot()),
    }


def follow(process: subprocess.Popen[str], output: Path, begin: float) -> tuple[list[tuple[int, float]], float | None]:
    """([(bytes of records so far, resident megabytes)] twice a second, the peak in megabytes)"""
    status = Path(f"/proc/{process.pid}/status")
    looks: list[tuple[int, float]] = []
    peak = None
    while process.poll() is None:
        peak = peak_megabytes(status) or peak
        found = re.search(r"^VmRSS:\s+(\d+) kB", read(status), flags=re.MULTILINE)
        if found and output.exists():
            looks.append((output.stat().st_size, int(found[1]) * 1024 / 1e6))
        time.sleep(LOOK_SECONDS if time.perf_counter() - begin > 2 else 0.05)
    return looks, peak


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def slope(looks: Sequence[tuple[int, float]], count: int) -> float | None:
    """Megabytes of resident memory that each 1,000 pictures add, after the first; None of too short a run."""
    if not looks or count <= SETTLED:
        return None
    # Records have nearly the same length, so that the journal's length tells how many there are.
    per_record = looks[-1][0] / count
    settled = [(size / per_record, megabytes) for size, megabytes in looks if size / per_record > SETTLED]
    if len(settled) < 10:
        return None
    done, resident = np.array(settled).T
    return float(1000 * np.polyfit(done, resident, 1)[0])


def line(row: dict[str, Any]) -> str:
    rate, peak = row["pictures_per_second"], row["peak_megabytes"]
    return f"{row['files']} files: {row['seconds']:.1f} s, {rate:.1f}/s, {peak:.0f} MB"


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    found = report["sizes"][-1]["machine"]
    lines = [
        f"`edgecxr infer`, {report['model']}, {report['sizes'][-1]['precision']} on {report['sizes'][-1]['engine']}; "
        f"{found['cpu']}, {found['cpus_usable']} CPUs.",
        "",
        "| files | seconds with start-up | pictures/s | peak memory, MB | MB that 1,000 more add |",
        "|---|---|---|---|---|",
    ]
    for row in report["sizes"]:
        slope = row["slope_megabytes_per_1000"]
        flat = "–" if slope is None else f"{slope:+.2f}"
        rate, peak = row["pictures_per_second"], row["peak_megabytes"]
        lines.append(f"| {row['files']:,} | {row['seconds']:.1f} | {rate:.1f} | {peak:.0f} | {flat} |")
    told = sorted({sentence for row in report["sizes"] for sentence in environment.warnings(row["machine"])})
    return "\n".join([*lines, *([""] if told else []), *(f"Note: {sentence}." for sentence in told)]) + "\n"


if __name__ == "__main__":
    main()
