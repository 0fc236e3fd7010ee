"""What a worker makes: the rows of `infer`, of local files and of stores alike, whatever way its bundle came."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

import edgecxr
import tiny
from edgecxr.bundle import load
from edgecxr.cluster import listing
from edgecxr.cluster.worker import Parcel, Settings, Worker, pack
from edgecxr.errors import BundleError, UnavailableError
from edgecxr.records.formats import csv_columns
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session

parquet = pytest.importorskip("pyarrow.parquet")


def parcel_of(path: Path, *, golden: bool = False) -> Parcel:
    bundle = load(path)
    files = {name: partial(bytes, data) for name, data in pack(bundle, golden=golden).items()}
    return Parcel(bundle.path.name, bundle.digest, files)


def lines_of(folder: Path, found: list[str]) -> bytes:
    folder.mkdir(exist_ok=True)
    count, _, sha256 = listing.write(folder, listing.find(found))
    ((_, lines),) = listing.parts(folder, count, {0}, sha256)
    return lines


def rows_of(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
    return rows


@pytest.fixture
def films(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    for seed in range(3):
        picture(f"in/{seed}.png", seed=seed)
    (tmp_path / "in" / "1-cut.png").write_bytes((tmp_path / "in" / "0.png").read_bytes()[:300])
    (tmp_path / "in" / "2-empty.png").write_bytes(b"")
    return tmp_path / "in"


def test_records_are_those_of_infer(tmp_path: Path, tiny_bundle: Path, films: Path) -> None:
    settings = Settings(edgecxr.__version__, str(tmp_path), stores=(f"file://{films}",))
    worker = Worker(settings, parcel_of(tiny_bundle))
    lines = lines_of(tmp_path / "l", [str(films), f"file://{films}"])
    part = worker.score(0, 10, lines)
    session = open_session(load(tiny_bundle), workers=1, threads=1)
    paths = sorted(films.iterdir())
    expected = [prediction.to_record(session.bundle.labels) for prediction in pipeline.stream(session, paths)]
    rows = rows_of(part.parquet)
    assert list(rows[0]) == csv_columns(session.bundle.labels)
    for row, record in zip(rows[:5], expected, strict=True):
        error = record.pop("error") or {"code": None, "message": None}
        record |= {"error_code": error["code"], "error_message": error["message"], "time_utc": row["time_utc"]}
        assert row == record
    for local, stored in zip(rows[:5], rows[5:], strict=True):  # the same but for its name
        assert stored["path"] == f"file://{local['path']}"
        skip = {"path", "time_utc"} | ({"bytes", "mtime_ns"} if local["error_code"] == "empty" else set())
        assert {name: stored[name] for name in stored if name not in skip} == {
            name: local[name] for name in local if name not in skip
        }
    assert part.records == 10
    assert part.statuses == {"scored": 6, "rejected": 4}
    assert sum(part.labels.values()) == 6
    assert part.again == 0
    assert part.made_by == session.provenance.__dict__


def test_what_cannot_be_read_is_counted_for_another_run(tmp_path: Path, tiny_bundle: Path, films: Path) -> None:
    lines = lines_of(tmp_path / "l", [str(films)])
    (films / "0.png").unlink()
    part = Worker(Settings(edgecxr.__version__, str(tmp_path)), parcel_of(tiny_bundle)).score(0, 5, lines)
    assert part.again == 1
    assert [row["error_code"] for row in rows_of(part.parquet)][:2] == ["unreadable", "corrupt"]


def test_names_are_kept_out_by_hash_with_positions_of_the_whole_run(
    tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    lines = lines_of(tmp_path / "l", [str(films)])
    (films / "0.png").unlink()
    part = Worker(Settings(edgecxr.__version__, str(tmp_path), name_by="hash"), parcel_of(tiny_bundle)).score(
        3, 5, lines
    )
    rows = rows_of(part.parquet)
    assert rows[0]["path"] == "unread:16"  # 3 * 5 before it
    assert rows[1]["path"] == f"sha256:{rows[1]['sha256']}"
    assert {row["mtime_ns"] for row in rows} == {None}


def test_a_relative_path_means_the_same_at_the_worker(
    tmp_path: Path, tiny_bundle: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = lines_of(tmp_path / "l", ["in"])
    monkeypatch.chdir("/")
    part = Worker(Settings(edgecxr.__version__, str(tmp_path)), parcel_of(tiny_bundle)).score(0, 5, lines)
    assert rows_of(part.parquet)[0]["path"] == "in/0.png"
    assert part.statuses["scored"] == 3


def test_a_bundle_comes_by_name_in_pieces_or_as_a_lone_network(tmp_path: Path, tiny_bundle: Path) -> None:
    assert pack(load("full")) == pack(load("edge")) == {}
    assert "bundle.json" in pack(load(tiny_bundle))
    assert any(name.startswith("golden/") for name in pack(load(tiny_bundle), golden=True))
    Worker(Settings(edgecxr.__version__, str(tmp_path), self_test=True), parcel_of(tiny_bundle, golden=True))
    lone = tmp_path / "lone.onnx"
    model, said = onnx.load_from_string(tiny.tiny_model()), load(tiny_bundle).manifest
    wanted = {key: said[key] for key in ("name", "version", "labels", "preprocessing", "temperature")}
    onnx.helper.set_model_props(model, {f"edgecxr.{key}": json.dumps(value) for key, value in wanted.items()})
    lone.write_bytes(model.SerializeToString())
    parcel = parcel_of(lone)
    assert list(parcel.files) == [lone.name]
    Worker(Settings(edgecxr.__version__, str(tmp_path)), parcel)


def test_a_node_with_another_version_or_bundle_is_told(tmp_path: Path, tiny_bundle: Path) -> None:
    parcel = parcel_of(tiny_bundle)
    with pytest.raises(UnavailableError, match=r"expected edgecxr 0\.0 on every node"):
        Worker(Settings("0.0", str(tmp_path)), parcel)
    with pytest.raises(BundleError, match="expected the bundle of sha256 abab"):
        Worker(Settings(edgecxr.__version__, str(tmp_path)), Parcel("full", "ab" * 32))


def test_settings_travel(tmp_path: Path) -> None:
    settings = Settings(edgecxr.__version__, str(tmp_path), stores=("s3://a",))
    assert pickle.loads(pickle.dumps(settings)) == settings
