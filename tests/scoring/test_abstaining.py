"""Whether a picture is answered: which threshold counts, and what becomes of a picture beyond it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from edgecxr import Classifier
from edgecxr.bundle import Abstention, Artifact, Threshold, load
from edgecxr.engines import Outputs
from edgecxr.engines.select import Asked, Choice
from edgecxr.errors import BundleError, UsageError
from edgecxr.pictures import decode as images
from edgecxr.scoring import pipeline
from edgecxr.scoring.abstention import Rule, Wish, rule
from edgecxr.scoring.session import open_session

Run = Callable[..., subprocess.CompletedProcess[str]]
Picture = Callable[..., Path]

ORT, OV = "onnxruntime", "openvino"
ROWS = (
    Threshold("a.onnx", ORT, "fp32", 1.0),
    Threshold("a.onnx", OV, "fp32", 2.0),
    Threshold("a.onnx", OV, "bf16", 1.5),
    Threshold("b.onnx", ORT, "int8", 9.0),
)
BUNDLES = Abstention(0.995, "dev", 400, ROWS)


def choice(file: str, engine: str, precision: str, stored: str = "fp32") -> Choice:
    return Choice(Artifact(file, "onnx", stored, "", 1), engine, "cpu", precision)


@pytest.mark.parametrize(
    ("chosen", "threshold"),
    [
        (choice("a.onnx", ORT, "fp32"), 1.0),
        (choice("a.onnx", OV, "bf16"), 1.5),  # its own row
        (choice("a.onnx", ORT, "tf32"), 1.0),  # that of the precision it is computed from
        (choice("a.onnx", "another", "fp32"), 2.0),  # the largest of the artifact, and never none
        (choice("b.onnx", OV, "int8", "int8"), 9.0),
    ],
)
def test_each_artifact_engine_and_precision_has_its_threshold(chosen: Choice, threshold: float) -> None:
    assert rule(BUNDLES, chosen) == Rule("bundle", threshold)


def test_what_is_asked_for_counts_and_older_bundles_answer_everything() -> None:
    chosen = choice("a.onnx", ORT, "fp32")
    assert rule(BUNDLES, chosen, Wish(at=0.5)) == Rule("asked", 0.5)
    assert rule(BUNDLES, chosen, Wish(abstain=False)) == Rule("off", None)
    assert rule(None, chosen) == Rule("none", None)
    assert rule(BUNDLES, choice("c.onnx", ORT, "fp32")) == Rule("none", None)
    for abstention, other in ((None, chosen), (BUNDLES, choice("c.onnx", ORT, "fp32"))):
        with pytest.raises(UsageError, match="needs a network with the output ood"):
            rule(abstention, other, Wish(at=0.5))


def test_a_threshold_is_reached_where_it_is_met() -> None:
    assert [Rule("asked", 1.0).abstains(ood) for ood in (0.999, 1.0, 1.001, -5.0, None)] == [
        False, True, True, False, False,
    ]  # fmt: skip
    assert not Rule("off").abstains(1e30)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_threshold_that_is_not_finite_is_refused(number: float) -> None:
    with pytest.raises(UsageError, match=f"finite number, got {number}"):
        Wish(at=number)


def test_a_threshold_and_none_at_all_are_two_wishes() -> None:
    with pytest.raises(UsageError, match="got both"):
        Wish(abstain=False, at=1.0)


# On the tiny network, whose ood is computed by hand


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "ood.edgecxr", abstain_at=2.0)


def ood_of(path: Path) -> float:
    return tiny.tiny_ood(images.network_input(path, tiny.CONTRACT))


@pytest.fixture
def dark_and_bright(picture: Picture, tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures, of ood below 2 and above; in a folder of their own."""
    from PIL import Image

    bright = picture("in/bright.png")
    dark = bright.with_name("dark.png")
    Image.fromarray((np.asarray(Image.open(bright)) // 4).astype(np.uint8)).save(dark)
    assert ood_of(dark) < 1.9 < 2.1 < ood_of(bright)
    return dark, bright


def test_an_abstained_picture_has_its_scores_and_no_label(bundle: Path, dark_and_bright: tuple[Path, Path]) -> None:
    dark, bright = dark_and_bright
    classifier, every = Classifier(bundle), Classifier(bundle, abstain=False)
    scored, abstained = classifier.stream(dark_and_bright)
    assert (scored.status, abstained.status, abstained.label) == ("scored", "abstained", None)
    for found, path in ((scored, dark), (abstained, bright)):
        assert found.ood_score == pytest.approx(ood_of(path), abs=1e-4)
        answered = every.predict(path)
        assert (answered.status, answered.logits) == ("scored", found.logits)
        assert (answered.probabilities, answered.ood_score) == (found.probabilities, found.ood_score)
    assert scored.label is not None
    assert abstained.error_code is None
    assert (scored.provenance.abstention, scored.provenance.abstain_at) == ("bundle", 2.0)
    assert (every.predict(dark).provenance.abstention, every.predict(dark).provenance.abstain_at) == ("off", None)
    assert classifier.evidence(bright).shape == (4, 4, 3)
    at = Classifier(bundle, abstain_at=ood_of(dark) - 0.1)
    assert [found.status for found in at.stream(dark_and_bright)] == ["abstained", "abstained"]
    assert at.predict(dark).provenance.abstention == "asked"


def test_a_bundle_without_thresholds_answers_everything(tiny_bundle: Path, picture: Picture) -> None:
    found = Classifier(tiny_bundle).predict(picture())
    assert (found.status, found.ood_score) == ("scored", None)
    assert (found.provenance.abstention, found.provenance.abstain_at) == ("none", None)
    with pytest.raises(UsageError, match="needs a network with the output ood"):
        Classifier(tiny_bundle, abstain_at=1.0)


def test_a_bundle_that_does_not_fit_itself_is_refused_before_the_first_picture(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr", tiny.with_ood())
    with pytest.raises(BundleError, match="ood and no threshold"):
        Classifier(folder)


@pytest.mark.parametrize("ood", [np.nan, np.inf, -np.inf])
def test_an_ood_that_is_no_number_is_no_answer(
    bundle: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch, ood: float
) -> None:
    session = open_session(load(bundle), Asked(engine=ORT))
    run = session.engine.run
    monkeypatch.setattr(
        session.engine, "run", lambda batch: replace(run(batch), ood=np.full((len(batch), 1), ood, np.float32))
    )
    found = pipeline.score(session, [picture()])[0]
    assert (found.status, found.error_code, found.ood_score) == ("rejected", "not_finite", None)
    assert isinstance(run(np.zeros((1, 64, 64, 1), np.uint8)), Outputs)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_infer_counts_abstentions_and_ends_well(
    edgecxr: Run, bundle: Path, dark_and_bright: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, out = dark_and_bright[0].parent, tmp_path / "out.jsonl"
    done = edgecxr("infer", folder, "-m", bundle, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "1 abstained, 1 scored" in done.stderr
    assert "pictures of ood 2 or more get no label: too unlike frontal chest films (the model's" in done.stderr
    bright, dark = records(out)
    assert (bright["status"], bright["label"], dark["status"]) == ("abstained", None, "scored")
    assert bright["ood_score"] == pytest.approx(ood_of(dark_and_bright[1]), abs=1e-4)
    assert sum(bright[f"p_{label}"] for label in tiny.LABELS) == pytest.approx(1)
    for record in (bright, dark):
        assert (record["schema"], record["abstention"], record["abstain_at"]) == (4, "bundle", 2.0)
    shown = edgecxr("infer", folder, "-m", bundle)
    line = next(line for line in shown.stdout.splitlines() if "bright.png" in line)
    assert line.split()[1:] == ["abstained:", "ood", f"{bright['ood_score']:.3g}"]  # and no share of a class
    assert f"{dark['p_' + dark['label']]:.3f}" in shown.stdout


def test_what_was_asked_stands_in_each_record_and_in_the_summary(
    edgecxr: Run, bundle: Path, tiny_bundle: Path, dark_and_bright: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = dark_and_bright[0].parent
    for options, model, by, at, statuses, words in (
        (("--no-abstain",), bundle, "off", None, {"scored": 2}, "nothing abstains, as asked"),
        (("--abstain-at", 0.01), bundle, "asked", 0.01, {"abstained": 2}, "ood 0.01 or more get no label"),
        ((), tiny_bundle, "none", None, {"scored": 2}, "nothing abstains: this model can't tell"),
    ):
        out = tmp_path / f"{by}.csv"
        done = edgecxr("infer", folder, "-m", model, "-o", out, *options, "--json")
        summary = json.loads(done.stdout)
        assert (summary["statuses"], summary["abstention"], summary["abstain_at"]) == (statuses, by, at)
        assert done.stderr.count(words) == 1  # and not for each picture
        rows = [line.split(",") for line in out.read_text().splitlines()]
        columns = [rows[0].index("abstention"), rows[0].index("abstain_at")]
        assert [[row[c] for c in columns] for row in rows[1:]] == [[by, "" if at is None else str(at)]] * 2


def test_stdin_abstains_as_a_folder_does(bundle: Path, dark_and_bright: tuple[Path, Path]) -> None:
    import sys

    asked = "".join(f"{path}\n" for path in dark_and_bright)
    for options, statuses in (((), ["scored", "abstained"]), (("--no-abstain",), ["scored", "scored"])):
        command = [sys.executable, "-m", "edgecxr", "infer", "--stdin", "-m", str(bundle), *options]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == statuses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--abstain-at", "nan"), "finite number, got nan"),
        (("--abstain-at", "-inf"), "finite number, got -inf"),
        (("--abstain-at", "1", "--no-abstain"), "got both"),
    ],
)
def test_bad_options_are_one_sentence(
    edgecxr: Run, bundle: Path, picture: Picture, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = edgecxr("infer", picture(), "-m", bundle, "-o", tmp_path / "out.jsonl", *options)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert words in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_info_says_when_it_is_silent_or_that_it_never_is(edgecxr: Run, bundle: Path, tiny_bundle: Path) -> None:
    said = " ".join(edgecxr("info", bundle).stdout.split())
    assert "abstains: model.int8.onnx on onnxruntime in int8 ood >= 2" in said
    assert "from 400 films of dev, so that 99.5% of such are answered" in said
    older = " ".join(edgecxr("info", tiny_bundle).stdout.split())
    assert "none: every picture gets a label, one that is no chest film too" in older


def test_resume_does_not_mix_two_rules(
    edgecxr: Run, bundle: Path, dark_and_bright: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, out = dark_and_bright[0].parent, tmp_path / "out.jsonl"
    call = ("infer", folder, "-m", bundle, "-o", out)
    assert edgecxr(*call, "--limit", 1).returncode == 0
    before = out.read_text()
    for options, words in (
        (("--no-abstain",), "in the output pictures abstain from 2 on, as the bundle has it, and in this run nothing"),
        (("--abstain-at", 2), "abstain from 2 on, as asked; ask for the same"),
    ):
        refused = edgecxr(*call, "--resume", *options)
        assert refused.returncode == 2
        assert words in refused.stderr
        assert out.read_text() == before
    done = edgecxr(*call, "--resume")
    assert done.returncode == 0, done.stderr
    assert [record["status"] for record in records(out)] == ["abstained", "scored"]
    assert "1 abstained, 1 scored" in done.stderr
