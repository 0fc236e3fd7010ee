"""What does a cluster cost? `edgecxr infer --ray` beside as many plain processes, and the memory of its driver.

    python benchmarks/cluster.py PICTURES [-m BUNDLE] [--ray local] [--workers 1,2] [--films 1200] [--rounds 5]
                                 [--paths 10000,100000,1000000] [-o benchmarks/results/cluster]

Throughput: the films are links to PICTURES. A round scores all of them by N plain processes of `edgecxr infer`, each
with one worker of one thread and its share of the films, and by N workers of `edgecxr infer --ray`; the order changes
from round to round. The rate is that between the first and the last tenth of the records, by their `time_utc`: neither
start nor end counts, on either side. What is given is the median of the rounds' ratios, with the least and the
greatest. `start` is how long the whole call took beyond what the films take at that rate.

Memory: the peak (VmHWM) of a driver whose listing has that many paths. The paths are made up and lead to no file: it is
a listing, its file and its way into Ray Data, and the driver ends once FINISHED parts have come back, of which each
record says `unreadable`. No store is listed, and not all the paths are tried.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pyarrow import parquet

from edgecxr.bench import environment
from edgecxr.bench.cold import peak_megabytes
from edgecxr.bundle import load
from edgecxr.cluster import listing, run
from edgecxr.cluster.output import check
from edgecxr.cluster.store import Listed
from edgecxr.pictures import files

SCHEMA = 1
HERE = Path(__file__).parent
NICE = os.environ.get("RAY_worker_niceness", "15")  # noqa: SIM112 (of Ray's workers: it counts where a machine is busy)
FINISHED = 4  # parts after which a driver is ended whose memory is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--ray", default="local")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--films", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--paths", default="10000,100000,1000000")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "cluster", help="without its ending")
    parser.add_argument("--driver", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.driver:
        print(json.dumps(drive(arguments.driver, arguments.ray, arguments.model)))
        return
    bundle = load(arguments.model)
    before = environment.snapshot()
    counts, sizes = ([int(text) for text in given.split(",") if text] for given in (arguments.workers, arguments.paths))
    with tempfile.TemporaryDirectory() as scratch:
        films = links(arguments.pictures, Path(scratch), arguments.films)
        rows = [compare(films, bundle.path, arguments.ray, count, arguments.rounds) for count in counts]
    memory = [remembered(size, arguments) for size in sizes]
    report = {
        "schema": SCHEMA,
        "what": "edgecxr infer --ray beside as many plain processes of edgecxr infer; memory of its driver",
        "model": f"{bundle.name} {bundle.version}",
        "bundle_sha256": bundle.digest,
        "films": arguments.films,
        "throughput": rows,
        "memory": memory,
        "machine": environment.describe(before, environment.snapshot()),
    }
    arguments.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(table(report))
    print(table(report))


def links(pictures: Path, scratch: Path, count: int) -> Path:
    sources = [path for path in files.find([pictures]).paths if path.suffix != ".csv"]
    folder = scratch / "films"
    folder.mkdir()
    for place in range(count):
        source = sources[place % len(sources)]
        (folder / f"{place:06}{source.suffix}").symlink_to(source.resolve())
    return folder


def compare(films: Path, bundle: Path, ray: str, workers: int, rounds: int) -> dict[str, Any]:
    """Rounds of both at one number of workers, and the ratios of their rates."""
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "ray": []}
    for turn in range(rounds):
        for what in ("plain", "ray") if turn % 2 == 0 else ("ray", "plain"):
            with tempfile.TemporaryDirectory() as scratch:
                begin = time.perf_counter()
                run_of = plain if what == "plain" else rayed
                times = run_of(films, bundle, Path(scratch), workers, ray)
                seconds = time.perf_counter() - begin
            rate = steady(times)
            found[what].append((rate, seconds - len(times) / rate))
            print(f"{workers} workers, {what}: {rate:.1f}/s, {seconds:.1f} s", file=sys.stderr)
    ratios = [ours / theirs for (ours, _), (theirs, _) in zip(found["ray"], found["plain"], strict=True)]
    row: dict[str, Any] = {"workers": workers, "ratio": [statistics.median(ratios), min(ratios), max(ratios)]}
    for what, rows in found.items():
        row[what] = {
            "pictures_per_second": [rate for rate, _ in rows],
            "start_seconds": statistics.median(start for _, start in rows),
        }
    return row


def plain(films: Path, bundle: Path, scratch: Path, workers: int, _: str) -> list[float]:
    """When each record of N plain processes was there."""
    paths = sorted(films.iterdir())
    running = []
    for number in range(workers):
        share = scratch / str(number)
        share.mkdir()
        for path in paths[number::workers]:
            (share / path.name).symlink_to(path.resolve())
        command = ["infer", share, "-m", bundle, "-o", scratch / f"{number}.jsonl", "-q", "-j", 1, "--threads", 1]
        running.append(subprocess.Popen(["nice", "-n", NICE, sys.executable, "-m", "edgecxr", *map(str, command)]))
    if any(process.wait() not in (0, 1) for process in running):
        raise SystemExit("a plain process failed")
    lines = (line for number in range(workers) for line in (scratch / f"{number}.jsonl").open())
    return [seconds_of(json.loads(line)["time_utc"]) for line in lines]


def rayed(films: Path, bundle: Path, scratch: Path, workers: int, ray: str) -> list[float]:
    """When each record of N workers on Ray was there."""
    command = ["infer", films, "--ray", ray, "-m", bundle, "-o", scratch / "out", "-q", "-j", workers, "--threads", 1]
    if subprocess.run([sys.executable, "-m", "edgecxr", *map(str, command)], check=False).returncode not in (0, 1):
        raise SystemExit("edgecxr infer --ray failed")
    parts = sorted((scratch / "out").glob("part-*.parquet"))
    return [seconds_of(str(moment)) for part in parts for moment in parquet.read_table(part)["time_utc"].to_pylist()]


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def steady(times: Sequence[float]) -> float:
    """Records a second between the first and the last tenth of them."""
    ordered, tenth = sorted(times), len(times) // 10
    return (len(ordered) - 1 - 2 * tenth) / (ordered[-1 - tenth] - ordered[tenth])


def remembered(paths: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a driver in a process of its own says of itself."""
    command = [sys.executable, __file__, arguments.pictures, "--driver", paths, "--ray", arguments.ray]
    command += ["-m", arguments.model] if arguments.model else []
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found, file=sys.stderr)
    return found


