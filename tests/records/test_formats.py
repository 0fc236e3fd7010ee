"""Records: one schema, the same columns and the same content in JSON lines and CSV."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecxr.records.formats import csv_columns, json_columns, read_csv, to_line, write_csv
from edgecxr.records.prediction import Prediction, Provenance

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
        "abstention",
        "abstain_at",
    ),
    *(
        "error",
        "width",
        "height",
        "bits",
        "rendering",
        "model",
        "bundle_sha256",
        "engine",
        "provider",
        "device",
        "precision",
    ),
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
        "rendering": "window_linear+inverted",
        "provenance": Provenance("m 1", "cd" * 32, "onnxruntime", "CPUExecutionProvider", "cpu", "int8"),
        "time_utc": "2026-01-02T03:04:05.678Z",
    }
    return Prediction(**{**values, **changes})  # type: ignore[arg-type]


ABSTAINED = prediction(
    "c.png",
    status="abstained",
    label=None,
    ood_score=7.25,
    provenance=Provenance("m 1", "cd" * 32, "onnxruntime", "CPUExecutionProvider", "cpu", "int8", "asked", 1 / 3),
)
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


def as_csv(*predictions: Prediction) -> str:
    file = io.StringIO(newline="")
    write_csv(file, (prediction.to_record(LABELS) for prediction in predictions), LABELS)
    return file.getvalue()


def test_both_formats_hold_the_same() -> None:
    lines: list[dict[str, Any]] = [
        json.loads(to_line(p.to_record(LABELS))) for p in (prediction(), REJECTED, ABSTAINED)
    ]
    rows = list(csv.DictReader(io.StringIO(as_csv(prediction(), REJECTED, ABSTAINED), newline="")))
    assert lines[0]["logit_normal"] == 1 / 3  # not rounded
    assert lines[1]["error"] == {"code": "empty", "message": "the file is empty"}
    assert lines[1]["p_covid"] is None
    assert [line["abstention"] for line in lines] == ["none", "none", "asked"]
    abstained = lines[2]
    assert (abstained["label"], abstained["ood_score"], abstained["abstain_at"]) == (None, 7.25, 1 / 3)
    assert abstained["p_covid"] == 0.1
    for line, row in zip(lines, rows, strict=True):
        error = line.pop("error")
        line["error_code"], line["error_message"] = (error or {}).get("code"), (error or {}).get("message")
        assert row == {key: "" if value is None else str(value) for key, value in line.items()}


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_characters="\0", exclude_categories=[]), min_size=1)  # lone surrogates too
names = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
scored = st.builds(
    prediction,
    names.map(lambda name: name.decode("utf-8", "surrogateescape")),  # as os.fsdecode gives it on Linux
    logits=st.fixed_dictionaries(dict.fromkeys(LABELS, finite)),
    probabilities=st.fixed_dictionaries(dict.fromkeys(LABELS, finite)),
    ood_score=st.none() | finite,
    bytes=st.none() | st.integers(0, 2**40),
    mtime_ns=st.none() | st.integers(-(2**63), 2**63 - 1),
    bits=st.none() | st.integers(1, 16),
)
abstained = st.builds(
    lambda ood, at: replace(ABSTAINED, ood_score=ood, provenance=replace(ABSTAINED.provenance, abstain_at=at)),
    finite,
    finite,
)
rejected = st.builds(lambda code, message: replace(REJECTED, error_code=code, error_message=message), words, words)
predictions = scored | abstained | rejected


@given(st.lists(predictions, max_size=5))
def test_any_record_comes_back_from_both_formats(made: list[Prediction]) -> None:
    records = [p.to_record(LABELS) for p in made]
    lines = [to_line(record) for record in records]
    assert [json.loads(line) for line in lines] == records
    assert all(line.isascii() and line.count("\n") == 1 for line in lines)  # one line, whatever stands in a name
    # As on disk: surrogates that aren't of a file's name can't be written as UTF-8, and no name or sentence has them.
    text = as_csv(*made).encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")
    assert list(read_csv(io.StringIO(text, newline=""), LABELS)) == records


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_no_number_that_is_not_finite_is_ever_written(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_line(prediction(logits={"covid": number, "normal": 0.0}).to_record(LABELS))


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("p_covid", "p_other"), lambda t: t[:-30], lambda t: t + "1,2\r\n"]
)
def test_another_csv_is_refused(change: Any) -> None:
    with pytest.raises(ValueError, match=r"columns|length"):
        list(read_csv(io.StringIO(change(as_csv(prediction())), newline=""), LABELS))


def test_without_its_name_a_record_tells_neither_name_nor_time() -> None:
    whole = prediction("Roe.png", bytes=5, mtime_ns=7)
    assert (whole.without_name(3).path, whole.without_name(3).mtime_ns) == ("sha256:" + "ab" * 32, None)
    assert prediction("Roe.png", sha256=None).without_name(3).path == "unread:3"
