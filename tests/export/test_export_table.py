"""benchmarks/export_table.py: figures against the tiny network computed by hand, as a table and as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny
from common import ROOT, noisy
from edgecxr.bundle import load
from edgecxr.errors import UsageError
from edgecxr.lab.run import DESCRIPTION, WEIGHTS, Logits, write_logits
from edgecxr.pictures import decode as images

sys.path.insert(0, str(ROOT / "benchmarks"))

import export_table

COUNT = 4  # pictures a label


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    lines = ["file,label,split"]
    for place, label in enumerate(tiny.LABELS):
        (folder / label).mkdir()
        for number in range(COUNT):
            name = f"{label}/{number}.png"
            picture = noisy((80, 72), 10 * place + number) // (1 + number)
            Image.fromarray(picture.astype(np.uint8)).save(folder / name)
            lines += [f"{name},{label},{'test' if number else 'dev'}"]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def by_hand(data: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    files = [f"{label}/{number}.png" for label in tiny.LABELS for number in range(1, COUNT)]
    inputs = [images.network_input(data / file, tiny.CONTRACT) for file in files]
    classes = np.repeat(np.arange(3), COUNT - 1)
    return files, np.stack([tiny.tiny_logits(image) for image in inputs]).astype(np.float32), classes


def a_run(folder: Path, logits: Logits, labels: tuple[str, ...] = tiny.LABELS) -> Path:
    from edgecxr.lab.train.recipes import recipe

    folder.mkdir()
    write_logits(folder, {"test": logits})
    about: dict[str, Any] = {"schema": 1, "labels": list(labels), "recipe": recipe("default").to_json()}
    about |= {"preprocessing": tiny.CONTRACT.to_json()}
    (folder / DESCRIPTION).write_text(json.dumps(about))
    (folder / WEIGHTS).write_bytes(b"not read here")
    return folder


def test_the_table_against_a_run(tiny_bundle: Path, data: Path, tmp_path: Path) -> None:
    files, logits, classes = by_hand(data)
    moved = logits.copy()
    moved[0] = [0, 9, 0] if logits[0].argmax() != 1 else [9, 0, 0]  # the run's answer to one picture is another
    run = a_run(tmp_path / "run", Logits(tuple(files[::-1]), classes[::-1], moved[::-1]))  # in another order
    report = export_table.measure(load(tiny_bundle), data, run=run, seconds=0.1)
    assert report["pictures"] == 9
    assert {(row["artifact"], row["engine"]) for row in report["rows"]} == {
        (f"model.{p}.onnx", engine) for p in ("fp32", "int8") for engine in ("onnxruntime", "openvino")
    }
    for row in report["rows"]:
        assert row["flips"] == 1
        assert row["accuracy"] == pytest.approx((logits.argmax(axis=1) == classes).mean())
        assert row["max_dp"] > 0.5
        assert row["timing"]["p50_ms"] > 0
    text = export_table.markdown(report)
    assert text.count("| `model.int8.onnx` |") == 2
    assert "1 (11.11%)" in text
    assert str(tmp_path) not in json.dumps(report)


def test_without_a_run_the_fp32_file_is_the_reference(tiny_bundle: Path, data: Path) -> None:
    report = export_table.measure(load(tiny_bundle), data, limit=4, seconds=0.1)
    assert report["pictures"] == 4
    assert {row["flips"] for row in report["rows"] if row["engine"] == "onnxruntime"} == {0}
    assert report["reference"]["what"] == "model.fp32.onnx, onnxruntime"


def test_what_can_t_be_compared_is_said(tiny_bundle: Path, data: Path, tmp_path: Path) -> None:
    files, logits, classes = by_hand(data)
    bundle = load(tiny_bundle)
    with pytest.raises(UsageError, match="no pictures in the split train"):
        export_table.measure(bundle, data, split="train")
    fewer = a_run(tmp_path / "fewer", Logits(tuple(files[1:]), classes[1:], logits[1:]))
    with pytest.raises(UsageError, match=r"it has none of covid/1\.png"):
        export_table.measure(bundle, data, run=fewer)
    others = a_run(tmp_path / "others", Logits(tuple(files), classes, logits), ("a", "b", "c"))
    with pytest.raises(UsageError, match="labels must be the bundle's"):
        export_table.measure(bundle, data, run=others)
