"""Evenly chosen pictures of many: what a measurement, or a calibration, runs on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgecxr.pictures import files

MAX_PICTURES = 200  # of the folder that was given, evenly chosen


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` places out of `count`, at even distances."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]


def sample_files(paths: Sequence[Path], limit: int = MAX_PICTURES) -> tuple[Path, ...]:
    """At most `limit` of the files found under `paths`, evenly chosen; raises UsageError where there is none."""
    found = files.find(paths).paths
    return tuple(found[place] for place in spread(len(found), limit))
