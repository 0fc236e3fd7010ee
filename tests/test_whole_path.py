"""The whole path through the command line, as a user walks it: train, export, verify, infer, eval, bench."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edgecxr_export.phantoms import draw

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
@pytest.mark.lab
def test_from_labelled_pictures_to_records(edgecxr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecxr_export.int8.ways.CHANGES", ())  # the first way to quantize is as good a path
    for label, first in (("normal", 0), ("other", 100)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for seed in range(first, first + 20):
            film = draw((100, 90), seed)
            Image.fromarray(film if label == "normal" else 255 - film).save(tmp_path / "data" / label / f"{seed}.png")

    def step(*arguments: object) -> str:
        result = edgecxr(*arguments, timeout=600)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        return result.stdout

    cache = ("--cache", tmp_path / "cache")
    weights = (
        "--backbone-weights",
        "none",
        "--recipe",
        "seed",
        "--epochs",
        1,
        "--input-size",
        96,
        "--middle-blocks",
        1,
    )
    refused = edgecxr("train", tmp_path / "data", "-o", tmp_path / "run", "--learning-rate", "nan")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    step("train", tmp_path / "data", "-o", tmp_path / "run", *weights, "--learning-rate", 5e-4, *cache)
    (stage,) = json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["stages"]
    assert (stage["epochs"], stage["learning_rate"]) == (1, 5e-4)
    bundle = tmp_path / "made.edgecxr"
    step("export", tmp_path / "run", "-o", bundle, "--name", "made", "--note", "drawn", *cache)
    assert "made 0.1.0" in step("info", bundle)
    checks = json.loads(step("verify", bundle, "--json"))
    assert checks["passed"]
    assert {check["precision"] for check in checks["golden"]} >= {"fp32", "int8"}
    step("infer", tmp_path / "data", "-m", bundle, "-o", tmp_path / "out.jsonl")
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(records) == 40
    assert {record["status"] for record in records} <= {"scored", "abstained"}
    assert {record["abstention"] for record in records} == {"bundle"}
    assert json.loads(step("eval", bundle, tmp_path / "data", "--json"))["accuracy"]["total"] == 40
    report = json.loads(step("bench", tmp_path / "data", "-m", bundle, "--seconds", 1, "--json"))
    assert {row["precision"] for row in report["results"]} == {"fp32", "int8"}
    refused = edgecxr("export", tmp_path / "run", "-o", bundle, *cache)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
