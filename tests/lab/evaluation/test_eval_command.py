"""`edgecxr eval` as it is called: a bundle, a RUN and a cross-validation; what it writes, and what it refuses."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import tiny
from common import ROOT, noisy
from edgecxr.cli import app
from edgecxr.errors import DataError, StorageError, UsageError
from edgecxr.lab.evaluation.temperature import fit_temperature
from edgecxr.lab.run import Logits, write_logits
from edgecxr.lab.train.recipes import recipe
from edgecxr.pictures import decode as images

Run = Callable[..., subprocess.CompletedProcess[str]]
LABELS = tiny.LABELS
POINT = {
    "label": "covid", "target_sensitivity": 0.95, "threshold": 0.4, "sensitivity": 0.96, "specificity": 0.9,
    "split": "dev", "pictures": 40,
}  # fmt: skip
ORIGINS = {"covid": "adult, A", "normal": "pediatric, B", "viral_pneumonia": "pediatric, B"}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def report_of(*arguments: object) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny.edgecxr", operating_points=[POINT])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of each class, two a group, in three splits; of differing brightness, so that answers differ."""
    folder = tmp_path_factory.mktemp("data") / "films"
    rows = []
    for index, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            file = f"{label}/{number:02}.png"
            bright = noisy((96, 80), 100 * index + number) / (1 + (index + number) % 3)
            Image.fromarray(bright.astype(np.uint8)).save(folder / file)
            split = ("train", "dev", "test")[number // 4]
            row = {"file": file, "label": label, "split": split, "group": f"{label}{number // 2}", "half": number % 2}
            rows.append(row | {"origin": ORIGINS[label]})
    with (folder / "manifest.csv").open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def logits_of(data: Path, label: str, number: int) -> np.ndarray:
    """What the tiny network answers, by hand."""
    return tiny.tiny_logits(images.network_input(data / f"{label}/{number:02}.png", tiny.CONTRACT))


def test_the_figures_of_a_bundle_are_those_of_its_network(bundle: Path, data: Path) -> None:
    report = report_of(bundle, data)
    answers = [[int(logits_of(data, label, number).argmax()) for number in range(8, 12)] for label in LABELS]
    assert report["confusion"] == [[row.count(k) for k in range(3)] for row in answers]
    assert len({k for row in answers for k in row}) > 1
    assert (report["split"], report["pictures"], report["groups"]) == ("test", 12, 6)
    assert (report["data"], report["model"], report["engine"]) == ("films", "tiny 1", "onnxruntime")
    assert report["temperature"] == tiny.TEMPERATURE
    (point,) = report["operating_points"]
    assert (point["label"], point["threshold"], point["fitted"]["sensitivity"]) == ("covid", 0.4, 0.96)
    assert point["sensitivity"]["total"] == 4
    assert [row["absent"] for row in report["within_ages"]] == [[], ["normal"]]


def test_an_engine_asked_for_by_name_is_the_one_that_answers(bundle: Path, data: Path) -> None:
    pytest.importorskip("openvino")
    report = report_of(bundle, data, "--engine", "openvino", "--precision", "fp32")
    assert (report["engine"], report["precision"]) == ("openvino", "fp32")
    assert report["confusion"] == report_of(bundle, data, "--precision", "fp32")["confusion"]


def test_every_figure_of_the_issue_is_there(bundle: Path, data: Path) -> None:
    report = report_of(bundle, data, "--split", "all")
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"):
        assert set(report[name]) >= {"value", "interval95", "method"}, name
    for name in ("sensitivity", "specificity", "ppv", "auroc"):
        assert set(report[name]) == set(LABELS), name
    for when in ("before", "after"):
        assert {"ece", "brier", "nll", "reliability"} == set(report["calibration"][when])
    assert {row["origin"] for row in report["by_origin"]} == {"adult, A", "pediatric, B"}
    assert report["intervals"]["level"] == 0.95


def test_a_page_json_and_plots_without_a_film(bundle: Path, data: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "e.json", tmp_path / "e.html"]
    written = [part for path in outputs for part in ("-o", path)]
    result = call(bundle, data, *written, "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    assert "operating point" in result.stdout
    assert "no adult normal" in result.stdout
    assert json.loads(outputs[0].read_text())["accuracy"]["total"] == 12
    page = outputs[1].read_text()
    assert page.count("<img") == page.count("data:image/png;base64,") == 3  # the three plots
    assert "not measured: the origins name no adult normal here" in page
    assert str(data.parent) not in page + outputs[0].read_text()  # a path is nobody else's business
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"confusion.png", "roc.png", "reliability.png"}
    for again in (["-o", outputs[1]], ["--plots", tmp_path / "plots"]):
        refused = call(bundle, data, *again)
        assert isinstance(refused.exception, UsageError)
        assert "--overwrite" in str(refused.exception)
        assert call(bundle, data, *again, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "e.pdf"], r"ends in \.json, \.html"),
        (["-o", "absent/e.json"], "no such folder"),
        (["--plots", "absent/plots"], "no such folder"),
        (["-o", "e.html", "-o", "./e.html"], "a name of its own"),
        (["--split", "dev", "--where", "split=test"], "no labelled picture to evaluate on: split dev"),
        (["--where", "split=train"], "no labelled picture to evaluate on: split test"),
        (["--where", "age=9"], "has no column 'age'"),
    ],
)
def test_calls_that_are_refused_before_the_work(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgecxr.scoring.session.open_session", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(UsageError, match=words):
        raise call(bundle, data, *arguments).exception or AssertionError
    assert not list(tmp_path.iterdir())


# Silence


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `bundle`, and silent from an ood on that about half of the films have."""
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "silent.edgecxr", abstain_at=1.5)


def ood_of(path: Path) -> float:
    return tiny.tiny_ood(images.network_input(path, tiny.CONTRACT))


def test_what_is_not_answered_is_reported_beside_figures_of_all_films(
    silent: Path, bundle: Path, data: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / "e.json", tmp_path / "e.html"]
    result = call(silent, data, "-o", outputs[0], "-o", outputs[1], "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    report = json.loads(outputs[0].read_text())
    films = [(label, number) for label in LABELS for number in range(8, 12)]
    answered = [ood_of(data / f"{label}/{number:02}.png") < 1.5 for label, number in films]
    right = [LABELS[logits_of(data, *film).argmax()] == film[0] for film in films]
    assert 0 < sum(answered) < 12
    every, *sources = report["silence"]["rows"]
    assert [row["source"] for row in sources] == ["adult, A", "pediatric, B"]
    assert (every["answered"]["hits"], every["answered"]["total"]) == (sum(answered), 12)
    assert every["accuracy"]["hits"] == sum(a and r for a, r in zip(answered, right, strict=True))
    assert report["accuracy"] == every["of_all"] == report_of(bundle, data)["accuracy"]
    assert "no answer from ood 1.5 on" in result.stdout
    assert outputs[1].read_text().count("<img") == 4
    assert (tmp_path / "plots" / "risk.png").is_file()
    assert "answered" not in call(bundle, data).stdout
    assert report_of(bundle, data)["silence"] is None


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two kinds, bright and dark, of a control, and a broken one."""
    folder = tmp_path_factory.mktemp("unlike")
    kinds = {"bright": (1, ("fit", "report")), "dark": (8, ("report", "report")), "film": (8, ("control", "control"))}
    rows = ["file,kind,near,use"]
    for place, (kind, (divisor, uses)) in enumerate(kinds.items()):
        for number, use in enumerate(uses):
            array = (noisy((96, 80), 900 + 10 * place + number) / divisor).astype(np.uint8)
            Image.fromarray(array).save(folder / f"{kind}{number}.png")
            rows.append(f"{kind}{number}.png,{kind},{int(kind == 'bright')},{use}")
    (folder / "broken.png").write_bytes(b"no picture")
    rows.append("broken.png,dark,0,report")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


def test_outliers_are_turned_away_by_kind_and_films_kept_by_source(
    silent: Path, data: Path, unlike: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / "e.json", tmp_path / "e.html"]
    more = ["--ignore-label", "covid", "-o", outputs[0], "-o", outputs[1]]
    result = call(silent, data, "--outliers", unlike, *more)
    assert result.exit_code == 0, result.output
    found = json.loads(outputs[0].read_text())["outliers"]
    assert [one["artifact"] for one in found["artifacts"]] == ["model.int8.onnx", "model.fp32.onnx"]
    kinds = [
        (
            row["use"],
            row["kind"],
            row["near"],
            row["pictures"],
            row["rejected"],
            [s["hits"] for s in row["turned_away"]],
        )
        for row in found["kinds"]
    ]
    assert kinds == [
        ("report", "bright", True, 1, 0, [1, 1]), ("report", "dark", False, 3, 1, [0, 0]),
        ("fit", "bright", True, 1, 0, [1, 1]),
    ]  # fmt: skip
    assert found["sums"][0]["turned_away"][0]["total"] == 3  # what is rejected reaches no network
    by_hand = {"pediatric, B": 0, "adult, A": 0}  # a label that is left out is a film all the same
    for label in LABELS:
        name = "adult, A" if label == "covid" else "pediatric, B"
        by_hand[name] += sum(ood_of(data / f"{label}/{number:02}.png") < 1.5 for number in range(8, 12))
    kept = {row["source"]: [share["hits"] for share in row["kept"]] for row in found["films"]}
    assert kept == {**{name: [count] * 2 for name, count in by_hand.items()}, "film": [2, 2]}
    for text in (result.stdout, outputs[1].read_text()):
        assert "bright, near films (report)" in text
        assert "all kinds near films (report)" in text


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda folder, film: None, "there is none in"),
        (lambda folder, film: (folder / "hand").mkdir(), "there is none in"),
        (lambda folder, film: ((folder / "hand").mkdir(), (folder / "hand/1.png").write_bytes(film)),
         r"may not be one of the labelled films, 1 are, the first is hand/1\.png"),
    ],
)  # fmt: skip
def test_a_folder_of_outliers_that_is_none_is_refused_before_the_work(
    silent: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable[..., Any], words: str
) -> None:
    monkeypatch.setattr("edgecxr.scoring.session.open_session", lambda *_, **__: pytest.fail("opened"))
    fill(tmp_path, (data / "covid/00.png").read_bytes())  # of train, which isn't evaluated
    with pytest.raises(DataError, match=words):
        raise call(silent, data, "--outliers", tmp_path).exception or AssertionError


