"""One fit on several data folders, what is refused before it, and a fit for each source left out."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from test_refusals import head_only
from typer.testing import CliRunner

from common import noisy
from edgecxr.cli import app, tables
from edgecxr.errors import DataError, UsageError
from edgecxr.lab.run import LEFT_OUT, read_run
from edgecxr.lab.selection import Selection
from edgecxr.pictures import files

pytestmark = pytest.mark.lab

# Folder: how large its films are, and how many it has of each label.
FOLDERS = {
    "sharp": (100, {"dark": 6, "bright": 6}),
    "soft": (68, {"dark": 6, "bright": 6, "other": 6}),
    "lone": (90, {"dark": 6}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    seed = 0
    for name, (size, counts) in FOLDERS.items():
        for label, count in counts.items():
            (folder / name / label).mkdir(parents=True)
            for i in range(count):
                seed += 1
                pixels = np.clip(noisy((size, size), seed).astype(int) + (60 if label == "bright" else -60), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / name / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgecxr.lab.train.fit import fit

    place = tmp_path_factory.mktemp("runs")
    selection = Selection(ignored_labels=("other",), left_out=("soft/dark/0.png", "soft/bright/0.png"))
    folders = [data / "sharp", data / "soft"]
    fit(folders, place / "run", head_only(), backbone_weights="none", selection=selection, cache=place / "cache")
    return place / "run"


def test_a_run_of_several_folders_says_so_and_the_softest_sets_the_resolution(run: Path, data: Path) -> None:
    read = read_run(run)
    assert read.labels == ("bright", "dark")
    assert read.contract.source_size == 68
    described = read.description["data"]
    assert described["folders"] == [str(data / "sharp"), str(data / "soft")]
    assert "folder" not in described
    assert read.data_folders == (data / "sharp", data / "soft")
    assert described["ignored_labels"] == ["other"]
    assert described["sources"] == ["sharp", "soft"]
    assert {file.split("/")[0] for file in read.logits("test").files} == {"sharp", "soft"}


def test_export_finds_the_films_and_splits_again(run: Path, data: Path, tmp_path: Path) -> None:
    from edgecxr_export.bundle.reports import training_report
    from edgecxr_export.labelled import load, ordered

    read, cache = read_run(run), run.parent / "cache"
    found = load(read, (), cache)
    assert found.dataset.labels == ("bright", "dark")
    assert ordered(read.logits("test"), found, "test").files == read.logits("test").files
    elsewhere = [Path(shutil.copytree(data / name, tmp_path / name)) for name in ("sharp", "soft")]
    assert np.array_equal(load(read, elsewhere, cache).pictures, found.pictures)
    with pytest.raises(DataError, match="their fingerprint is another"):
        load(read, elsewhere[::-1], cache)
    report = training_report(read)["run"]["data"]
    assert "folders" not in report
    assert report["left_out"] == 2


@pytest.mark.slow
def test_eval_finds_the_films_again(run: Path, data: Path, tmp_path: Path) -> None:
    for number, folders in enumerate(([], [str(data / "sharp"), str(data / "soft")])):
        out = tmp_path / f"{number}.json"
        assert CliRunner().invoke(app, ["eval", str(run), *folders, "-o", str(out)]).exit_code == 0
        report = json.loads(out.read_text())
        assert (report["pictures"], report["data"]) == (len(read_run(run).logits("test").files), "sharp + soft")


def test_the_command_line_gives_it_all_to_the_fit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from edgecxr.cli import extras

    calls: list[tuple[Any, ...]] = []

    def seen(name: str) -> Any:
        def work(folders: Any, *arguments: Any, selection: Any, **options: Any) -> dict[str, Any]:
            calls.append((name, folders, arguments[2:], selection))
            return {"column": "source", "labels": [], "values": [], "untested": []}

        return work

    lab = SimpleNamespace(fit=seen("fit"), leave_one_out=seen("leave_one_out"))
    monkeypatch.setattr(extras, "load_lab", lambda *_: lab)
    folders = [data / "sharp", data / "soft"]
    (tmp_path / "doubts.csv").write_text("file\nsoft/dark/1.png\n")
    options = ["-o", "RUN", "--ignore-label", "other", "--leave-out", str(tmp_path / "doubts.csv")]
    for extra in ([], ["--leave-one-out", "source=soft"], ["--leave-one-out", "source"]):
        assert CliRunner().invoke(app, ["train", *map(str, folders), *options, *extra]).exit_code == 0
    chosen = Selection(ignored_labels=("other",), left_out=("soft/dark/1.png",))
    held_out = Selection(ignored_labels=("other",), left_out=("soft/dark/1.png",), held_out=("source", "soft"))
    assert calls == [
        ("fit", folders, (), chosen),
        ("fit", folders, (), held_out),
        ("leave_one_out", folders, ("source",), chosen),
    ]
    for wrong in (["--leave-one-out", "=x"], ["--leave-one-out", "x="], ["--leave-one-out", "x", "--folds", "2"]):
        failed = CliRunner().invoke(app, ["train", *map(str, folders), "-o", "RUN", *wrong])
        assert isinstance(failed.exception, UsageError)


def test_a_film_in_two_sources_is_refused_and_nothing_is_left(data: Path, tmp_path: Path) -> None:
    from edgecxr.lab.train.fit import fit

    other = Path(shutil.copytree(data / "sharp", tmp_path / "other"))
    for film in other.glob("*/[1-5].png"):
        film.write_bytes((data / "soft" / film.relative_to(other)).read_bytes())
    with pytest.raises(
        DataError, match=r"the same film may not be in two sources, got sharp/\S+ \(sharp, \w+\) and ot"
    ):
        fit([data / "sharp", other], tmp_path / "run", head_only(), backbone_weights="none", cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").glob("*"))


@pytest.fixture(scope="module")
def left_out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    from edgecxr.lab.train.leftout import leave_one_out

    place, said = tmp_path_factory.mktemp("left-out"), io.StringIO()
    report = leave_one_out(
        [data / name for name in FOLDERS],
        place / "runs",
        head_only(),
        "source",
        backbone_weights="none",
        selection=Selection(ignored_labels=("other",)),
        cache=place / "cache",
        console=Console(file=said, width=1000, markup=False),
    )
    return place / "runs", report, said.getvalue()


@pytest.mark.slow
def test_each_source_is_tested_by_a_fit_that_has_not_seen_it(left_out: tuple[Path, dict[str, Any], str]) -> None:
    folder, report, said = left_out
    assert json.loads((folder / LEFT_OUT).read_text()) == json.loads(json.dumps(report))
    assert [(row["value"], row["run"], row["films"]) for row in report["values"]] == [
        ("sharp", "1-sharp", {"bright": 6, "dark": 6}),
        ("soft", "2-soft", {"bright": 6, "dark": 6}),
    ]
    for row in report["values"]:
        read = read_run(folder / row["run"])
        tested = read.logits("test")
        assert {file.split("/")[0] for file in tested.files} == {row["value"]}
        assert {file.split("/")[0] for file in read.logits("dev").files} <= set(FOLDERS) - {row["value"]}
        assert row["accuracy"]["value"] == float((tested.logits.argmax(axis=1) == tested.classes).mean())
        assert read.description["data"]["held_out"] == {"column": "source", "value": row["value"]}
    # The contract is of what was learnt from.
    assert [read_run(folder / row["run"]).contract.source_size for row in report["values"]] == [68, None]
    assert [row["value"] for row in report["untested"]] == ["lone"]
    assert "two classes or more, there are only films of dark" in report["untested"][0]["reason"]
    assert "lone can't be tested: " in said


@pytest.mark.slow
def test_the_table_has_a_row_for_each_value(left_out: tuple[Path, dict[str, Any], str]) -> None:
    said = io.StringIO()
    Console(file=said, width=200).print(tables.left_out_table(left_out[1]))
    head, *lines = said.getvalue().splitlines()
    assert head.split() == ["source", "films", "accuracy", "balanced", "bright", "dark"]
    assert [line.split()[:2] for line in lines] == [["sharp", "12"], ["soft", "12"], ["lone", "not"]]


@pytest.mark.slow
def test_a_resume_takes_the_finished_fits(
    left_out: tuple[Path, dict[str, Any], str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.lab.train import crossval, leftout

    folder = Path(shutil.copytree(left_out[0], tmp_path / "runs"))
    call: dict[str, Any] = {"backbone_weights": "none", "selection": Selection(ignored_labels=("other",))}
    folders = [data / name for name in FOLDERS]
    with pytest.raises(UsageError, match="the fit of each value is finished"):
        leftout.leave_one_out(folders, folder, head_only(), "source", resume=True, **call)
    (folder / LEFT_OUT).unlink()
    monkeypatch.setattr(crossval, "fit_dataset", lambda *_, **__: pytest.fail("fitted again"))
    reads: Counter[Path] = Counter()
    read = files.read
    monkeypatch.setattr(files, "read", lambda path: (reads.update([path]), read(path))[1])
    leftout.leave_one_out(folders, folder, head_only(), "source", resume=True, **call)
    assert (folder / LEFT_OUT).read_text() == (left_out[0] / LEFT_OUT).read_text()
    assert set(reads.values()) == {1}


def test_what_has_no_value_that_can_be_tested_is_one_sentence(data: Path, tmp_path: Path) -> None:
    from edgecxr.lab.train.fit import fit
    from edgecxr.lab.train.leftout import leave_one_out

    both = [data / "sharp", data / "lone"]
    with pytest.raises(DataError, match=r"no value of source can be tested; of 'lone': a test needs films of two"):
        leave_one_out(both, tmp_path / "runs", head_only(), "source")
    with pytest.raises(DataError, match=r"needs a column of two values or more, patient has 0$"):
        leave_one_out(both, tmp_path / "runs", head_only(), "patient")
    with pytest.raises(DataError, match="without the source 'sharp' no picture of bright is left to learn from"):
        fit(both, tmp_path / "run", head_only(), selection=Selection(held_out=("source", "sharp")))
    with pytest.raises(DataError, match="needs films of two classes or more, there are only films of dark"):
        fit(both, tmp_path / "run", head_only(), selection=Selection(held_out=("source", "lone")))
    assert not list(tmp_path.iterdir())
