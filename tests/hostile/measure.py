"""Run a program and know what it took: exit code, output, seconds, peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measured:
    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_mb: float


def edgecxr(scratch: Path, *arguments: object, **options: Any) -> Measured:
    return run(scratch, [sys.executable, "-m", "edgecxr", *map(str, arguments)], **options)


def run(scratch: Path, command: list[str], **options: Any) -> Measured:
    begin = time.perf_counter()
    with (scratch / "stdout").open("wb") as stdout, (scratch / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, **options)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    texts = [(scratch / name).read_text(errors="surrogateescape") for name in ("stdout", "stderr")]
    return Measured(process.returncode, *texts, time.perf_counter() - begin, usage.ru_maxrss / 1024)
