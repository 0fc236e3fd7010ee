"""`edgecxr calibrate`: a site's bundle, which says other things of the same network; and films that claim nothing."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from typer.testing import CliRunner, Result

import tiny
from common import ROOT
from edgecxr.bundle import Bundle, load
from edgecxr.cli import app
from edgecxr.engines.select import choose
from edgecxr.errors import BundleError, DataError, UsageError
from edgecxr.lab.dataset import read_dataset
from edgecxr.lab.evaluation.site import halves
from edgecxr.lab.evaluation.temperature import fit_temperature
from edgecxr.pictures import decode as images
from edgecxr.scoring.abstention import rule
from edgecxr.scoring.postprocess import probabilities

GROUPS = 64  # of each class: 32 fit, which carries an operating point at 90 % and not one at 95 %
POINT = {
    "label": "covid", "target_sensitivity": 0.95, "threshold": 0.4, "sensitivity": 0.96, "specificity": 0.9,
    "split": "dev", "pictures": 40,
}  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def write_films(folder: Path, counts: dict[str, int], films_of_a_group: int = 1) -> Path:
    """Noise of a brightness that tells the classes apart, and not always: dark is normal, bright covid."""
    brightness = {"covid": (45, 160), "normal": (10, 90), "viral_pneumonia": (60, 110), "lung_opacity": (0, 99)}
    rows = []
    for place, (label, groups) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for group, grey in enumerate(np.linspace(*brightness[label], groups)):
            for film in range(films_of_a_group):
                file = f"{label}/secret-{group}-{film}.png"
                noise = np.random.default_rng([place, group, film]).normal(grey, 9, (70, 64))
                Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / file)
                rows.append({"file": file, "label": label, "group": f"{label}-{group}", "split": ""})
    with (folder / "manifest.csv").open("w", newline="") as opened:
        writer = csv.DictWriter(opened, ["file", "label", "group", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("data") / "local", {"covid": GROUPS, "normal": GROUPS})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny.edgecxr"
    return tiny.write_bundle(folder, abstain_at=9.0, operating_points=[POINT])


@pytest.fixture(scope="module")
def made(local: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("made") / "ward.edgecxr"
    result = call(local, "-m", source, "-o", output, "--site", "North Ward", "--kept", "0.9")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "groups needed" in result.stderr
    assert "ward.edgecxr" in result.stdout
    return output


def told(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "reports/site.json").read_text())
    return found


def fitting(local: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(classes, logits, ood) of the half that fits, by hand."""
    fit, _ = halves(read_dataset(local), 0)
    pictures = [images.network_input(example.path, tiny.CONTRACT) for example in fit]
    classes = np.array([tiny.LABELS.index(example.label) for example in fit])
    ood = np.array([tiny.tiny_ood(picture) for picture in pictures])
    return classes, np.stack([tiny.tiny_logits(picture) for picture in pictures]), ood


def test_the_numbers_are_those_of_the_half_that_fits(made: Path, local: Path) -> None:
    bundle = load(made)
    classes, logits, ood = fitting(local)
    assert bundle.temperature == pytest.approx(fit_temperature(logits, classes).temperature, rel=1e-4)
    assert bundle.temperature != tiny.TEMPERATURE
    p = probabilities(logits, bundle.temperature)
    points = {(point.label, point.target_sensitivity): point for point in bundle.operating_points}
    assert set(points) == {("covid", 0.9), ("normal", 0.9)}  # the bundle's own at 95 % held at its own temperature
    for index, label in enumerate(("covid", "normal")):
        own = np.sort(p[classes == index, index])
        others = np.append(p[p[:, index] < own[0], index], 0.0)  # of 32 the smallest decides
        assert points[label, 0.9].threshold == pytest.approx((own[0] + others.max()) / 2, abs=1e-5)
    assert bundle.abstention is not None
    assert (bundle.abstention.kept, bundle.abstention.split, bundle.abstention.pictures) == (0.9, "site", 64)
    # ceil(33 x 0.9) = the 30th of 32 scores of each class; the class that reaches further decides.
    largest = max(np.sort(ood[classes == index])[29] for index in (0, 1))
    rows = {row.artifact: row.threshold for row in bundle.abstention.thresholds if row.engine == "onnxruntime"}
    assert set(rows) == {"model.fp32.onnx", "model.int8.onnx"}
    assert list(rows.values()) == pytest.approx([largest] * 2, rel=1e-5)


