"""Abstention at export: what may be learnt from, the terms that the card quotes, and thresholds for every engine."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from common import noisy
from edgecxr.engines import Outputs
from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, Example
from edgecxr.lab.outliers import read_outliers
from edgecxr.pictures.preprocess import Contract
from edgecxr_export import abstaining
from edgecxr_export.labelled import DECIDING, Labelled

pytestmark = pytest.mark.lab

CONTRACT = Contract(height=32, width=32)
ROWS = (  # file, kind, near, use, source, licence
    ("a.png", "hand", "0", "fit", "A", "CC BY 4.0 https://example.org/1"),
    ("b.png", "hand", "0", "fit", "A", "CC BY 4.0 https://example.org/2"),
    ("c.png", "lateral", "1", "fit", "B", ""),
    ("d.png", "lateral", "1", "report", "B", "CC0"),
    ("e.png", "film", "0", "control", "C", "CC0"),
    ("f.png", "hand", "0", "fit", "A", "CC0"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, (file, *_) in enumerate(ROWS):
        Image.fromarray(noisy((64, 64), seed)).save(tmp_path / file)
    (tmp_path / "f.png").write_bytes(b"no picture")
    lines = [",".join(row) for row in (("file", "kind", "near", "use", "source", "licence"), *ROWS)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def film(path: Path, split: str = "train", source: str = "S") -> Example:
    return Example(path, path.name, "normal", split, path.name, {"source": source, "origin": "O"})


def test_only_what_may_be_learnt_from_is_decoded(folder: Path) -> None:
    found = abstaining.decoded(folder, read_outliers(folder), [], CONTRACT)
    assert [outlier.file for outlier in found.outliers] == ["a.png", "b.png", "c.png"]
    assert (found.pictures.shape, found.rejected, found.name) == ((3, 32, 32), 1, folder.name)


def test_a_film_among_the_outliers_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"an outlier may not be one of the labelled films, 1 are, the first is c.png"):
        abstaining.decoded(folder, read_outliers(folder), [film(folder / "c.png", "test")], CONTRACT)


def test_nothing_to_learn_from_is_refused(folder: Path) -> None:
    outliers = [outlier for outlier in read_outliers(folder) if outlier.use != "fit"]
    with pytest.raises(DataError, match="outliers to learn from are expected, none of 2 can be used"):
        abstaining.decoded(folder, outliers, [], CONTRACT)


def labelled(dev: int = 12) -> Labelled:
    """`dev` films in dev, as many in test, of two sources in turn."""
    examples = [
        film(Path(f"{split}{number}.png"), split, "ST"[number % 2])
        for split in ("train", "dev", "test")
        for number in range(dev)
    ]
    pictures = np.arange(len(examples), dtype=np.uint8)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
    return Labelled(Dataset(Path(), ("normal",), tuple(examples)), pictures)


def test_the_report_says_on_what_it_was_fitted(folder: Path) -> None:
    about = abstaining.fitted_on(labelled(), abstaining.decoded(folder, read_outliers(folder), [], CONTRACT))
    assert about["films"] == 12
    assert [row["pictures"] for row in about["altered"]] == [12] * 6
    assert about["outliers"]["rejected"] == 1
    assert about["outliers"]["kinds"] == [
        {"kind": "hand", "near": False, "source": "A", "terms": ["CC BY 4.0"], "pictures": 2},
        {"kind": "lateral", "near": True, "source": "B", "terms": ["none stated"], "pictures": 1},
    ]
    assert abstaining.fitted_on(labelled(), None)["outliers"] is None


@dataclass
class Engine:
    """Its `ood` is a picture's grey level, plus something of its own."""

    name: str
    more: float = 0.0
    threads: int = 1

    def run(self, images: np.ndarray) -> Outputs:
        grey = images[:, 0, 0].astype(np.float32)  # (N, 1)
        return Outputs(
            np.zeros((len(images), 3), np.float32), np.zeros((len(images), 1, 1, 3), np.float32), grey + self.more
        )


@dataclass
class File:
    file: str = "model.fp32.onnx"
    format: str = "onnx"
    precision: str = "fp32"
    engine: Engine = field(default_factory=lambda: Engine("onnxruntime"))

    def open(self, name: str, precision: str, threads: int) -> Engine:
        return Engine(name, 100.0 if precision == "bf16" else 10.0)


@dataclass
class Measured:
    artifact: File
    ood: dict[str, Any]


def test_every_engine_has_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
    monkeypatch.setattr(abstaining, "openings", lambda artifact: kinds)
    data = labelled()
    deciding = data.rows(DECIDING)
    measured: Any = [Measured(File(), {DECIDING: np.float32(deciding), "test": np.float32(data.rows("test"))})]
    console = Console(file=io.StringIO())
    found = abstaining.settle(measured, data, abstaining.fitted_on(data, None), console)
    largest = max(deciding)
    assert [row.threshold for row in found.said.thresholds] == pytest.approx(
        [largest, largest + 10, largest + 100], abs=1e-3
    )
    assert (found.manifest["split"], found.manifest["pictures"]) == ("dev", 6)
    assert found.manifest["kept"] == pytest.approx(6 / 7)  # six films can't promise more
    said = json.loads(found.metadata(measured[0].artifact))
    assert said["thresholds"] == pytest.approx({"onnxruntime": largest, "openvino": largest + 10}, abs=1e-3)
    report = abstaining.report(found, measured, data)
    assert (report["split"], report["test"][0]["engine"]) == (DECIDING, "onnxruntime")
    # The twelve test films are rows 24 to 35, all above any of dev.
    assert [(row["source"], row["abstained"], row["pictures"]) for row in report["test"][0]["sources"]] == [
        ("S", 6, 6),
        ("T", 6, 6),
    ]
