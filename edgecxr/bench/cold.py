"""Cold start and peak memory: what a process of its own takes until its first record, and at most.

The files that the process reads are in the system's cache after the first time, as they are on a device that starts
its program again; after a reboot it takes longer by the reading.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edgecxr.bench.sessions import Subject
from edgecxr.engines.select import Choice
from edgecxr.errors import UnavailableError

PICTURES = 16  # that each process scores, where there are so many: enough for every worker to have had its turn
MOST_ROUNDS = 5
TIMEOUT = 300.0  # s; a process that takes longer is given up
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # which typer takes for wanted on some CI machines
_FRAME = " " + "".join(map(chr, range(0x2500, 0x2580)))  # Unicode's box drawing, which typer puts around a usage error


@dataclass(frozen=True)
class Start:
    """One process: seconds until its first record, and its peak resident memory in 10^6 bytes, where that is known."""

    seconds: float
    peak_megabytes: float | None


def cold_starts(
    subjects: Sequence[Subject],
    files: Sequence[Path],
    seconds: float,
    advance: Callable[[int, int], Any] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """`edgecxr infer` in fresh processes, the subjects in turn, in about `seconds`: one round to MOST_ROUNDS.

    Raises UnavailableError where a process gives no record.
    """
    begin = time.monotonic()
    starts: list[list[Start]] = [[] for _ in subjects]
    for turn in range(MOST_ROUNDS):
        if turn and (time.monotonic() - begin) * (turn + 1) / turn > seconds:
            break
        for index, subject in enumerate(subjects):
            starts[index].append(start(command(subject.bundle.path, subject.choice, files[:PICTURES])))
            advance(turn * len(subjects) + index + 1, MOST_ROUNDS * len(subjects))
    count = len(files[:PICTURES])
    return [_row(subject, found, count) for subject, found in zip(subjects, starts, strict=True)]


def command(bundle: Path, choice: Choice, files: Sequence[Path]) -> list[str]:
    """`edgecxr infer` on `files`, with records on stdout."""
    options = ["--engine", choice.engine, "--device", choice.device, "--precision", choice.precision]
    return [
        sys.executable, "-m", "edgecxr", "infer", "-m", str(bundle), *options, "-o", "-", "--quiet",
        "--", *map(str, files),  # a file's name may begin with a dash
    ]  # fmt: skip


def start(arguments: Sequence[str]) -> Start:
    """Run a command that prints records; raises UnavailableError where it prints none within TIMEOUT."""
    begin = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        peak = _Peak(process.pid)
        watchdog = threading.Timer(TIMEOUT, process.kill)
        watchdog.daemon = True
        watchdog.start()
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            first = process.stdout.readline()
            seconds = time.perf_counter() - begin
            process.stdout.read()
            complaint = _last_words(process.stderr.read().decode(errors="replace"))
        finally:
            watchdog.cancel()
            peak.stop()
    if not first:
        why = complaint or f"exit code {process.returncode}"
        raise UnavailableError(f"a fresh process gave no record: {why[:300]}")
    return Start(seconds, peak.megabytes)


def _last_words(text: str) -> str:
    """The last line that says something, without colours and the frame around it."""
    lines = [line.strip(_FRAME) for line in _COLOURS.sub("", text).splitlines()]
    return next((line for line in reversed(lines) if line), "").removeprefix("edgecxr: ")


class _Peak:
    """Follows a process's peak of resident memory, which is gone when it ends.

    Not `ru_maxrss`: a process that was made by vfork begins with its parent's.
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self.megabytes: float | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(0.005):
            self.megabytes = peak_megabytes(self._status) or self.megabytes


def peak_megabytes(status: Path = Path("/proc/self/status")) -> float | None:
    """VmHWM of a process (proc(5)) in 10^6 bytes; None where it can't be read."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), flags=re.MULTILINE)
        if found:
            return int(found[1]) * 1024 / 1e6
    return None


def _row(subject: Subject, starts: Sequence[Start], pictures: int) -> dict[str, Any]:
    choice = subject.choice
    seconds = [each.seconds for each in starts]
    peaks = [each.peak_megabytes for each in starts if each.peak_megabytes is not None]
    return {
        **({} if subject.model is None else {"model": subject.model}),
        "artifact": choice.artifact.file,
        "precision": choice.precision,
        "engine": choice.engine,
        "device": choice.device,
        "pictures": pictures,
        "seconds": median(seconds),
        "seconds_low": min(seconds),
        "seconds_high": max(seconds),
        "rounds": seconds,
        "peak_megabytes": max(peaks, default=None),
    }
