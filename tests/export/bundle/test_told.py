"""A bundle's card can tell what was measured with the bundle; what was exported stays to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from common import ROOT
from edgecxr import cli
from edgecxr.bundle import Bundle, load, manifest_digest
from edgecxr.errors import UsageError
from edgecxr_export.bundle import told

RESULTS = ROOT / "benchmarks" / "results"
GIVEN = ("reports/other-source-", "reports/left-out-", "reports/audit-")
AUDIT = json.loads((RESULTS / "audit-siim.json").read_text())


@pytest.fixture(scope="module")
def full() -> Bundle:
    return load(Path("full"))


def elsewhere(bundle: Bundle, **changes: Any) -> dict[str, Any]:
    """A report of `edgecxr eval` on another source: the bundle's own on test, with what a bundle's has besides."""
    report = json.loads(bundle.read("reports/evaluation.json"))["models"][-1]
    about = {
        "data": "somewhere",
        "where": {"ward": "7"},
        "rejected": [],
        "precision": "int8",
        "model": f"{bundle.name} {bundle.version}",
        "schema": told.EVALUATION_SCHEMA,
    }
    origins = [{**row, "origin": "a new place"} for row in report["by_origin"]]
    return {**report, **about, "by_origin": origins, **changes}


def test_all_but_card_and_reports_stays_to_the_byte(full: Bundle) -> None:
    left_out = elsewhere(full, model="run without-siim")
    made = told.contents(
        full, notes=["Said later."], other_sources=[elsewhere(full)], left_out=[left_out], audits=[AUDIT]
    )
    manifest = json.loads(made["bundle.json"])
    assert manifest["digest"] == manifest_digest(manifest) != full.digest
    same = {key: value for key, value in full.manifest.items() if key not in ("files", "provenance", "digest")}
    assert {key: manifest[key] for key in same} == same
    for file in full.files:
        # The reports of before are there to the byte but for those of the kinds that were given.
        if file != "MODEL_CARD.md" and not file.startswith(GIVEN):
            assert made[file] == full.read(file)
    card = made["MODEL_CARD.md"].decode()
    place = card.index("## Another source: the int8 artifact on somewhere, ward = 7")
    assert card.index("## Intended use") < place < card.index("## Accuracy, all classes")
    first = card.index("## A source left out of another fit: run without-siim on somewhere, ward = 7")
    assert card.index("## Intended use") < first < place
    assert "not of this model, whose fit did" in card[first:place]
    assert "| sources | source = siim | covid, normal | 68.9% | 66.7%–71.0% | 50.0% | 1800 |" in card
    assert [*full.manifest["provenance"]["notes"], "Said later."] == manifest["provenance"]["notes"]
    assert "- Said later." in card


def test_what_is_not_given_stays_as_it_is_told(full: Bundle, tmp_path: Path) -> None:
    first = told.contents(full, other_sources=[elsewhere(full)], audits=[AUDIT])
    folder = tmp_path / "first.edgecxr"
    for file, content in first.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    again = told.contents(load(folder), notes=["More."])
    changed = {file for file in first if again[file] != first[file]}
    assert changed == {"MODEL_CARD.md", "bundle.json"}
    assert again["MODEL_CARD.md"].decode().replace("- More.\n", "") == first["MODEL_CARD.md"].decode()


def call(*arguments: object) -> BaseException | None:
    return CliRunner().invoke(cli.app, ["export", *map(str, arguments)]).exception


@pytest.fixture
def report(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "report.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_the_command_writes_it_whole_and_checks_it(
    full: Bundle, tmp_path: Path, report: Callable[[dict[str, Any]], Path]
) -> None:
    output = tmp_path / "told.edgecxr"
    assert call(full.path, "-o", output, "--other-source", report(elsewhere(full))) is None
    assert "reports/other-source-1.json" in load(output).files
    again = call("full", "-o", output, "--note", "again")
    assert isinstance(again, UsageError)
    assert "--overwrite" in str(again)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "another 1.0"}, "the report must be of xception-cxr .*, got one of another 1.0"),
        ({"schema": 1}, "a report on another source must be one of edgecxr eval, schema 2"),
        ({"operating_points": 7}, "is of another version of edgecxr"),
    ],
)
def test_a_report_that_does_not_fit_is_one_sentence(
    full: Bundle, tmp_path: Path, report: Callable[[dict[str, Any]], Path], changes: dict[str, Any], words: str
) -> None:
    found = call(full.path, "-o", tmp_path / "t.edgecxr", "--other-source", report(elsewhere(full, **changes)))
    with pytest.raises(UsageError, match=words):
        raise found or AssertionError
    assert not (tmp_path / "t.edgecxr").exists()


def test_what_a_bundle_does_not_go_with_is_one_sentence(tmp_path: Path) -> None:
    bundle, output = tiny.write_bundle(tmp_path / "tiny.edgecxr"), tmp_path / "t.edgecxr"
    for arguments, words in (
        ((), "what its card is to tell: --other-source, --left-out, --audit, --twins or --note; got a bundle"),
        (("--data", tmp_path, "--note", "x"), "of a bundle there is nothing for these options to do: --data"),
        (("--note", "x"), "a card is made of reports, and the bundle has none of its training"),
    ):
        with pytest.raises(UsageError, match=words):
            raise call(bundle, "-o", output, *arguments) or AssertionError