def test_outliers_need_a_bundle_that_abstains(bundle: Path, data: Path, unlike: Path) -> None:
    with pytest.raises(UsageError, match="needs a bundle that abstains"):
        raise call(bundle, data, "--outliers", unlike).exception or AssertionError


def test_a_bundle_without_data_says_what_is_missing(bundle: Path) -> None:
    with pytest.raises(UsageError, match="give DATA"):
        raise call(bundle).exception or AssertionError


def test_a_rejected_picture_is_named_and_in_no_figure(bundle: Path, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    for label in LABELS[:2]:
        (copy / label).mkdir(parents=True)
        (copy / label / "a.png").write_bytes((data / label / "00.png").read_bytes())
    (copy / "covid" / "evil\x1b[2J.png").write_bytes(b"no picture")
    (copy / "covid" / "b.dcm").touch()
    result = call(bundle, copy, "-o", tmp_path / "e.json")
    assert result.exit_code == 1
    assert "rejected: covid/evil\\x1b[2J.png: not_an_image" in result.stderr
    assert "data: left out: 1 .dcm; the first is covid/b.dcm\n" in result.stderr
    assert "\x1b" not in result.output
    report = json.loads((tmp_path / "e.json").read_text())
    assert report["rejected"] == [{"file": "covid/evil\x1b[2J.png", "reason": "not_an_image"}]
    assert (report["split"], report["accuracy"]["total"]) == ("all", 2)


def test_a_full_disk_keeps_the_old_files_and_shows_the_figures(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edgecxr.system.storage._sync", full)
    files = [tmp_path / "e.json", tmp_path / "e.html", tmp_path / "plots" / "roc.png"]
    files[2].parent.mkdir()
    for file in files:
        file.write_text("mine")
    result = call(bundle, data, "-o", files[0], "-o", files[1], "--plots", files[2].parent, "--overwrite")
    assert isinstance(result.exception, StorageError)
    assert [str(file) in str(result.exception) for file in files] == [True] * 3
    assert "balanced accuracy" in result.stdout
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == dict.fromkeys(files, "mine")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
@pytest.mark.parametrize("arguments", [["-o", "/proc/e.html"], ["--plots", "/proc/plots"], ["--plots", "/proc/self"]])
def test_a_place_that_takes_no_file_is_noticed_before_the_work(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("edgecxr.bundle.load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UsageError, match="the output can't be written"):
        raise call(bundle, data, *arguments).exception or AssertionError


@pytest.mark.skipif(os.name != "posix", reason="names are bytes")
def test_names_that_are_no_utf_8_are_written_as_on_the_terminal(bundle: Path, data: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"latin\xe9")
    copy = tmp_path / name
    (copy / "covid").mkdir(parents=True)
    (copy / "covid" / f"{name}.png").write_bytes(b"no picture")
    (copy / "covid" / "a.png").write_bytes((data / "covid" / "00.png").read_bytes())
    result = call(bundle, copy, "-o", tmp_path / "e.json", "-o", tmp_path / "e.html")
    assert result.exit_code == 1, result.exception
    assert "rejected: covid/latin\\udce9.png: not_an_image" in result.stderr
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert "<code>covid/latin\\udce9.png</code>" in page
    assert "on latin\\udce9</h1>" in page
    report = json.loads((tmp_path / "e.json").read_text())
    assert (report["data"], report["rejected"][0]["file"]) == (name, f"covid/{name}.png")


@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "jinja2"])
def test_without_the_extra_the_sentence_says_what_to_install(
    bundle: Path, data: Path, tmp_path: Path, module: str
) -> None:
    code = (
        "import sys, edgecxr.cli\n"
        f"sys.modules[{module!r}] = None\n"
        f"sys.argv = ['edgecxr', 'eval', {str(bundle)!r}, {str(data)!r}, '-o', {str(tmp_path / 'e.html')!r}]\n"
        "edgecxr.cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgecxr: this needs the extra 'eval'; run: pip install 'edgecxr[cpu,eval]'")
    assert not list(tmp_path.iterdir())


def written_run(folder: Path, data: Path, dev: range, test: range, scale: float) -> Path:
    """A RUN whose logits are `scale` times those of the tiny network."""
    folder.mkdir(parents=True)
    by_split = {}
    for split, numbers in (("dev", dev), ("test", test)):
        files = tuple(f"{label}/{n:02}.png" for label in LABELS for n in numbers)
        classes = np.repeat(np.arange(3), len(numbers))
        logits = np.stack([logits_of(data, label, n) for label in LABELS for n in numbers]) * scale
        by_split[split] = Logits(files, classes, logits.astype(np.float32))
    write_logits(folder, by_split)
    (folder / "model.weights.h5").touch()
    description = {
        "schema": 1,
        "recipe": recipe("default").to_json(),
        "preprocessing": tiny.CONTRACT.to_json(),
        "labels": LABELS,
        "data": {"folder": str(data)},
    }
    (folder / "run.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_run(tmp_path_factory.mktemp("runs") / "run", data, range(4, 8), range(8, 12), 1.0)


def test_a_run_s_stored_logits_give_the_bundle_s_figures(bundle: Path, run_folder: Path, data: Path) -> None:
    of_run, of_bundle = report_of(run_folder), report_of(bundle, data)  # the run says where its data are
    # All that doesn't depend on the temperature; one class's probability against the rest does, and so its AUROC.
    for name in ("accuracy", "macro_f1", "sensitivity", "confusion", "by_origin", "groups"):
        assert of_run[name] == of_bundle[name], name
    dev = np.stack([logits_of(data, label, n) for label in LABELS for n in range(4, 8)])
    assert of_run["temperature"] == fit_temperature(dev, np.repeat(np.arange(3), 4)).temperature
    assert {point["fitted"]["split"] for point in of_run["operating_points"]} == {"dev"}
    assert (of_run["model"], of_run["engine"], of_run["data"]) == ("run run", "keras", "films")
    dev_report = report_of(run_folder, data, "--split", "dev")
    calibration = dev_report["calibration"]
    assert calibration["after"]["nll"]["value"] <= calibration["before"]["nll"]["value"]
    half = report_of(run_folder, data, "--where", "half=1", "--ignore-label", "normal")
    assert (half["pictures"], half["ignored_labels"], half["where"]) == (4, ["normal"], {"half": "1"})


def test_films_of_a_list_do_not_count(bundle: Path, run_folder: Path, data: Path, tmp_path: Path) -> None:
    every = report_of(bundle, data)
    assert every["left_out"] == 0
    names = [f"{LABELS[0]}/08.png", f"{LABELS[0]}/09.png"]
    listed = tmp_path / "doubts.csv"
    listed.write_text("\n".join(["file", *names]))
    for report in (report_of(model, data, "--leave-out", listed) for model in (bundle, run_folder)):
        assert (report["pictures"], report["left_out"]) == (every["pictures"] - 2, 2)
        assert report["sensitivity"][LABELS[0]]["total"] == every["sensitivity"][LABELS[0]]["total"] - 2
    with pytest.raises(UsageError, match="names films of DATA; give DATA"):
        raise call(run_folder, "--leave-out", listed).exception or AssertionError


def test_what_a_run_can_not_do(run_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --precision, --threads"):
        raise call(run_folder, data, "--precision", "int8", "--threads", 2).exception or AssertionError
    with pytest.raises(UsageError, match="dev and test only, got --split train"):
        raise call(run_folder, data, "--split", "train").exception or AssertionError
    (tmp_path / "covid").mkdir()
    (tmp_path / "covid" / "a.png").write_bytes(b"another data set")
    with pytest.raises(DataError, match="the data must hold the run's pictures"):
        raise call(run_folder, tmp_path).exception or AssertionError


def test_a_cross_validation_takes_each_fold_s_own_temperature(data: Path, tmp_path: Path) -> None:
    """Logits of the second fold three times too steep: the temperature of that fold takes it back."""
    for number, (dev, test, scale) in enumerate(((range(8), range(4), 1.0), (range(8), range(4, 8), 3.0)), start=1):
        written_run(tmp_path / f"fold-{number}", data, dev, test, scale)
    (tmp_path / "folds.json").write_text(json.dumps({"folds": 2}))
    report = report_of(tmp_path)
    assert (report["split"], report["pictures"], report["operating_points"]) == ("test of 2 folds", 24, [])
    one, three = report["temperature"]
    assert three / one == pytest.approx(3, rel=1e-3)
    whole = written_run(tmp_path / "whole", data, range(8), range(8), 1.0)
    expected = report_of(whole)["calibration"]["after"]["nll"]["value"]
    assert report["calibration"]["after"]["nll"]["value"] == pytest.approx(expected, rel=1e-4)
    assert call(tmp_path, "-o", tmp_path / "e.html").exit_code == 0
    assert "of each fold" in (tmp_path / "e.html").read_text()
    with pytest.raises(UsageError, match="as a test picture only, got --split dev"):
        raise call(tmp_path, "--split", "dev").exception or AssertionError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"not a cross-validation of edgecxr train \(JSONDecodeError\)"),
        ("[]", r"not a cross-validation of edgecxr train \(TypeError\)"),
        ("{}", r"not a cross-validation of edgecxr train \(KeyError\)"),
        ("[" * 100_000, r"not a cross-validation of edgecxr train \(RecursionError\)"),
        ('{"folds": 0}', "has 2 folds or more, folds.json says 0"),
        ('{"folds": -3}', "has 2 folds or more, folds.json says -3"),
        ('{"folds": 1}', "has 2 folds or more, folds.json says 1"),
        ('{"folds": 1e999}', "has 2 folds or more, folds.json says inf"),
        ('{"folds": true}', "has 2 folds or more, folds.json says True"),
        ('{"folds": "2"}', "has 2 folds or more, folds.json says 2"),
        ('{"folds": [2]}', r"has 2 folds or more, folds.json says \[2\]"),
        ('{"folds": 1000000000}', "no such run: .*fold-2"),
    ],
)
def test_a_garbled_cross_validation_is_one_sentence(data: Path, tmp_path: Path, text: str, words: str) -> None:
    written_run(tmp_path / "fold-1", data, range(8), range(4), 1.0)
    (tmp_path / "folds.json").write_text(text)
    with pytest.raises(UsageError, match=words):
        raise call(tmp_path).exception or AssertionError


@pytest.mark.parametrize(
    ("split", "classes", "logits"),
    [
        ("test", np.zeros(2, int), np.zeros((2, 2))),  # a label short
        ("test", np.zeros(3, int), np.zeros((2, 3))),
        ("test", np.array([0, 3]), np.zeros((2, 3))),
        ("dev", np.array([0, -1]), np.zeros((2, 3))),
        ("dev", np.zeros(2, int), np.array([[0, 0, 0], [0, np.nan, 0]])),
        ("dev", np.zeros((0,), int), np.zeros((0, 3))),
    ],
)
def test_logits_that_do_not_fit_their_run_are_one_sentence(
    data: Path, tmp_path: Path, split: str, classes: np.ndarray, logits: np.ndarray
) -> None:
    run = written_run(tmp_path / "run", data, range(4, 8), range(8, 12), 1.0)
    files = ("covid/00.png", "covid/01.png")
    whole = Logits(files, np.zeros(2, int), np.zeros((2, 3)))
    write_logits(run, {"dev": whole, "test": whole} | {split: Logits(files[: len(logits)], classes, logits)})
    with pytest.raises(DataError, match=f"3 finite logits and a class for each of its . {split} pictures"):
        raise call(run, data).exception or AssertionError


@pytest.mark.parametrize("described", [{}, {"data": []}, {"data": {"folder": 5}}])
def test_a_run_that_does_not_say_where_its_pictures_are(data: Path, tmp_path: Path, described: dict[str, Any]) -> None:
    run = written_run(tmp_path / "run", data, range(4, 8), range(8, 12), 1.0)
    description = json.loads((run / "run.json").read_text())
    del description["data"]
    (run / "run.json").write_text(json.dumps(description | described))
    with pytest.raises(UsageError, match="give DATA"):
        raise call(run).exception or AssertionError
    assert report_of(run, data)["pictures"] == 12


def test_a_label_to_ignore_that_is_nobodys_is_refused(bundle: Path, run_folder: Path, data: Path) -> None:
    for what in (bundle, run_folder):
        with pytest.raises(UsageError, match=r"one of covid, normal, viral_pneumonia, got 'covd'"):
            raise call(what, data, "--ignore-label", "normal", "--ignore-label", "covd").exception or AssertionError


def test_a_label_of_the_model_or_of_the_data_alone_can_be_ignored(bundle: Path, data: Path, tmp_path: Path) -> None:
    for label, name in (("covid", "00.png"), ("opacity", "01.png")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.png").write_bytes((data / "covid" / name).read_bytes())
    report = report_of(bundle, tmp_path, "--ignore-label", "opacity", "--ignore-label", "normal")
    assert (report["pictures"], report["ignored_labels"]) == (1, ["opacity", "normal"])


def test_info_shows_the_operating_points_of_a_bundle(bundle: Path) -> None:
    words = " ".join(CliRunner().invoke(app, ["info", str(bundle)]).stdout.split())
    assert "covid at 95% of dev p >= 0.400: sensitivity 96.0%, specificity 90.0%" in words


def test_the_embedded_bundle_is_a_dash(monkeypatch: pytest.MonkeyPatch, bundle: Path, data: Path) -> None:
    monkeypatch.setattr("edgecxr.bundle.reader.EMBEDDED", bundle)
    assert report_of("-", data)["model"] == "tiny 1"


def test_another_model_on_the_same_films(bundle: Path, data: Path, tmp_path: Path) -> None:
    worse = tiny.write_bundle(tmp_path / "worse.edgecxr", tiny.tiny_model(np.float32([0, 0, 1000])), name="blind")
    result = call(bundle, data, "--against", worse, "-o", tmp_path / "e.json", "-o", tmp_path / "e.html")
    assert result.exit_code == 0, (result.output, result.exception)
    against = json.loads((tmp_path / "e.json").read_text())["against"]
    report = report_of(bundle, data)
    assert (against["model"], against["engine"], report["against"]) == ("blind 1", "onnxruntime", None)
    whole, *by_class = against["rows"]
    assert [row["label"] for row in by_class] == list(LABELS)
    # The blind network calls every film viral pneumonia, so only its films can be the other's alone.
    assert (whole["first"]["hits"], whole["second"]["hits"]) == (report["accuracy"]["hits"], 4)
    assert whole["only_first"] == report["accuracy"]["hits"] - report["confusion"][2][2]
    assert whole["only_second"] == 4 - report["confusion"][2][2]
    assert "against blind 1" in result.stdout
    assert "<h2>Against blind 1</h2>" in (tmp_path / "e.html").read_text()


def test_a_run_and_a_bundle_are_compared_and_the_labels_must_be_the_same(
    bundle: Path, run_folder: Path, data: Path, tmp_path: Path
) -> None:
    rows = report_of(bundle, data, "--against", run_folder)["against"]["rows"]
    assert [(row["only_first"], row["only_second"], row["p_value"]) for row in rows] == [(0, 0, 1.0)] * 4
    other = tiny.write_bundle(tmp_path / "other.edgecxr", labels=["covid", "normal", "flu"])
    with pytest.raises(UsageError, match="labels covid, normal, viral_pneumonia, got covid, normal, flu"):
        raise call(bundle, data, "--against", other, "--ignore-label", "viral_pneumonia").exception or AssertionError
