"""What is written down: one record for each input, as JSON lines (the journal) or CSV with the same columns."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TextIO

from edgecxr import outputs
from edgecxr.errors import UsageError

SCHEMA = 2  # 2 has bytes and mtime_ns, by which a resumed run knows a file again
SYNC_SECONDS = 1.0  # a power cut loses at most this much of what was reported finished

Status = Literal["scored", "abstained", "rejected"]


@dataclass(frozen=True)
class Provenance:
    """What made a prediction."""

    model: str
    bundle_sha256: str
    engine: str
    provider: str
    device: str
    precision: str


@dataclass(frozen=True)
class Prediction:
    """The answer to one picture, or the reason why there is none."""

    path: str | None  # as it was given; None for bytes and arrays
    sha256: str | None  # of the bytes that were read (of an array: of its samples); None where nothing could be read
    status: Status
    label: str | None  # most probable class; None unless scored
    probabilities: Mapping[str, float]  # calibrated, by label, summing to 1; empty when rejected
    logits: Mapping[str, float]  # by label; empty when rejected
    ood_score: float | None  # None until the bundle brings a detector of pictures unlike the training data
    error_code: str | None
    error_message: str | None
    width: int | None  # of the file, px
    height: int | None
    bits: int | None  # per sample, declared or observed
    provenance: Provenance
    time_utc: str
    bytes: int | None = None  # length of the file; None for arrays and where nothing could be read
    mtime_ns: int | None = None  # when the file was last changed, ns since 1970, as it was read; None as above

    def without_name(self, position: int) -> Prediction:
        """The same under its content's hash, or, where nothing could be read, its position among the inputs from 1."""
        return replace(self, path=f"sha256:{self.sha256}" if self.sha256 else f"unread:{position}")

    def to_record(self, labels: Sequence[str]) -> dict[str, Any]:
        """The record that is written, with every column of the schema whatever the status."""
        error = None if self.error_code is None else {"code": self.error_code, "message": self.error_message}
        return {
            "schema": SCHEMA,
            "path": self.path,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "mtime_ns": self.mtime_ns,
            "status": self.status,
            "label": self.label,
            **{f"p_{label}": self.probabilities.get(label) for label in labels},
            **{f"logit_{label}": self.logits.get(label) for label in labels},
            "ood_score": self.ood_score,
            "error": error,
            "width": self.width,
            "height": self.height,
            "bits": self.bits,
            "model": self.provenance.model,
            "bundle_sha256": self.provenance.bundle_sha256,
            "engine": self.provenance.engine,
            "provider": self.provenance.provider,
            "device": self.provenance.device,
            "precision": self.provenance.precision,
            "time_utc": self.time_utc,
        }


class Writer(Protocol):
    """Takes predictions one after the other; a context manager."""

    def write(self, prediction: Prediction) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _FileWriter:
    def __init__(self, file: TextIO, labels: Sequence[str], *, durable: bool) -> None:
        self._file, self._labels, self._durable = file, tuple(labels), durable
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._durable:
            with self._file:  # closed even where the last sync finds the disk full
                self._sync()
        else:
            self._file.flush()

    def _written(self) -> None:
        self._file.flush()
        if self._durable and time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


class JsonLines(_FileWriter):
    """One JSON object a line, ASCII: a name that isn't UTF-8 survives as escaped surrogates (`os.fsdecode`)."""

    def write(self, prediction: Prediction) -> None:
        self._file.write(json.dumps(prediction.to_record(self._labels), allow_nan=False) + "\n")
        self._written()


class Csv(_FileWriter):
    """The same columns, as RFC 4180 has it (CR LF ends a row); `error` is split into error_code and error_message."""

    def __init__(self, file: TextIO, labels: Sequence[str], *, durable: bool) -> None:
        super().__init__(file, labels, durable=durable)
        self._rows = csv.DictWriter(file, csv_columns(labels))
        self._rows.writeheader()

    def write(self, prediction: Prediction) -> None:
        record = prediction.to_record(self._labels)
        del record["error"]
        record["error_code"], record["error_message"] = prediction.error_code, prediction.error_message
        self._rows.writerow(record)
        self._written()


def csv_columns(labels: Sequence[str]) -> list[str]:
    columns = [*json_columns(labels)]
    position = columns.index("error")
    columns[position : position + 1] = ["error_code", "error_message"]
    return columns


def json_columns(labels: Sequence[str]) -> list[str]:
    nothing = Prediction(
        None, None, "rejected", None, {}, {}, None, None, None, None, None, None, Provenance("", "", "", "", "", ""), ""
    )
    return list(nothing.to_record(labels))


_KINDS: dict[str, type[JsonLines] | type[Csv]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".csv": Csv}


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError where `path` can't be written, before a model is loaded for it."""
    if str(path) != "-":  # JSON lines on stdout
        outputs.check_output(path, _KINDS, overwrite=overwrite)


def open_writer(path: Path, labels: Sequence[str], *, overwrite: bool) -> Writer:
    """A writer whose kind the file's ending decides (`-`: JSON lines on stdout); raises UsageError as above."""
    check_output(path, overwrite=overwrite)
    if str(path) == "-":
        return JsonLines(sys.stdout, labels, durable=False)
    with contextlib.ExitStack() as stack:
        try:
            # "x" and not a look beforehand: between the two, another run may have made it.
            file = path.open("w" if overwrite else "x", newline="", encoding="utf-8", errors="surrogateescape")
        except FileExistsError:
            raise UsageError(f"the output exists; give --overwrite to replace it: {path}") from None
        except OSError as error:
            raise UsageError(f"the output can't be written ({error.strerror}): {path}") from None
        stack.enter_context(file)
        writer = _KINDS[path.suffix.lower()](file, labels, durable=True)
        stack.pop_all()
    return writer
