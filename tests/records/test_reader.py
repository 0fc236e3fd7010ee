"""Records read back: what this version writes, what earlier ones wrote, and what is none."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from edgecxr.errors import UsageError
from edgecxr.records import reader
from edgecxr.records.formats import to_line, write_csv
from edgecxr.records.prediction import SCHEMA, Prediction, Provenance

LABELS = ("covid", "normal")


def prediction(path: str = "a.png", **changes: Any) -> Prediction:
    values: dict[str, Any] = {
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
        "height": 90,
        "bits": 8,
        "provenance": Provenance("tiny 1", "c" * 64, "onnxruntime", "CPU", "cpu", "int8"),
        "time_utc": "2026-11-25T23:55:35.801Z",
        "bytes": 5,
        "mtime_ns": 1795650933661373543,
    }
    return Prediction(**{**values, **changes})


def rejected(path: str = "b.png") -> Prediction:
    return prediction(
        path, status="rejected", label=None, probabilities={}, logits={}, error_code="blank", error_message="grey",
        width=None, height=None, bits=None,
    )  # fmt: skip


def abstained(path: str = "c.png", ood: float = 3.5) -> Prediction:
    return prediction(path, status="abstained", label=None, ood_score=ood)


def record(**changes: Any) -> dict[str, Any]:
    return {**prediction().to_record(LABELS), **changes}


def journal(folder: Path, *records: dict[str, Any] | str) -> Path:
    path = folder / "records.jsonl"
    path.write_text("".join(r if isinstance(r, str) else to_line(r) for r in records))
    return path


def test_what_is_written_is_read_from_json_lines_and_from_csv(tmp_path: Path) -> None:
    written = [prediction("café\udce9.png"), rejected(), abstained()]
    path = journal(tmp_path, *(p.to_record(LABELS) for p in written))
    found = reader.read(path)
    assert (found.labels, found.torn, found.name) == (LABELS, 0, "records.jsonl")
    assert [(row.path, row.status, row.label, row.confidence) for row in found.rows] == [
        ("café\udce9.png", "scored", "normal", 0.9),
        ("b.png", "rejected", None, None),
        ("c.png", "abstained", None, None),
    ]
    assert (found.rows[1].code, found.rows[1].message, found.rows[1].probabilities) == ("blank", "grey", ())
    assert (found.rows[2].ood_score, found.rows[2].probabilities) == (3.5, (0.1, 0.9))
    assert dict(zip(reader.MADE, found.rows[0].made, strict=True))["model"] == "tiny 1"
    table = io.StringIO(newline="")
    write_csv(table, (p.to_record(LABELS) for p in written), LABELS)
    (tmp_path / "records.csv").write_bytes(table.getvalue().encode("utf-8", "surrogateescape"))
    assert reader.read(tmp_path / "records.csv").rows == found.rows


@pytest.mark.parametrize(("schema", "lacks"), [(1, ("bytes", "mtime_ns", "rendering")), (2, ("rendering",)), (3, ())])
def test_records_of_earlier_schemas_are_read(tmp_path: Path, schema: int, lacks: tuple[str, ...]) -> None:
    later = ("abstention", "abstain_at")  # of schema 4
    old = {key: value for key, value in record(schema=schema).items() if key not in (*lacks, *later)}
    (row,) = reader.read(journal(tmp_path, old)).rows
    assert (row.path, row.label, row.rendering, row.made[0]) == ("a.png", "normal", None, schema)


def test_a_column_that_is_not_known_is_let_be_and_a_later_schema_is_refused(tmp_path: Path) -> None:
    assert len(reader.read(journal(tmp_path, record(another=1))).rows) == 1
    with pytest.raises(UsageError, match=rf"schema 1 to {SCHEMA} are read, a later .* {SCHEMA + 1}: line 2"):
        reader.read(journal(tmp_path, record(), record(schema=SCHEMA + 1)))


@pytest.mark.parametrize("left", ['{"schema": 3, "pa', "\0\0\0\0", '{"schema": 3\0\0\n', "\0\n\0"])
def test_a_torn_last_line_is_left_out_and_counted(tmp_path: Path, left: str) -> None:
    found = reader.read(journal(tmp_path, record(), left))
    assert (len(found.rows), found.torn) == (1, len(left))


@pytest.mark.parametrize(
    "line",
    [
        "garbage\n",
        "[1, 2]\n",
        "{}\n",
        "[" * 100_000 + "\n",
        '{"schema": 3, "path\0\n',  # torn, and a line follows
        to_line(record(status="perhaps")),
        to_line(record(label="other")),
        to_line(record(label=None)),
        to_line(record(p_covid=1.5)),
        to_line(record(p_covid=None)),
        to_line(record(p_covid=10**400)),
        to_line(record(path=["a"])),
        to_line(record(width=1.5)),
        to_line(record(error="blank")),
        to_line(record(p_other=0.0)),
        to_line(record()).replace("0.9", "NaN"),
        "x" * (reader.MAX_LINE + 1) + "\n",
    ],
    ids=lambda line: line[:30] if "schema" not in line else None,
)
def test_what_is_no_record_is_one_sentence_with_its_line(tmp_path: Path, line: str) -> None:
    path = journal(tmp_path, record(), line, record())
    with pytest.raises(UsageError, match="line 2 of ") as told:
        reader.read(path)
    assert len(str(told.value)) < 300 + len(str(path))


def test_a_file_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no record"):
        reader.read(journal(tmp_path))
    with pytest.raises(UsageError, match="holds no record"):
        reader.read(journal(tmp_path, '{"schema": 3, "path": "half'))
    for path in (tmp_path, tmp_path / "absent.jsonl"):
        with pytest.raises(UsageError, match="and this is none"):
            reader.read(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("scored", "perhaps"),
        lambda text: text.replace(",100,", ",wide,"),
        lambda text: text + "a,b\r\n",
        lambda text: text.replace("0.9", "nan"),
    ],
)
def test_a_damaged_csv_is_refused(tmp_path: Path, spoil: Any) -> None:
    table = io.StringIO(newline="")
    write_csv(table, [record()], LABELS)
    (tmp_path / "r.csv").write_text(spoil(table.getvalue()), newline="")
    assert spoil(table.getvalue()) != table.getvalue()
    with pytest.raises(UsageError, match=r"line [23] of "):
        reader.read(tmp_path / "r.csv")


def test_too_many_records_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_ROWS", 2)
    assert len(reader.read(journal(tmp_path, record(), record())).rows) == 2
    with pytest.raises(UsageError, match="2 records at most"):
        reader.read(journal(tmp_path, record(), record(), record()))


def test_rows_of_one_run_share_what_made_them(tmp_path: Path) -> None:
    first, second = reader.read(journal(tmp_path, record(), record(path="b"))).rows
    assert first.made is second.made


def test_the_journal_of_an_unfinished_run_is_read(tmp_path: Path) -> None:
    part = tmp_path / "records.csv.part"
    part.write_text(json.dumps(record()) + "\n")
    assert len(reader.read(part).rows) == 1