def drive(paths: int, ray: str, model: Path | None) -> dict[str, Any]:
    """A run over made-up paths, ended by its own signal once FINISHED parts are there; its peak in megabytes."""
    status = Path("/proc/self/status")

    def made_up(*_: object, **__: object) -> Iterator[Listed]:
        for number in range(paths):
            yield Listed(f"/nowhere/archive/patient-{number // 40:06}/study-{number // 4:08}/image-{number:09}.dcm")

    listing.find = made_up  # type: ignore[assignment]
    parts = 0

    def count(_: int) -> None:
        nonlocal parts
        parts += 1
        if parts == FINISHED:
            os.kill(os.getpid(), signal.SIGINT)

    peaks: list[float | None] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = check(Path(scratch) / "out", overwrite=False, going_on=False)
        request = run.Request(("/nowhere",), workers=1)
        begin = time.perf_counter()
        job = run.score(
            request, load(model), place, ray, begin=lambda *_: peaks.append(peak_megabytes(status)), advance=count
        )
        listed = (place.part / listing.NAME).stat().st_size if place.part.exists() else None
    return {
        "paths": paths,
        "seconds": time.perf_counter() - begin,
        "megabytes_once_listed": peaks[0],
        "peak_megabytes": peak_megabytes(status),
        "listing_bytes": listed,
        "parts_finished": job.parts,
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    found = report["machine"]
    lines = [
        f"`edgecxr infer --ray`, {report['model']}, {report['films']} films a round; {found['cpu']}, "
        f"{found['cpus_usable']} CPUs.",
        "",
        "| workers | plain processes, pictures/s | on Ray, pictures/s | share (least to greatest) | start-up, s |",
        "|---|---|---|---|---|",
    ]
    for row in report["throughput"]:
        middle, least, most = row["ratio"]
        rates = [statistics.median(row[what]["pictures_per_second"]) for what in ("plain", "ray")]
        starts = " and ".join(f"{row[what]['start_seconds']:.1f}" for what in ("plain", "ray"))
        shown = f"{rates[0]:.1f} | {rates[1]:.1f} | {middle:.3f} ({least:.3f} to {most:.3f}) | {starts}"
        lines.append(f"| {row['workers']} | {shown} |")
    lines += ["", "| listed paths | driver once listed, MB | its peak, MB | listing on disk, MB |", "|---|---|---|---|"]
    for row in report["memory"]:
        size = "–" if row["listing_bytes"] is None else f"{row['listing_bytes'] / 1e6:.1f}"
        lines.append(
            f"| {row['paths']:,} | {row['megabytes_once_listed']:.0f} | {row['peak_megabytes']:.0f} | {size} |"
        )
    told = environment.warnings(found)
    return "\n".join([*lines, *([""] if told else []), *(f"Note: {sentence}." for sentence in told)]) + "\n"


if __name__ == "__main__":
    main()
