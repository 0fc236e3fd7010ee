"""What `edgecxr train` refuses before its work begins, in one sentence, and names that it must take."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from test_resumed_training import write_films
from typer.testing import CliRunner

from edgecxr import cli
from edgecxr.errors import StorageError, UnavailableError, UsageError
from edgecxr.lab.run import check_new, read_run
from edgecxr.lab.train import recipes
from edgecxr.lab.train.pictures import Corpus
from edgecxr.system import locks
from full_disk import files_unlimited_afterwards, limit_files

pytestmark = pytest.mark.lab

FILMS = {"dark": 6, "bright": 6}


def head_only() -> recipes.Recipe:
    stage = recipes.Stage(epochs=1, learning_rate=1e-3, trainable_from=None)
    return replace(recipes.recipe("default"), input_size=71, stages=(stage,), middle_blocks=1)


def fit(data: Path, folder: Path, **options: Any) -> None:
    from edgecxr.lab.train.fit import fit

    fit(data, folder, head_only(), **{"backbone_weights": "none", **options})


@pytest.fixture
def films(tmp_path: Path) -> Path:
    return write_films(tmp_path / "films", FILMS)


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding is what takes long: nothing that is refused gets there."""
    monkeypatch.setattr(Corpus, "inputs", lambda *_: pytest.fail("decoded"))


def test_a_run_or_a_cache_among_the_classes_is_refused(films: Path, tmp_path: Path, undecoded: None) -> None:
    from edgecxr.lab.train.crossval import cross_validate

    with pytest.raises(UsageError, match=r"each folder in the data's is a class; name a place outside of it: .*run$"):
        fit(films, films / "run", cache=tmp_path)
    with pytest.raises(UsageError, match="each folder in the data's is a class"):
        fit(films, tmp_path / "run", cache=films / "dark" / "cache")
    with pytest.raises(UsageError, match="each folder in the data's is a class"):
        cross_validate(films, films / "runs", head_only(), 2, backbone_weights="none", cache=tmp_path)
    assert sorted(entry.name for entry in films.iterdir()) == sorted(FILMS)


@pytest.mark.parametrize("more", [[], ["--resume"], ["--folds", "2"]])
def test_a_run_that_another_training_writes_is_refused_before_tensorflow_is_loaded(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setattr("edgecxr.cli.extras.load_lab", lambda *_: pytest.fail("loaded"))
    call = ["train", str(films), "-o", str(tmp_path / "run"), *more]
    with locks.folder(tmp_path / "run"), pytest.raises(UsageError, match="another training is writing this run"):
        raise CliRunner().invoke(cli.app, call).exception or AssertionError
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["films"]


def test_a_run_is_held_while_it_is_written_and_what_a_dead_one_left_is_taken_over(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / locks.LOCK).touch()  # killed before its first checkpoint

    def fit_instead(data: Path, folder: Path, *_: Any, **__: Any) -> None:
        check_new(folder)
        with locks.folder(folder) as another:
            assert not another
        (folder / "result").touch()

    monkeypatch.setattr("edgecxr.cli.extras.load_lab", lambda *_: SimpleNamespace(fit=fit_instead))
    result = CliRunner().invoke(cli.app, ["train", str(films), "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.exception
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["result"]


@pytest.mark.parametrize("place", ["file/run", "file"])
def test_a_run_that_cannot_be_held_is_one_sentence(films: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"the folder can't be written to \(.*\): .*"):
        raise (
            CliRunner().invoke(cli.app, ["train", str(films), "-o", str(tmp_path / place)]).exception or AssertionError
        )


def test_what_is_not_learnt_from_is_said(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (films / "dark" / "a.dcm").touch()
    said = io.StringIO()
    monkeypatch.setattr("edgecxr.lab.train.fit.fit_dataset", lambda *_, **__: None)
    fit(films, tmp_path / "run", cache=tmp_path, console=Console(file=said, width=40, markup=False))
    assert said.getvalue() == f"{films}: left out: 1 .dcm; the first is dark/a.dcm\n"


@pytest.mark.slow
def test_beside_a_manifest_a_run_may_lie_anywhere(films: Path, tmp_path: Path) -> None:
    rows = [f"{label}/{number}.png,{label}" for label, count in FILMS.items() for number in range(count)]
    (films / "manifest.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    fit(films, films / "runs" / "first", cache=tmp_path)
    assert read_run(films / "runs" / "first").labels == ("bright", "dark")


def test_a_place_that_cannot_hold_a_run_is_known_before_the_decoding(
    films: Path, tmp_path: Path, undecoded: None
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"the folder can't be written to \(Not a directory\): .*run$"):
        fit(films, tmp_path / "file" / "run", cache=tmp_path)
    with files_unlimited_afterwards(), pytest.raises(StorageError, match=r"need 0\.1 GB, and there is no room for"):
        limit_files(10_000_000)
        fit(films, tmp_path / "run", cache=tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "films"]


def test_weights_that_are_no_archive_are_refused(films: Path, tmp_path: Path, undecoded: None) -> None:
    (tmp_path / "w.keras").write_bytes(b"garbage")
    with pytest.raises(UsageError, match="no weights of Xception"):
        fit(films, tmp_path / "run", backbone_weights=str(tmp_path / "w.keras"), cache=tmp_path)


@pytest.mark.parametrize(
    ("backend", "error", "words"),
    [
        ("numpy", UsageError, "KERAS_BACKEND must be one of tensorflow, jax, got 'numpy'"),
        ("jax", UnavailableError, r"KERAS_BACKEND is jax, which isn't here; run: pip install 'edgecxr\[train-gpu\]'"),
    ],
)
def test_a_backend_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, backend: str, error: type[Exception], words: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr("edgecxr.cli.train.find_spec", lambda name: None)
    with pytest.raises(error, match=words):
        raise CliRunner().invoke(cli.app, ["train", "DATA", "-o", "RUN"]).exception or AssertionError


def test_numbers_of_workers_have_a_limit() -> None:
    assert CliRunner().invoke(cli.app, ["train", "DATA", "-o", "RUN", "-j", "257"]).exit_code == 2


def test_a_name_that_is_too_long_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgecxr", "train", str(tmp_path / ("x" * 300)), "-o", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert "the name is too long" in capsys.readouterr().err


def test_without_a_home_folder_the_cache_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecxr.lab.train.fit import default_cache

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which is to be ignored
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is none
    with pytest.raises(UsageError, match="give --cache"):
        default_cache()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": 1, "labels": 5}', '{"schema": 1}', "[]", "\x00"])
def test_a_garbled_run_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"not a run of edgecxr train, run\.json can't be used"):
        read_run(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_labels_and_files_of_any_name_are_learnt_from(tmp_path: Path) -> None:
    first, second = os.fsdecode(b"b\xe9 [i]"), "dark [red]"
    films = write_films(tmp_path / "films", {first: 6, second: 6})
    (films / second / "0.png").rename(films / second / os.fsdecode(b"\xff0.png"))
    said = io.StringIO()
    fit(films, tmp_path / "run [covid]", cache=tmp_path / "cache", console=Console(file=said, width=1000, markup=False))
    run = read_run(tmp_path / "run [covid]")
    assert run.labels == (first, second)
    assert sorted(Path(file).name for split in ("dev", "test") for file in run.logits(split).files)
    assert r"b\udce9 [i] 3" in said.getvalue()
    assert str(tmp_path / "run [covid]") in said.getvalue()
    assert json.loads((tmp_path / "run [covid]" / "run.json").read_text())["labels"] == [first, second]
