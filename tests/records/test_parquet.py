"""Parquet records: the rows of the CSV with types, and back again."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tiny
from common import command_line, noisy
from edgecxr.errors import UnavailableError, UsageError
from edgecxr.records import output as recording
from edgecxr.records import parquet, reader
from edgecxr.records.formats import csv_columns

EXPECTED = {
    "path": pa.string(),
    "bytes": pa.int64(),
    "p_covid": pa.float64(),
    "logit_normal": pa.float64(),
    "ood_score": pa.float64(),
    "width": pa.int32(),
    "time_utc": pa.timestamp("ms", tz="UTC"),
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> dict[str, Path]:
    """The same five files as JSON lines, CSV and Parquet: three pictures, a cut one, one of a name in Latin-1."""
    root = tmp_path_factory.mktemp("parquet")
    (root / "in").mkdir()
    for index in range(3):
        Image.fromarray(noisy((96, 80), index)).save(root / "in" / f"{index}.png")
    good = (root / "in" / "0.png").read_bytes()
    (root / "in" / "cut.png").write_bytes(good[:300])
    (root / "in" / "Andr\udce9.png").write_bytes(good)
    made = {name: root / f"r.{name}" for name in ("jsonl", "csv", "parquet")}
    for path in made.values():
        assert command_line(["infer", str(root / "in"), "-m", str(tiny_bundle), "-o", str(path), "-q"]).returncode == 1
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_holds_the_records_with_types(outputs: dict[str, Path]) -> None:
    found = pq.read_table(outputs["parquet"])
    expected = lines(outputs["jsonl"])
    assert found.column_names == csv_columns(tiny.LABELS)
    assert {name: found.schema.field(name).type for name in EXPECTED} == EXPECTED
    for row, record in zip(found.to_pylist(), expected, strict=True):
        error = record.pop("error") or {}
        record |= {"error_code": error.get("code"), "error_message": error.get("message")}
        record["path"] = record["path"].replace("\udce9", r"\udce9")
        assert abs((row.pop("time_utc") - datetime.now(UTC)).total_seconds()) < 3600
        del record["time_utc"]
        assert row == record  # floats to the last bit


def test_the_metadata_say_the_schema_and_what_made_them(outputs: dict[str, Path]) -> None:
    said = {k.decode(): json.loads(v) for k, v in pq.read_metadata(outputs["parquet"]).metadata.items() if b"edge" in k}
    first = lines(outputs["jsonl"])[0]
    assert (said.pop("edgecxr.schema"), said.pop("edgecxr.labels")) == (first["schema"], list(tiny.LABELS))
    assert said == {f"edgecxr.{name}": first[name] for name in parquet.MADE}


def test_it_is_read_back_whole(outputs: dict[str, Path]) -> None:
    times = [row["time_utc"] for row in parquet.read(outputs["parquet"])]
    again = [{**row, "time_utc": ""} for row in parquet.read(outputs["parquet"], tiny.LABELS)]
    assert again == [{**record, "time_utc": ""} for record in lines(outputs["jsonl"])]
    assert all(len(time) == len("2026-01-02T03:04:05.678Z") and time.endswith("Z") for time in times)
    # What report shows is what it shows of JSON lines.
    rows = [(row.path, row.probabilities, row.code, row.made) for row in reader.read(outputs["parquet"]).rows]
    assert rows == [(row.path, row.probabilities, row.code, row.made) for row in reader.read(outputs["jsonl"]).rows]


def test_many_records_are_as_many_rows(
    outputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS", 2)
    records = lines(outputs["jsonl"])
    with (tmp_path / "r.parquet").open("wb") as file:
        parquet.write(file, (dict(record) for record in records), tiny.LABELS)
    assert pq.ParquetFile(tmp_path / "r.parquet").num_row_groups == 3
    assert list(parquet.read(tmp_path / "r.parquet", tiny.LABELS)) == records
    with (tmp_path / "none.parquet").open("wb") as file:
        parquet.write(file, [], tiny.LABELS)
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_a_finished_one_is_gone_on_with(
    outputs: dict[str, Path], tiny_bundle: Path, edgecxr: Callable[..., Any], tmp_path: Path
) -> None:
    copy = tmp_path / "r.parquet"
    copy.write_bytes(outputs["parquet"].read_bytes())
    done = edgecxr("infer", outputs["csv"].parent / "in", "-m", tiny_bundle, "-o", copy, "--resume")
    assert done.returncode == 1 and "5 records were there already" in done.stderr
    assert copy.read_bytes() == outputs["parquet"].read_bytes()


@pytest.mark.parametrize("spoil", [lambda data: b"notes", lambda data: data[:-9], lambda data: data[:40] + data[90:]])
def test_what_is_none_is_refused_and_left(
    outputs: dict[str, Path], tiny_bundle: Path, edgecxr: Callable[..., Any], tmp_path: Path, spoil: Any
) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(spoiled := spoil(outputs["parquet"].read_bytes()))
    for arguments in (("infer", outputs["csv"].parent / "in", "-m", tiny_bundle, "--resume", "-o", path),
                      ("report", path, "-o", tmp_path / "page.html")):  # fmt: skip
        done = edgecxr(*arguments)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert path.read_bytes() == spoiled and [file.name for file in tmp_path.iterdir()] == ["r.parquet"]


def test_another_table_is_refused(outputs: dict[str, Path], tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UsageError, match="other columns"):
        reader.read(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="other columns"):
        list(parquet.read(outputs["parquet"], ("a", "b")))


def test_a_full_disk_leaves_the_journal(
    outputs: dict[str, Path], tiny_bundle: Path, edgecxr: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa.parquet.ParquetWriter, "write_table", full)
    output = tmp_path / "r.parquet"
    done = edgecxr("infer", outputs["csv"].parent / "in", "-m", tiny_bundle, "-o", output)
    assert done.returncode == 70 and "No space left" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet.part"]
    assert len(lines(tmp_path / "r.parquet.part")) == 5


def test_without_pyarrow_it_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UnavailableError, match=r"edgecxr\[parquet\]"):
        recording.check(tmp_path / "r.parquet", overwrite=False, going_on=False)
