"""A fit that begins with the backbone of a finished RUN, of another input size and other labels."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from common import noisy
from edgecxr.errors import UsageError
from edgecxr.lab.run import read_run
from edgecxr.lab.train import recipes

pytestmark = pytest.mark.lab


def small(size: int) -> recipes.Recipe:
    chosen = recipes.recipe("default")
    return replace(chosen, stages=chosen.stages[:1], input_size=size, batch_size=8, middle_blocks=1)  # the head alone


def write_films(folder: Path, labels: tuple[str, ...], first_seed: int) -> Path:
    for place, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            picture = noisy((100, 100), first_seed + 100 * place + number)
            Image.fromarray(picture).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgecxr.lab.train.fit import fit

    folder = tmp_path_factory.mktemp("first")
    data = write_films(folder / "films", ("a", "b"), 0)
    fit(data, folder / "run", small(71), backbone_weights="none", seed=5, cache=folder)
    return folder


@pytest.mark.slow
def test_the_backbone_is_the_runs_and_the_head_is_fresh(first: Path) -> None:
    from edgecxr.lab.train import model as models

    source = models.load_run(read_run(first / "run"))
    fresh = models.build(small(75), 3, str(first / "run"))
    pairs = zip(
        source.get_layer(models.BACKBONE).get_weights(), fresh.get_layer(models.BACKBONE).get_weights(), strict=True
    )
    assert all(np.array_equal(theirs, ours) for theirs, ours in pairs)
    assert fresh.get_layer("logits").get_weights()[0].shape == (2048, 3)


@pytest.mark.slow
def test_the_run_says_what_it_began_with_and_warns_where_test_pictures_may_be_known(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.lab.train import fit as module
    from edgecxr.lab.train.fit import fit

    said = io.StringIO()
    console = Console(file=said, width=1000)
    same, other = first / "same", first / "other"
    fit(first / "films", same, small(75), backbone_weights=str(first / "run"), seed=5, cache=first, console=console)
    assert "fitted on other data" not in said.getvalue()
    began = read_run(same).description["backbone_weights"]
    described = read_run(first / "run").description
    assert began["source"] == "run run"
    assert began["fitted_on"] == described["data"]["fingerprint"]
    assert began["backbone_weights"] == {"source": "none"}

    data = write_films(first / "other-films", ("a", "b", "c"), 1000)
    monkeypatch.setattr(module, "train", lambda *_: 1 / 0)  # it is said before
    with pytest.raises(ZeroDivisionError):
        fit(data, other, small(75), backbone_weights=str(first / "run"), cache=first, console=console)
    assert "run run was fitted on other data or other splits" in said.getvalue()


@pytest.mark.slow
def test_a_folder_that_is_no_run_is_one_sentence(first: Path, tmp_path: Path) -> None:
    from edgecxr.lab.train.fit import fit

    with pytest.raises(UsageError, match="not a run of edgecxr train"):
        fit(first / "films", tmp_path / "run", small(71), backbone_weights=str(tmp_path), cache=first)
    assert not (tmp_path / "run").exists()


def test_what_the_runs_before_were_fitted_on_is_warned_of_too() -> None:
    from edgecxr.lab.train.fit import _warn_of_leak

    said = io.StringIO()
    grandparent = {"source": "run first", "fitted_on": "other", "backbone_weights": {"source": "imagenet"}}
    parent = {"source": "run second", "fitted_on": "these", "backbone_weights": grandparent}
    _warn_of_leak(Console(file=said, width=1000), parent, "these")
    assert "run first was fitted on other data" in said.getvalue()
    assert "run second" not in said.getvalue()
