"""When a bundle gives no answer: the thresholds on a network's output `ood`, read and checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from edgecxr.errors import BundleError

NAME = re.compile(r"[\w][\w .+-]{0,63}")  # of a label or split: becomes a column name and stands on terminals
LARGEST = float(np.finfo(np.float32).max)  # that an output can be


@dataclass(frozen=True)
class Threshold:
    """Where one artifact on one engine stops answering."""

    artifact: str  # its file
    engine: str
    precision: str  # that is computed
    threshold: float  # a picture abstains where ood >= threshold


@dataclass(frozen=True)
class Abstention:
    """The thresholds of a bundle, and on what they were fitted."""

    kept: float  # share of the films of `split` that are answered
    split: str
    pictures: int  # of the split
    thresholds: tuple[Threshold, ...]

    def covers(self, artifact: str) -> bool:
        """Whether there is a threshold for the artifact of this file name."""
        return any(row.artifact == artifact for row in self.thresholds)


def parse(found: Any, artifacts: Collection[str]) -> Abstention | None:
    """`abstention` as it stands in a manifest; None where the bundle answers every picture.

    `artifacts` are the files that it may name. Raises BundleError, or KeyError or TypeError for what isn't built so.
    """
    if found is None:
        return None
    rows = tuple(Threshold(**{name.name: row[name.name] for name in fields(Threshold)}) for row in found["thresholds"])
    for row in rows:
        # Written so that a NaN fails.
        if type(row.threshold) not in (int, float) or not -LARGEST <= row.threshold <= LARGEST:
            raise BundleError(f"a threshold of abstention must be a finite number, got {str(row.threshold)[:40]}")
        if row.artifact not in artifacts:
            raise BundleError(f"a threshold of abstention must be an artifact's, got {str(row.artifact)[:200]!r}")
        if not all(isinstance(name, str) and NAME.fullmatch(name) for name in (row.engine, row.precision)):
            raise BundleError(f"a threshold of {row.artifact} must name the engine and precision that it is for")
    if not rows or len({(row.artifact, row.engine, row.precision) for row in rows}) < len(rows):
        raise BundleError("abstention must have one threshold for each artifact, engine and precision")
    kept, split, pictures = found["kept"], found["split"], found["pictures"]
    if type(kept) not in (int, float) or not 0 < kept <= 1 or not isinstance(split, str) or not NAME.fullmatch(split):
        raise BundleError("abstention must say which share of which split it keeps")
    if type(pictures) is not int or pictures < 1:
        raise BundleError(f"abstention must say on how many pictures it was fitted, got {str(pictures)[:40]}")
    rows = tuple(replace(row, threshold=float(row.threshold)) for row in rows)
    return Abstention(float(kept), split, pictures, rows)


def of_one(found: Mapping[str, Any], artifact: str, precision: str) -> dict[str, Any]:
    """`abstention` as in a manifest, of what a lone .onnx says of itself: there, a threshold for each engine."""
    own = {"artifact": artifact, "precision": precision}
    rows = [{**own, "engine": engine, "threshold": threshold} for engine, threshold in found["thresholds"].items()]
    return {**found, "thresholds": rows}
