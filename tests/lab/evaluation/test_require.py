"""`edgecxr eval --require` as it is called: table, JSON, page and exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from edgecxr.cli import app
from edgecxr.errors import GateError, UsageError


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 films of each of two classes that the tiny network tells apart, all but five dark ones of covid."""
    folder = tmp_path_factory.mktemp("data") / "local"
    for place, (label, grey) in enumerate((("covid", 140), ("normal", 20))):
        (folder / label).mkdir(parents=True)
        for number in range(50):
            level = 20 if label == "covid" and number < 5 else grey
            noise = np.random.default_rng([place, number]).normal(level, 5, (70, 64)).clip(0, 255)
            Image.fromarray(noise.astype(np.uint8)).save(folder / label / f"{number:02}.png")
    return folder


def test_a_bundle_that_is_good_enough_passes(tiny_bundle: Path, films: Path, tmp_path: Path) -> None:
    wanted = ("--require", "sensitivity(covid)>=0.75", "--require", "specificity(covid)>=0.9")
    page = tmp_path / "e.html"
    result = call(tiny_bundle, films, *wanted, "-o", page)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.rstrip().splitlines()[-1].strip() == "acceptance: passed"
    assert "<b>Passed</b> on 100 films." in page.read_text()
    assert "sensitivity(covid)&gt;=0.75" in page.read_text()


def test_one_that_isn_t_fails_with_its_reports_written(tiny_bundle: Path, films: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "e.json", tmp_path / "e.html"]
    wanted = ("--require", "sensitivity(covid)>=0.9", "--require", "accuracy>=0.85", "--require", "ppv(covid)>=0.99")
    result = call(tiny_bundle, films, *wanted, *(part for path in outputs for part in ("-o", path)))
    assert isinstance(result.exception, GateError)
    assert result.exception.exit_code == 5
    message = str(result.exception)
    assert "sensitivity(covid) is 0.900, the lower bound 0." in message
    assert "ppv(covid) at least 0.99 can't be decided, there are 45 groups (patients) and 381 are needed" in message
    assert "accuracy" not in message
    assert "acceptance: FAILED" in result.stdout
    verdict = json.loads(outputs[0].read_text())["acceptance"]
    assert (verdict["passed"], verdict["pictures"]) == (False, 100)
    assert [row["passed"] for row in verdict["requirements"]] == [False, True, False]
    assert "<b>Failed</b>" in outputs[1].read_text()


def test_the_verdict_stands_in_json_too(tiny_bundle: Path, films: Path) -> None:
    found: dict[str, Any] = json.loads(call(tiny_bundle, films, "--json", "--require", "accuracy>=0.8").stdout)
    (row,) = found["acceptance"]["requirements"]
    assert row["deciding"] == row["interval95"][0] == found["accuracy"]["interval95"][0]
    assert json.loads(call(tiny_bundle, films, "--json").stdout)["acceptance"] is None


def test_a_film_that_can_t_be_read_isn_t_found(tiny_bundle: Path, films: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    for file in films.rglob("*.png"):
        target = folder / file.relative_to(films)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"no film" if file.parent.name == "covid" and file.stem >= "10" else file.read_bytes())
    result = call(tiny_bundle, folder, "--json", "--require", "sensitivity(covid)>=0.5")
    verdict = json.loads(result.stdout)["acceptance"]
    assert (verdict["rejected"], verdict["requirements"][0]["value"]) == (40, 0.1)
    assert isinstance(result.exception, GateError)


@pytest.mark.parametrize(
    ("text", "words"), [("sensitivity 0.9", "got 'sensitivity 0.9'"), ("auroc(flu)>=0.9", "class of the model")]
)  # fmt: skip
def test_what_can_t_be_asked_is_refused_before_a_film_is_scored(
    tiny_bundle: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setattr("edgecxr.lab.evaluation.stored.open_session", lambda *_, **__: pytest.fail("opened"))
    result = call(tiny_bundle, films, "--require", text, "-o", tmp_path / "e.json")
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert not list(tmp_path.iterdir())
