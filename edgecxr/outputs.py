"""Where results may be written: checked before the work begins, so that nothing is lost at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from edgecxr.errors import UsageError

REPORT_SUFFIXES = (".json",)


def check_output(path: Path, suffixes: Iterable[str], *, overwrite: bool) -> None:
    """Raise UsageError where `path` has another ending, can't be a file, or exists and may not be replaced."""
    listed = tuple(suffixes)
    if path.suffix.lower() not in listed:
        raise UsageError(f"an output file of this kind ends in {', '.join(listed)}, got: {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"the output can't be written there, no such folder or not a file: {path}")
    if path.exists() and not overwrite:
        raise UsageError(f"the output exists; give --overwrite to replace it: {path}")


def write_report(path: Path, report: object) -> None:
    """Write a report as JSON; raises UsageError where the place can't be written."""
    try:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the report can't be written ({error.strerror}): {path}") from None
