"""Results as DICOM before programs of others: David Clunie's dciodvfy, and dcmtk's dsr2html."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import edgecxr
from clinic.films import film
from edgecxr.clinic import dicom_results
from edgecxr.scoring import pipeline

pytestmark = pytest.mark.peers


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"no {name} here; CONTRIBUTING.md says what brings it")
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report and the picture of a film, one of a film whose names are in two scripts, and one of an abstention."""
    classifier = edgecxr.Classifier(abstain=False)  # the film is drawn
    dicom, folder = film(), tmp_path_factory.mktemp("results")
    other = film(PatientName="Müller^Jörg=山田^太郎", SpecificCharacterSet="GB18030")
    prediction, evidence = pipeline.explain(classifier.session, dicom)
    assert evidence is not None and prediction.status == "scored"
    abstained = replace(prediction, status="abstained", label=None, ood_score=9.5)
    bundle, found = classifier.bundle, {}
    made = dict(zip(("report", "picture"), dicom_results(dicom, prediction, bundle, evidence=evidence), strict=True))
    made |= {"abstained": dicom_results(dicom, abstained, bundle)[0]}
    made |= {"names": dicom_results(other, classifier.predict(other), bundle)[0]}
    for name, result in made.items():
        found[name] = folder / f"{name}.dcm"
        found[name].write_bytes(result.data)
    return found


@pytest.mark.parametrize("name", ["report", "picture", "abstained", "names"])
def test_dciodvfy_finds_no_error(results: dict[str, Path], name: str) -> None:
    done = subprocess.run([tool("dciodvfy"), results[name]], capture_output=True, text=True, check=False, timeout=60)
    said = done.stdout + done.stderr
    assert {"picture": "SCImage"}.get(name, "Comprehensive3DSR") in said
    assert "Error" not in said, said


def test_dciodvfy_would_find_one(results: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "cut.dcm").write_bytes(results["report"].read_bytes().replace(b"UNVERIFIED", b"PERHAPS SO"))
    done = subprocess.run([tool("dciodvfy"), tmp_path / "cut.dcm"], capture_output=True, text=True, check=False)
    assert "Error" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("report", ["COVID-19", "Viral pneumonia", "Most probable class", "xception-cxr", "UNVERIFIED", "Jane Roe"]),
        ("abstained", ["Abstained from an answer", "9.5"]),
        ("names", ["Jörg Müller"]),
    ],
)
def test_dsr2html_shows_it(results: dict[str, Path], name: str, shown: list[str]) -> None:
    command = [tool("dsr2html"), results[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    for words in shown:
        assert words in done.stdout, words
    assert name != "abstained" or "COVID-19" not in done.stdout
