"""Throughput over time, for devices that heat up: the same folder again and again, in windows of some seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edgecxr.bench import environment, report
from edgecxr.bench.pictures import usable
from edgecxr.bundle import Bundle
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session

WINDOWS = 60  # about as many points as a plot wants
MIN_WINDOW, MAX_WINDOW = 1.0, 30.0  # s
SHARE = 0.1  # of the windows, at the beginning and at the end, that are compared


@dataclass(frozen=True)
class Window:
    """What happened in one stretch of time."""

    seconds: float  # from the start of the measurement to the window's end
    pictures: int
    throughput: float  # pictures/s
    mhz: float | None
    celsius: float | None
    throttle_events: int | None  # since the window before


def sustained(
    session: Session,
    files: Sequence[Path],
    minutes: float,
    *,
    stop: Callable[[], bool] = lambda: False,
    advance: Callable[[str, int, int], Any] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Score `files` over and over for `minutes`, or until `stop()`; the report as JSON-able data.

    Raises UsageError where the files hold no picture that can be scored.
    """
    bundle: Bundle = session.bundle
    pictures = usable(bundle, files, lambda done, total: advance("reading", done, total))
    span = 60 * minutes
    length = min(MAX_WINDOW, max(MIN_WINDOW, span / WINDOWS))
    before = environment.snapshot()
    begin = before.monotonic
    windows: list[Window] = []
    last, count = before, 0

    def over() -> bool:
        return stop() or time.monotonic() - begin >= span

    for _ in pipeline.stream(session, itertools.cycle(pictures.files), over):
        count += 1
        if time.monotonic() - last.monotonic >= length:
            now = environment.snapshot()
            windows.append(window(last, now, count, begin))
            last, count = now, 0
            advance("scoring", min(int(now.monotonic - begin), int(span)), int(span))
    now = environment.snapshot()
    if count and (not windows or now.monotonic - last.monotonic >= length / 2):  # a short rest says little
        windows.append(window(last, now, count, begin))
    described = environment.describe(before, now)
    return {
        **report.head("sustained", bundle),
        "pictures": report.about_pictures(pictures),
        "minutes": minutes,
        "complete": not stop(),
        **session.provenance.__dict__,
        **session.plan.__dict__,
        "machine": described,
        "warnings": [*session.notes, *environment.warnings(described)],
        "windows": [asdict(each) for each in windows],
        **drop(windows),
    }


def window(before: environment.Snapshot, after: environment.Snapshot, pictures: int, begin: float) -> Window:
    """The window between two snapshots, in which `pictures` were finished."""
    throttled = None
    if before.throttle_events is not None and after.throttle_events is not None:
        throttled = after.throttle_events - before.throttle_events
    return Window(
        seconds=after.monotonic - begin,
        pictures=pictures,
        throughput=pictures / (after.monotonic - before.monotonic),
        mhz=after.mhz,
        celsius=after.celsius,
        throttle_events=throttled,
    )


def drop(windows: Sequence[Window]) -> dict[str, float | None]:
    """Median throughput of the first and of the last tenth of the windows, and what of it remains at the end."""
    if not windows:
        return {"throughput": None, "first": None, "last": None, "remaining": None}
    part = max(1, round(SHARE * len(windows)))
    rates = [each.throughput for each in windows]
    first, last = median(rates[:part]), median(rates[-part:])
    return {"throughput": median(rates), "first": first, "last": last, "remaining": last / first}
