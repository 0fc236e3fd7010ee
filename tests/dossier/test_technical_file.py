"""The technical file: each claim with its source, bills of materials that are valid, and nothing where input is bad."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import tiny
from common import ROOT
from dossiers import Made
from edgecxr.bundle import NAMED, load
from edgecxr.dossier import evidence, hazards, page, sbom
from edgecxr.errors import UnavailableError
from edgecxr.system import storage

STATEMENT = "Research weights, no conformity claimed. Missing: intended use, clinical evidence, risk acceptance."


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def claims(data: dict[str, Any], section: str) -> dict[str, Any]:
    found = {row["claim"]: row for row in data["claims"] if row["section"].startswith(section)}
    assert found, {row["section"] for row in data["claims"]}
    return found


def test_its_first_line_says_what_it_is_not(made: Made) -> None:
    html = (made.whole / "technical-file.html").read_text()
    text = re.sub(r"<[^>]+>", "", html.partition("<body>")[2]).strip().splitlines()
    assert text[0] == STATEMENT
    assert (made.whole / "technical-file.json").read_text().splitlines()[1].strip() == f'"statement": "{STATEMENT}",'
    assert set(made.data(made.whole)["missing"]) == {"intended use", "clinical evidence", "risk acceptance"}


def test_each_claim_has_its_command_and_the_hash_of_what_it_is_from(made: Made) -> None:
    for folder in (made.measured, made.whole):
        data = made.data(folder)
        assert {path.name for path in folder.iterdir()} == {
            *data["files"],
            "technical-file.html",
            "technical-file.json",
        }
        assert data["files"] == {name: sha256(folder / name) for name in data["files"]}
        given = {file.name: sha256(file) for file in (made.evaluation, made.audit, made.measured / "bench.json")}
        bundle = {name: digest for name, (digest, _) in load(made.bundle).files.items()}
        known = {
            **bundle, **given, **data["files"], "bundle.json": sha256(made.bundle / "bundle.json"),
            "bundle.json of old.edgecxr": sha256(made.old / "bundle.json"),
        }  # fmt: skip
        for claim in data["claims"]:
            assert claim["sha256"] == known[claim["file"]], claim
            assert claim["command"].startswith("edgecxr ")
        html = (folder / "technical-file.html").read_text()
        assert all(digest in html for digest in {claim["sha256"] for claim in data["claims"]})
        assert sha256(folder / "technical-file.json") in html


def test_golden_answers_and_speed_are_of_here(made: Made) -> None:
    data = made.data(made.measured)
    golden = claims(data, "Golden answers")
    verified = json.loads((made.measured / "verify.json").read_text())
    assert verified["passed"] and golden["files with the listed hash"]["value"] == verified["files"]
    row = golden["model.int8.onnx in int8 on onnxruntime CPUExecutionProvider"]
    assert row["verdict"] == "good" and row["value"]["label_flips"] == 0
    assert row["command"] == "edgecxr verify new.edgecxr --engine onnxruntime --precision int8 --json"
    report = json.loads((made.measured / "bench.json").read_text())
    speed = claims(data, "Speed")["int8 on onnxruntime: a picture, file to answer, median"]
    assert speed["value"]["p50_ms"] == next(r["p50_ms"] for r in report["results"] if r["what"] == "picture")
    assert speed["command"].endswith("new.edgecxr --engine onnxruntime --precision int8 --seconds 1 -o bench.json")
    assert not (made.whole / "bench.json").exists()  # one was given
    assert claims(made.data(made.whole), "Speed")["measured"]["file"] == "bench.json"


def test_what_is_given_stands_in_it(made: Made) -> None:
    data, report = made.data(made.whole), json.loads(made.evaluation.read_text())
    rows = claims(data, "Evaluation on films")
    assert rows["accuracy, all classes"]["value"]["value"] == report["accuracy"]["value"]
    assert rows["required: accuracy>=0.99"]["verdict"] == "bad"
    assert rows["right answers less those of tiny 1: all classes"]["value"]["only_first"] == 0
    assert "--require" in rows["pictures"]["command"] and str(made.bundle.parent) not in rows["pictures"]["command"]
    audit = json.loads(made.audit.read_text())
    found = claims(data, "Audit of films")
    assert {finding["title"] for finding in audit["findings"]} <= set(found)
    assert "NOT MET" in (made.whole / "technical-file.html").read_text()


def test_no_file_of_the_films_is_named(made: Made) -> None:
    for path in made.whole.iterdir():
        assert not re.search(r"\d\.png|" + re.escape(str(made.bundle.parent)), path.read_text()), path


def test_what_changed_since_an_earlier_bundle_is_said(made: Made) -> None:
    found = {claim: row["value"] for claim, row in claims(made.data(made.whole), "Since tiny 1").items()}
    assert found["version"] == ["1", "2"] and found["temperature"] == [3.0, 2.0]
    assert found["operating point covid, sensitivity 0.9"] == [None, 0.25]
    assert found["trained: recipe"] == [None, "default"]
    assert found["abstains at, ood model.int8.onnx onnxruntime int8"] == [None, 40.0]
    assert "labels" not in found and "name" not in found  # the same
    assert found["golden answers of model.fp32.onnx on onnxruntime"] == {"max_dlogit": 0.0, "flips": 0, "pictures": 8}


@pytest.mark.parametrize("name", ["sbom.cdx.json", "mlbom.cdx.json"])
def test_bills_of_materials_are_valid_cyclonedx(made: Made, name: str) -> None:
    text = (made.whole / name).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"version"', '"edition"')) is not None


def test_the_runtime_that_is_installed_is_listed_and_nothing_of_the_lab(made: Made) -> None:
    document = json.loads((made.measured / "sbom.cdx.json").read_text())
    versions = {row["name"]: row.get("version") for row in document["components"]}
    for package in ("numpy", "pillow", "typer", "rich", "onnxruntime", "pydicom", "markdown-it-py"):
        assert versions[package] == metadata.version(package)
    assert not {"tensorflow", "keras", "onnx", "pytest", "jinja2"} & set(versions)
    assert document["metadata"]["component"]["name"] == "edgecxr"
    needs = {row["ref"]: row.get("dependsOn", []) for row in document["dependencies"]}
    assert f"numpy=={versions['numpy']}" in needs[f"edgecxr=={metadata.version('edgecxr')}"]
    assert f"markdown-it-py=={versions['markdown-it-py']}" in needs[f"rich=={versions['rich']}"]
    pillow = next(row for row in document["components"] if row["name"] == "pillow")
    assert any("jpeg" in row["name"].lower() for row in pillow["components"])  # its wheel says what it holds
    assert all(row.get("licenses") for row in document["components"] if row["type"] == "library")


def test_a_package_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="isn't one here"):
        sbom.sbom("edgecxr-of-nobody")


def test_the_models_files_and_card_are_in_its_bill(made: Made) -> None:
    model = json.loads((made.measured / "mlbom.cdx.json").read_text())["metadata"]["component"]
    hashes = {row["name"]: row["hashes"][0]["content"] for row in model["components"]}
    files = {path.relative_to(made.bundle).as_posix(): path for path in made.bundle.rglob("*") if path.is_file()}
    assert hashes == {name: sha256(path) for name, path in files.items()}
    assert (
        model["type"] == "machine-learning-model" and "licenses" not in model
    )  # what it isn't known to be, isn't said
    assert model["modelCard"]["considerations"]["technicalLimitations"][-1] == "<b>bold</b> & drawn"


@pytest.mark.parametrize("name", NAMED)
def test_an_embedded_models_evaluations_and_data_are_in_it(name: str) -> None:
    from edgecxr.dossier import mlbom, model

    bundle = load(name)
    own = model.own_evaluations(bundle)
    assert own and all(section.claims for section, _, _ in own)
    document = mlbom.mlbom(bundle, [(name, report) for _, name, report in own])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
    card = document["metadata"]["component"]["modelCard"]
    assert card["quantitativeAnalysis"]["performanceMetrics"] and card["modelParameters"]["datasets"]


def test_hazards_are_those_of_security_md_with_their_tests() -> None:
    rows = hazards.hazards(hazards.text())
    table = (ROOT / "SECURITY.md").read_text().partition("## Hazards")[2].partition("\n## ")[0]
    assert len(rows) == sum(line.startswith("| ") for line in table.splitlines()) - 1
    assert [test for row in rows for test in row.tests] == re.findall(r"tests/[\w/]+\.py::\w+", table)
    assert all(row.tests for row in rows)


def test_what_became_of_the_tests_stands_beside_them(
    made: Made, edgecxr: Callable[..., Any], tmp_path: Path, pytester_results: Path
) -> None:
    first, second, third = hazards.hazards(hazards.text())[0].tests[:3]
    text = pytester_results.read_text()
    for name, test in {"test_right": first, "test_wrong": second, "test_left": third}.items():
        file, _, function = test.removesuffix("]").partition(".py::")
        text = text.replace(
            f'classname="test_some" name="{name}', f'classname="{file.replace("/", ".")}" name="{function}'
        )
    (tmp_path / "tests.xml").write_text(text)
    call = ("report", made.bundle, "-o", tmp_path / "out", "--seconds", "0", "--engine", "onnxruntime")
    assert edgecxr(*call, "--with", tmp_path / "tests.xml").returncode == 0
    found = made.data(tmp_path / "out")["hazards"]
    assert [row["outcome"] for row in found["rows"][0]["tests"][:4]] == ["passed", "failed", "skipped", None]
    assert found["outcomes"]["sha256"] == sha256(tmp_path / "tests.xml")
    html = (tmp_path / "out" / "technical-file.html").read_text()
    assert f'{second} <b class="bad">failed</b>' in html and f'{third} <b class="warn">skipped</b>' in html


@pytest.fixture(scope="module")
def pytester_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pytest itself writes of a test that passes, one of whose cases fails, and one that is skipped."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_some.py").write_text(
        "import pytest\ndef test_right(): pass\n"
        "@pytest.mark.parametrize('n', [1, 0, 1])\ndef test_wrong(n): assert n\n"
        "@pytest.mark.skip\ndef test_left(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--junitxml", "r.xml"]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1
    return folder / "r.xml"


@pytest.mark.parametrize("text", ["", "<testsuites/>", "<a><testcase/></a>", "<!DOCTYPE a []><testsuites/>", "{}"])
def test_what_pytest_did_not_write_is_refused(
    made: Made, edgecxr: Callable[..., Any], tmp_path: Path, text: str
) -> None:
    done = edgecxr("report", made.bundle, "-o", tmp_path / "out", "--with", written(tmp_path / "a.xml", text))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and "pytest --junitxml" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


def test_what_a_card_says_is_text_and_leads_nowhere() -> None:
    found = str(
        page.markdown(
            "# A\n\n<script>x</script> [go](https://a.example) ![p](b.png) <http://c>\n\n|a|b|\n|-|-|\n|1|`2`|\n"
        )
    )
    assert "<h3>A</h3>" in found and "<code>2</code>" in found and 'role="region"' in found
    assert not re.search(r"<script|<a |<img|href|src=", found)


def test_markup_in_a_bundle_is_text(made: Made) -> None:
    html = (made.whole / "technical-file.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; drawn" in html and "<b>bold" not in html
    assert not re.search(r"<script|<link|<img|https?://", html)


def test_a_wrong_golden_answer_is_written_and_exit_5(edgecxr: Callable[..., Any], tmp_path: Path) -> None:
    bundle = tiny.write_bundle(tmp_path / "b.edgecxr", model=tiny.tiny_model(bias=tiny.BIAS + 1))
    done = edgecxr("report", bundle, "-o", tmp_path / "out", "--seconds", "0", "--engine", "onnxruntime")
    assert done.returncode == 5 and "golden answers are wrong here" in done.stderr
    html = (tmp_path / "out" / "technical-file.html").read_text()
    assert '<td class="bad">WRONG: logits at most 1 off' in html
    assert "Speed" not in html


def other(made: Made, tmp_path: Path) -> Path:
    report = json.loads(made.evaluation.read_text())
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**report, "bundle_sha256": "0" * 64}))
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (other, "another model (tiny 2)"),
        (
            lambda made, tmp: written(
                tmp / "a.json", made.evaluation.read_text().replace('"schema": 2', '"schema": 3')
            ),
            "of eval of schema 2",
        ),
        (lambda made, tmp: made.old / "bundle.json", "expected a report that eval, audit or bench wrote"),
        (lambda made, tmp: written(tmp / "a.json", "{"), "isn't valid JSON"),
        (lambda made, tmp: written(tmp / "a.json", "[" * 90_000), "isn't valid JSON"),
        (lambda made, tmp: written(tmp / "a.json", '{"schema": 1, "findings": 3, "leaks": 0, "method": 0}'), "garbles"),
        (lambda made, tmp: tmp / "absent.json", "isn't a file"),
    ],
)
def test_evidence_that_is_none_ends_it(
    made: Made, edgecxr: Callable[..., Any], tmp_path: Path, given: Any, said: str
) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    done = edgecxr("report", made.bundle, "-o", tmp_path / "out", "--seconds", "0", "--with", given(made, tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and said in done.stderr
    assert {path.name for path in tmp_path.iterdir()} - before <= {"a.json", "other.json"}


def test_what_cannot_be_written_or_does_not_belong_together_is_said(
    made: Made, edgecxr: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    records = tmp_path / "r.jsonl"
    records.write_text("{}\n")
    bench = made.measured / "bench.json"
    calls = {
        ("-o", tmp_path / "mine"): "--overwrite",
        ("-o", tmp_path / "mine", "--overwrite"): "this is none",
        ("-o", tmp_path / "page.html"): "is a folder",
        ("-o", tmp_path / "no" / "out"): "no such folder",
        ("-o", tmp_path / "out", "--films", "both"): "--films goes with records",
        ("-o", tmp_path / "out", "--with", bench, "--seconds", "3"): "give one of them",
    }
    for call, said in calls.items():
        done = edgecxr("report", made.bundle, *call)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and said in done.stderr, done.stderr
    done = edgecxr("report", records, "-o", tmp_path / "page.html", "--against", made.old)
    assert done.returncode == 2 and "--against goes with a bundle" in done.stderr
    for name in ("mine", "absent.edgecxr"):
        assert edgecxr("report", tmp_path / name, "-o", tmp_path / "out").returncode == 3
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "r.jsonl"}
    assert (tmp_path / "mine" / "notes.txt").read_text() == "precious"


def test_the_schemas_are_those_that_the_verbs_write() -> None:
    from edgecxr.lab.audit import report as audits
    from edgecxr.lab.evaluation import report as evaluations

    assert {"eval": evaluations.SCHEMA, "audit": audits.SCHEMA}.items() <= evidence.SCHEMAS.items()


def test_a_full_disk_leaves_nothing(
    made: Made, edgecxr: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "replacing_bytes", full)
    done = edgecxr("report", made.bundle, "-o", tmp_path / "out", "--seconds", "0", "--engine", "onnxruntime")
    assert done.returncode == 70 and "No space left" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_earlier_one_is_replaced_whole(made: Made, edgecxr: Callable[..., Any], tmp_path: Path) -> None:
    call = (
        "report",
        made.bundle,
        "-o",
        tmp_path / "out",
        "--seconds",
        "0",
        "--engine",
        "onnxruntime",
        "--precision",
        "int8",
    )
    assert edgecxr(*call).returncode == 0
    (tmp_path / "out" / "bench.json").write_text("of before")
    assert edgecxr(*call).returncode == 2
    assert edgecxr(*call, "--overwrite").returncode == 0
    assert not (tmp_path / "out" / "bench.json").exists() and [path.name for path in tmp_path.iterdir()] == ["out"]
