"""What ends an export: a call that can't be carried out, found before any work, and an artifact that fails its gate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from edgecxr.bundle import reader as bundles
from edgecxr.engines.select import available_devices
from edgecxr.errors import GateError, UnavailableError, UsageError
from edgecxr.lab.publish import check_place
from edgecxr.lab.train import storage
from edgecxr_export.bundle import reports
from edgecxr_export.graphs import onnx_graph
from edgecxr_export.graphs.artifacts import GATED_ON, KINDS, TFLITE, planned
from edgecxr_export.parity.gates import Gates

# Bytes, of Xception at any input size.
SIZES = {"fp32": 84_000_000, "fp16": 42_500_000, "int8": 22_500_000, "int8-symmetric": 22_500_000}
OTHERS = 5_000_000  # bytes: golden vectors, reports, the card


@dataclass(frozen=True)
class Asked:
    """The part of a call that can be refused before any work is done."""

    output: Path
    formats: Sequence[str]
    precisions: Sequence[str]
    opset: int
    full_range: bool
    gates: Gates
    overwrite: bool


class Refused(Exception):  # noqa: N818  caught by the stage, which says where the report is
    """Artifacts that stray from the trained model."""

    def __init__(self, breaches: Sequence[str], report: Mapping[str, Any]) -> None:
        super().__init__("; ".join(breaches))
        self.report = {**report, "refused_for": list(breaches)}


def check(asked: Asked) -> None:
    """Raise UsageError, UnavailableError or StorageError for what can't be carried out."""
    if keras.backend.backend() != "tensorflow":
        raise UnavailableError(
            f"export converts through TensorFlow; unset KERAS_BACKEND, which is {keras.backend.backend()}"
        )
    _check_kinds(asked.formats, asked.precisions)
    if asked.opset not in onnx_graph.OPSETS:
        raise UsageError(f"the opset must be one of {', '.join(map(str, onnx_graph.OPSETS))}, got {asked.opset}")
    for what, share in (("drop in accuracy", asked.gates.max_drop), ("share of flips", asked.gates.max_flips)):
        if not 0 <= share <= 1:
            raise UsageError(f"the largest {what} must be 0 to 100 %, got {100 * share:g}")
    if not 0 <= asked.gates.int8_p99_logits < math.inf:
        raise UsageError(f"the largest error of the logits must be 0 % or more, got {asked.gates.int8_p99_logits:.0%}")
    output = asked.output
    check_place(output, overwrite=asked.overwrite)
    if asked.full_range and output.resolve() in {folder.resolve() for folder in bundles.NAMED.values()}:
        raise UsageError("the embedded bundle runs on any CPU, so its int8 is of reduced range; leave --full-range out")
    size = sum(SIZES[precision] for _, precision in planned(asked.formats, asked.precisions)) + OTHERS
    storage.make_room(output.parent, size, "the bundle's files")


def _check_kinds(formats: Sequence[str], precisions: Sequence[str]) -> None:
    known = tuple(dict.fromkeys(precision for made in KINDS.values() for precision in made))
    for what, given, allowed in (("formats", formats, tuple(KINDS)), ("precisions", precisions, known)):
        if not given or set(given) - set(allowed):
            raise UsageError(f"the {what} must be of {', '.join(allowed)}, got {', '.join(given) or 'none'}")
    if not planned(formats, precisions):
        raise UsageError(f"no {' or '.join(formats)} file is made in {', '.join(precisions)}")
    if TFLITE in formats:
        available_devices(GATED_ON[TFLITE])  # raises UnavailableError: what can't be run here can't be compared


def check_names(folders: Sequence[Path]) -> None:
    """Raise UsageError where two folders couldn't be told apart in a report."""
    names = [folder.resolve().name for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"parity is shown on folders of different names, got twice: {name}")


def refusal(output: Path, refused: Refused) -> GateError:
    """Write the report beside the output, NAME.refused.json, and return the error that says so."""
    path = output.with_name(f"{output.stem}.refused.json")
    path.write_bytes(reports.to_bytes(refused.report))
    return GateError(f"the artifacts must answer as the trained model does: {refused}; the report is {path}")
