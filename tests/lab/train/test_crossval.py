"""Cross-validation: a RUN a fold, every picture tested once, and a resume that mixes no two calls."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from test_resumed_training import contents, write_films
from typer.testing import CliRunner

from edgecxr.cli import app
from edgecxr.errors import StorageError, UsageError
from edgecxr.lab.run import FOLDS, read_run, write_logits
from edgecxr.lab.train import recipes
from edgecxr.pictures import files
from edgecxr.scoring.postprocess import probabilities
from full_disk import files_unlimited_afterwards, limit_files

pytestmark = [pytest.mark.lab, pytest.mark.slow]  # three fits

FILMS = {"dark": 9, "bright": 6}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("data") / "films", FILMS)


def head_only() -> recipes.Recipe:
    stage = recipes.Stage(epochs=1, learning_rate=1e-3, trainable_from=None)
    return replace(recipes.recipe("default"), input_size=71, stages=(stage,), middle_blocks=1)


def cross_validate(data: Path, folder: Path, recipe: recipes.Recipe | None = None, **options: Any) -> dict[str, Any]:
    from edgecxr.lab.train.crossval import cross_validate

    values = {"backbone_weights": "none", "seed": 1, "cache": folder.parent / "cache", **options}
    return cross_validate(data, folder, recipe or head_only(), 3, **values)


@pytest.fixture(scope="module")
def done(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds") / "out"
    reads: Counter[Path] = Counter()
    read = files.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "read", lambda path: (reads.update([path]), read(path))[1])
        report = cross_validate(films, folder)
    assert reads == dict.fromkeys(films.glob("*/*.png"), 1)  # read, hashed and decoded once, for all folds
    assert json.loads((folder / FOLDS).read_text()) == json.loads(json.dumps(report))
    return folder


def test_every_picture_is_tested_once_and_the_report_is_over_all_of_them(done: Path) -> None:
    tested = Counter(file for fold in (1, 2, 3) for file in read_run(done / f"fold-{fold}").logits("test").files)
    assert tested == {f"{label}/{i}.png": 1 for label, count in FILMS.items() for i in range(count)}
    report = json.loads((done / FOLDS).read_text())
    assert report["accuracy"]["total"] == sum(FILMS.values())
    assert len(report["accuracy_by_fold"]) == 3
    hits = [share * 5 for share in report["accuracy_by_fold"]]  # folds of three dark pictures and two bright ones
    assert report["accuracy"]["value"] == pytest.approx(sum(hits) / 15)
    described = read_run(done / "fold-2").description["data"]
    assert (described["fold"], described["folds"]) == (2, 3)
    assert described["splits"]["test"] == {"dark": 3, "bright": 2}


def test_the_report_holds_calibration_before_and_after_each_fold_s_own_temperature(
    done: Path, films: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "out"))
    (folder / FOLDS).unlink()
    for fold, margin in enumerate((2.0, 4.0, 8.0), start=1):
        run = read_run(folder / f"fold-{fold}")
        parts = {split: run.logits(split) for split in ("dev", "test")}
        write_logits(run.folder, {k: replace(v, logits=first_wrong(v.classes, margin)) for k, v in parts.items()})
    report = cross_validate(films, folder, resume=True)
    of_pictures: dict[str, list[float]] = {"before": [], "after": []}
    for fold, temperature in enumerate(report["temperatures"], start=1):
        test = read_run(folder / f"fold-{fold}").logits("test")
        for when, divisor in (("before", 1.0), ("after", temperature)):
            p = probabilities(test.logits, divisor)
            of_pictures[when] += list(-np.log(p[np.arange(len(p)), test.classes]))
    found = {when: report["calibration"][when]["nll"]["value"] for when in of_pictures}
    assert found == pytest.approx({when: np.mean(losses) for when, losses in of_pictures.items()})
    assert abs(found["before"] - found["after"]) > 1e-3
    # Two of three dev pictures are right, so the likeliest probability of an answer is 2 / 3.
    assert report["temperatures"] == pytest.approx([m / np.log(2) for m in (2.0, 4.0, 8.0)], rel=1e-3)
    assert report["temperature"] == sorted(report["temperatures"])


def first_wrong(classes: npt.NDArray[np.int64], margin: float) -> npt.NDArray[np.float32]:
    """Logits (N, 2) that are `margin` apart and right but for the first picture."""
    answers = np.where(np.arange(len(classes)) == 0, 1 - classes, classes)
    return np.float32(margin) * np.eye(2, dtype=np.float32)[answers]


def test_eval_of_the_folder_gives_the_report_s_figures(done: Path, films: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    assert CliRunner().invoke(app, ["eval", str(done), str(films), "-o", str(out)]).exit_code == 0
    evaluated, report = json.loads(out.read_text()), json.loads((done / FOLDS).read_text())
    shared = ("pictures", "groups", "accuracy", "confusion", "calibration", "temperature", "roc", "sensitivity")
    assert {key: evaluated[key] for key in shared} == {key: report[key] for key in shared}


def test_a_resume_takes_finished_folds_as_they_are(
    done: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.lab.train import crossval

    folder = Path(shutil.copytree(done, tmp_path / "out"))
    (folder / FOLDS).unlink()
    monkeypatch.setattr(crossval, "fit_dataset", lambda *_, **__: pytest.fail("fitted again"))
    cross_validate(films, folder, resume=True)
    assert (folder / FOLDS).read_text() == (done / FOLDS).read_text()


def test_a_resume_with_another_call_is_refused_also_where_folds_are_finished(
    done: Path, films: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "out"))
    (folder / FOLDS).unlink()
    before = contents(folder / "fold-1")
    with pytest.raises(UsageError, match=r"what differs from the run's: data, seed$"):
        cross_validate(films, folder, resume=True, seed=2)
    with pytest.raises(UsageError, match=r"what differs from the run's: recipe$"):
        cross_validate(films, folder, replace(head_only(), dropout=0.5), resume=True)
    with pytest.raises(UsageError, match=r"what differs from the run's: backbone weights$"):
        cross_validate(films, folder, resume=True, backbone_weights="imagenet")
    assert contents(folder / "fold-1") == before
    assert not (folder / FOLDS).exists()


def test_a_finished_cross_validation_is_not_touched(done: Path, films: Path) -> None:
    before = (done / FOLDS).read_bytes()
    with pytest.raises(UsageError, match="isn't empty"):
        cross_validate(films, done)
    with pytest.raises(UsageError, match="the cross-validation is finished, there is nothing to resume"):
        cross_validate(films, done, resume=True)
    assert (done / FOLDS).read_bytes() == before


def test_a_report_that_finds_no_room_is_one_sentence_and_can_be_made_later(
    done: Path, films: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "out"))
    (folder / FOLDS).unlink()
    with files_unlimited_afterwards(), pytest.raises(StorageError, match=r"the report can't be written \(no room left"):
        limit_files(100)
        cross_validate(films, folder, resume=True)
    assert not (folder / FOLDS).exists()
    cross_validate(films, folder, resume=True)
    assert (folder / FOLDS).read_text() == (done / FOLDS).read_text()
