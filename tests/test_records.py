"""Records: one schema, the same columns in JSON lines and CSV, nothing overwritten unasked."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecxr.errors import UsageError
from edgecxr.records import Prediction, Provenance, csv_columns, json_columns, open_writer

LABELS = ("covid", "normal")
COLUMNS = [  # the design's schema
    *(
        "schema",
        "path",
        "sha256",
        "bytes",
        "mtime_ns",
        "status",
        "label",
        "p_covid",
        "p_normal",
        "logit_covid",
        "logit_normal",
        "ood_score",
    ),
    *("error", "width", "height", "bits", "model", "bundle_sha256", "engine", "provider", "device", "precision"),
    "time_utc",
]


def prediction(path: str = "a.png", **changes: object) -> Prediction:
    values: dict[str, object] = {
        "path": path,
        "sha256": "ab" * 32,
        "status": "scored",
        "label": "normal",
        "probabilities": {"covid": 0.1, "normal": 0.9},
        "logits": {"covid": -1.25, "normal": 1 / 3},
        "ood_score": None,
        "error_code": None,
        "error_message": None,
        "width": 100,
        "height": 200,
        "bits": 12,
        "provenance": Provenance("m 1", "cd" * 32, "onnxruntime", "CPUExecutionProvider", "cpu", "int8"),
        "time_utc": "2026-01-02T03:04:05.678Z",
    }
    return Prediction(**{**values, **changes})  # type: ignore[arg-type]


REJECTED = prediction(
    "b.png",
    status="rejected",
    label=None,
    probabilities={},
    logits={},
    error_code="empty",
    error_message="the file is empty",
)


def test_the_columns_are_the_designs() -> None:
    assert json_columns(LABELS) == COLUMNS
    position = COLUMNS.index("error")
    assert csv_columns(LABELS) == [*COLUMNS[:position], "error_code", "error_message", *COLUMNS[position + 1 :]]


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    for name in ("r.jsonl", "r.csv"):
        with open_writer(tmp_path / name, LABELS, overwrite=False) as writer:
            writer.write(prediction())
            writer.write(REJECTED)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert lines[0]["logit_normal"] == 1 / 3  # not rounded
    assert lines[1]["error"] == {"code": "empty", "message": "the file is empty"}
    assert lines[1]["p_covid"] is None
    for line, row in zip(lines, rows, strict=True):
        error = line.pop("error")
        line["error_code"], line["error_message"] = (error or {}).get("code"), (error or {}).get("message")
        assert row == {key: "" if value is None else str(value) for key, value in line.items()}


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_file_name_comes_back_from_both_formats(tmp_path: Path, name: bytes) -> None:
    path = name.decode("utf-8", "surrogateescape")  # as os.fsdecode gives it on Linux
    for suffix in (".jsonl", ".csv"):
        with open_writer(tmp_path / f"r{suffix}", LABELS, overwrite=True) as writer:
            writer.write(prediction(path))
    assert json.loads((tmp_path / "r.jsonl").read_text())["path"].encode("utf-8", "surrogateescape") == name
    assert (tmp_path / "r.jsonl").read_text().count("\n") == 1
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert next(csv.DictReader(file))["path"].encode("utf-8", "surrogateescape") == name


def test_what_exists_is_kept_unless_overwriting_was_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "r.jsonl"
    target.write_text("precious")
    with pytest.raises(UsageError, match="--overwrite"):
        open_writer(target, LABELS, overwrite=False)
    assert target.read_text() == "precious"
    with open_writer(target, LABELS, overwrite=True) as writer:
        writer.write(prediction())
    assert json.loads(target.read_text())["path"] == "a.png"


@pytest.mark.parametrize("name", ["r.txt", "r", "absent/r.csv", "."])
def test_places_that_cannot_be_written_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        open_writer(tmp_path / name, LABELS, overwrite=True)


def test_every_record_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with open_writer(tmp_path / "r.jsonl", LABELS, overwrite=False) as writer:
        for count in range(1, 4):
            writer.write(prediction())
            assert (tmp_path / "r.jsonl").read_text().count("\n") == count
