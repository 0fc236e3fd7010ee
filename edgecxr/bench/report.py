"""What a measurement leaves behind: JSON with a schema version, which later versions read or refuse by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import edgecxr
from edgecxr.bench.pictures import Pictures
from edgecxr.bundle import Bundle
from edgecxr.errors import UsageError

# 1: latency and throughput, without the rounds' own values. 2: with them, stages, cold starts and conditions.
SCHEMA = 2
KINDS = ("quick", "mlperf", "sustained")
MAX_BYTES = 64 << 20


def head(kind: str, bundle: Bundle) -> dict[str, Any]:
    """The fields with which every report begins."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "edgecxr": edgecxr.__version__,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "bundle": about(bundle),
    }


def about(bundle: Bundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "sha256": bundle.digest,
        "input_px": [bundle.preprocessing.height, bundle.preprocessing.width],
    }


def about_pictures(pictures: Pictures) -> dict[str, Any]:
    return {
        "count": len(pictures.files),
        "left_out": pictures.left_out,
        "median_megapixels": pictures.megapixels,
        "median_megabytes": pictures.megabytes,
    }


def read(path: Path) -> dict[str, Any]:
    """A report of `edgecxr bench` of this schema; raises UsageError for anything else."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UsageError(f"the report isn't a file: {path}")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"no report of edgecxr bench is longer than {MAX_BYTES >> 20} MiB: {path}")
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the report can't be read ({error.strerror}): {path}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the report isn't valid JSON ({type(error).__name__}): {path}") from None
    schema = report.get("schema") if isinstance(report, Mapping) else None
    if not isinstance(report, Mapping) or type(schema) is not int or report.get("kind") not in KINDS:
        raise UsageError(f"expected a report that edgecxr bench wrote with -o, got: {path}")
    if schema != SCHEMA:
        raise UsageError(
            f"the report's schema is {schema} and this version of edgecxr writes {SCHEMA}: measure again with one "
            f"version, or compare with edgecxr of that report's time: {path}"
        )
    return dict(report)
