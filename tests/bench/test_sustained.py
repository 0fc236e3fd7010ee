"""Throughput over time: windows, what remains, and a run that is stopped early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.bench import environment as env
from edgecxr.bench.sustained import Window, drop, window


def snapshot(**changes: object) -> env.Snapshot:
    fields: dict[str, object] = dict.fromkeys(env.Snapshot.__dataclass_fields__)
    return env.Snapshot(**{**fields, "monotonic": 0.0, "own_seconds": 0.0, **changes})  # type: ignore[arg-type]


def test_a_window_is_what_happened_between_two_looks() -> None:
    before = snapshot(monotonic=100.0, throttle_events=2)
    after = snapshot(monotonic=104.0, throttle_events=5, mhz=1500.0, celsius=80.0)
    assert window(before, after, 20, begin=90.0) == Window(14.0, 20, 5.0, 1500.0, 80.0, 3)
    assert window(before, snapshot(monotonic=104.0), 20, begin=90.0).throttle_events is None


def test_what_remains_compares_the_first_and_the_last_tenth() -> None:
    rates = [10.0, 10.0, *[8.0] * 16, 5.0, 5.0]
    windows = [Window(float(i), 1, rate, None, None, None) for i, rate in enumerate(rates)]
    assert drop(windows) == {"throughput": 8.0, "first": 10.0, "last": 5.0, "remaining": 0.5}
    assert drop([])["remaining"] is None
    assert drop(windows[:1])["remaining"] == 1.0


def test_minutes_become_windows(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], tiny_bundle: Path, tmp_path: Path
) -> None:
    target = tmp_path / "s.json"
    done = edgecxr(
        "bench", "-m", tiny_bundle, "--sustained", 0.05, "-o", target, "-o", tmp_path / "s.html", timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "first tenth" in done.stdout
    report = json.loads(target.read_text())
    assert (report["kind"], report["complete"], report["minutes"]) == ("sustained", True, 0.05)
    assert report["windows"]
    ends = [row["seconds"] for row in report["windows"]]
    assert ends == sorted(ends)
    assert all(row["pictures"] > 0 and row["throughput"] > 0 for row in report["windows"])
    assert "Throughput over time" in (tmp_path / "s.html").read_text()


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_stopped_run_still_reports(tiny_bundle: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    target = tmp_path / "s.json"
    command = [sys.executable, "-m", "edgecxr", "bench", "-m", tiny_bundle, "--sustained", 60, "-o", target]
    begin = time.monotonic()
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # Windows are a second at least; by its own processor time it is well within the first ones.
        tick = os.sysconf("SC_CLK_TCK")
        while time.monotonic() - begin < 120:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            if (int(fields[11]) + int(fields[12])) / tick > 4:
                break
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=120)
        assert process.returncode == code
    report = json.loads(target.read_text())
    assert report["complete"] is False
    assert report["windows"]