def test_the_network_is_the_same_to_the_byte(made: Path, source: Path) -> None:
    for file in ("model.fp32.onnx", "model.int8.onnx"):
        before, after = (onnx.load_from_string((bundle / file).read_bytes()) for bundle in (source, made))
        assert after.graph.SerializeToString() == before.graph.SerializeToString()
    for file in ("golden/inputs.npy", "golden/expected.json"):
        assert (made / file).read_bytes() == (source / file).read_bytes()


def test_a_lone_onnx_answers_as_the_site_s_bundle_does(made: Path, tmp_path: Path) -> None:
    bundle = load(made)
    shutil.copy(made / "model.int8.onnx", tmp_path / "alone.onnx")
    alone = load(tmp_path / "alone.onnx")
    assert (alone.temperature, alone.version, alone.labels) == (bundle.temperature, "1+North Ward", bundle.labels)
    assert alone.preprocessing == bundle.preprocessing
    there, here = (rule(one.abstention, choose(one)) for one in (bundle, alone))
    assert there == here
    assert there.threshold is not None


def test_it_verifies_and_keeps_the_schema(made: Path, edgecxr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert edgecxr("verify", made).returncode == 0
    schema = json.loads((ROOT / "docs/bundle.schema.json").read_text())
    manifest = json.loads((made / "bundle.json").read_text())
    Draft202012Validator(schema).validate(manifest)
    site = manifest["provenance"]["site"]
    assert site["name"] == "North Ward"
    assert (site["pictures"], site["groups"]) == (2 * GROUPS, 2 * GROUPS)
    assert site["fit"] == site["report"] == {label: {"pictures": 32, "groups": 32} for label in ("covid", "normal")}


def test_no_file_of_the_site_is_named(made: Path, local: Path) -> None:
    for path in made.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"secret-" not in content, path.name
            assert str(local).encode() not in content, path.name


def test_the_card_says_it_first(made: Path, source: Path) -> None:
    card = (made / "MODEL_CARD.md").read_text()
    sections = [line for line in card.splitlines() if line.startswith("#")]
    assert sections[:2] == ["# Tiny", "## Calibrated on films of North Ward"]
    assert load(source).digest in card
    assert "at least 90% of it is found" in card
    assert "an operating point of covid at 95% isn't claimed, it needs 59 groups of covid" in card
    report = told(made)
    assert "nothing is claimed of viral_pneumonia, there is no film of it" in report["not_claimed"]
    assert all(f"\n- {sentence}\n" in card for sentence in report["not_claimed"])
    assert report["data"]["fingerprint"] in card


def test_the_other_half_reports(made: Path, local: Path) -> None:
    report = told(made)
    _, reports = halves(read_dataset(local), 0)
    assert report["after"]["pictures"] == len(reports)
    assert report["before"]["temperature"] == tiny.TEMPERATURE
    assert report["after"]["temperature"] == load(made).temperature
    nll = [report[when]["calibration"]["after"]["nll"]["value"] for when in ("before", "after")]
    assert nll[1] < nll[0]
    assert [row["source"] for row in report["after"]["silence"]["rows"]] == ["", "covid", "normal"]


def test_the_same_films_give_the_same_bundle_but_for_its_date(made: Path, local: Path, source: Path) -> None:
    again = made.with_name("again.edgecxr")
    assert call(local, "-m", source, "-o", again, "--site", "North Ward", "--kept", "0.9").exit_code == 0
    for file in ("model.int8.onnx", "model.fp32.onnx"):
        assert (again / file).read_bytes() == (made / file).read_bytes()
    assert "give --overwrite" in str(call(local, "-m", source, "-o", again).exception)
    with pytest.raises(BundleError, match="North Ward's already"):
        raise call(local, "-m", made, "-o", again, "--overwrite").exception or AssertionError
    assert load(again).temperature == load(made).temperature


def test_what_few_films_can_t_claim_stays_the_bundle_s(local: Path, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "south.edgecxr"
    result = call(local, "-m", source, "-o", output, "--json")
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert report["site"] == "south"
    assert report["abstention"] is None
    assert "that 99.5% of covid is answered isn't claimed, it needs 199 groups" in " ".join(report["not_claimed"])
    before, after = load(source), load(output)
    assert after.abstention == before.abstention
    assert after.temperature != before.temperature


def test_a_bundle_that_answers_everything_still_does(local: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "site.edgecxr"
    assert call(local, "-m", tiny_bundle, "-o", output, "--kept", "0.9").exit_code == 0
    assert load(output).abstention is None
    assert "abstention" not in " ".join(told(output)["not_claimed"])


def test_training_films_are_left_out(local: Path, source: Path, tmp_path: Path) -> None:
    data = tmp_path / "local"
    shutil.copytree(local, data)
    text = (data / "manifest.csv").read_text()
    lines = text.splitlines()
    marked = [f"{line}train" if place % 3 == 1 else f"{line}test" for place, line in enumerate(lines[1:])]
    (data / "manifest.csv").write_text("\n".join([lines[0], *marked]) + "\n")
    result = call(data, "-m", source, "-o", tmp_path / "site.edgecxr", "--json")
    assert json.loads(result.stdout)["data"]["pictures"] == sum(line.endswith("test") for line in marked)


@pytest.mark.parametrize(
    ("counts", "arguments", "error", "words"),
    [
        ({"covid": 70}, [], DataError, "two classes or more, got only covid: local"),
        ({"covid": 5, "normal": 5}, [], DataError, "29 groups of a .*got 6, and of covid 3, normal 3: local"),
        ({"covid": 70, "normal": 3}, [], DataError, "4 groups .*normal has 3: local"),
        ({"covid": 9, "lung_opacity": 9}, [], DataError, "doesn't know the label lung_opacity"),
        ({"covid": 9}, ["--site", "a/b"], UsageError, "plain name of at most 64 characters, got 'a/b'"),
        ({"covid": 9}, ["--site", "x" * 64], UsageError, "together have at most"),
        ({"covid": 9}, ["--kept", "1"], UsageError, "from 0.5 to below 1, got 1"),
        ({"covid": 9}, ["--ignore-label", "flu"], UsageError, "expects one of .*got 'flu'"),
        ({"covid": 9}, ["-o", "site"], UsageError, "named NAME.edgecxr"),
        ({"covid": 9}, ["-o", "absent/site.edgecxr"], UsageError, "the output's folder doesn't exist"),
        ({"covid": 9}, ["-o", "local/covid/site.edgecxr"], UsageError, "outside of it") ,
        ({"covid": 9}, ["-o", "source.edgecxr", "--overwrite"], UsageError, "takes the place of no bundle"),
        ({"covid": 9}, ["-m", "source.edgecxr/model.fp32.onnx"], BundleError, "doesn't say its"),
    ],
)  # fmt: skip
def test_what_is_refused_before_a_film_is_scored(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    counts: dict[str, int],
    arguments: list[str],
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_films(tmp_path / "local", counts)
    if "local/covid/site.edgecxr" in arguments:  # a folder per class: what stands there would be a film
        (tmp_path / "local/manifest.csv").unlink()
    shutil.copytree(source, "source.edgecxr")
    monkeypatch.setattr("edgecxr.lab.calibrate.open_session", lambda *_, **__: pytest.fail("opened"))
    before = sorted(path for path in tmp_path.rglob("*"))
    result = call("local", "-m", "source.edgecxr", "-o", "site.edgecxr", *arguments)
    assert isinstance(result.exception, error), result.output
    with pytest.raises(error, match=words):
        raise result.exception
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_films_that_claim_nothing_once_they_are_scored(source: Path, tmp_path: Path) -> None:
    data = write_films(tmp_path / "local", {"covid": 12, "normal": 12})
    output = tmp_path / "site.edgecxr"
    result = call(data, "-m", source, "-o", output)
    with pytest.raises(DataError, match=r"needs 10 groups .* got \d, and of covid 6, normal 6: local"):
        raise result.exception or AssertionError
    assert not list(tmp_path.glob("site.*"))


def test_a_bundle_s_numbers_are_read_back(made: Path) -> None:
    bundle: Bundle = load(made)
    assert told(made)["operating_points"] == [{**point.__dict__} for point in bundle.operating_points]
