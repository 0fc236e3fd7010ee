"""Features of a frozen backbone: what the whole model would have seen, kept under a name that holds what made them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from common import noisy
from edgecxr.errors import DivergedError, StorageError
from edgecxr.lab.train import features, loop, recipes, storage
from edgecxr.lab.train.batches import augmented
from full_disk import files_unlimited_afterwards, limit_files

CHANGES = recipes.recipe("default").augmentation
PICTURES = np.stack([noisy((71, 71), i) for i in range(50)])
ROWS = range(5, 45)  # more than one batch


class Corner:
    """Stands in for a backbone: its features are pixels."""

    output_shape = (None, 2, 3)

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        assert images.shape == (32, 71, 71, 1)
        return images[:, :2, :3, 0].astype(np.float32)


def compute(file: Path, extractor: Any = None, views: int = 3) -> np.ndarray:
    return features.compute(extractor or Corner(), PICTURES, ROWS, views, CHANGES, 9, file)


def test_view_k_is_what_a_pictures_kth_draw_would_have_seen(tmp_path: Path) -> None:
    found = compute(tmp_path / "f.npy")
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert (found.dtype, found.shape) == (np.float16, (3, 40, 2, 3))
    pictures = augmented(PICTURES, ROWS, CHANGES, 9)
    taken = features.source(found)
    places = np.array([39, 0, 17])
    for epoch in range(7):  # four more than there are views
        turns = np.array([epoch, epoch + 1, epoch])
        expected = pictures(places, turns % 3)[:, :2, :3, 0]
        assert np.array_equal(taken(places, turns), expected)


def test_what_stands_is_not_computed_again(tmp_path: Path) -> None:
    first = np.array(compute(tmp_path / "f.npy"))
    assert np.array_equal(compute(tmp_path / "f.npy", extractor=object()), first)


def test_progress_counts_pictures_of_all_views(tmp_path: Path) -> None:
    done: list[int] = []
    features.compute(Corner(), PICTURES, ROWS, 2, CHANGES, 9, tmp_path / "f.npy", done.append)
    assert done == [32, 40, 72, 80]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_that_augment_change_no_feature_and_run_ahead_of_the_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    expected = np.array(compute(tmp_path / "expected.npy"))
    next_batches = threading.Event()
    made: list[int] = []
    augment = features.augment_batch

    def counted(*arguments: Any) -> np.ndarray:
        made.append(1)
        if len(made) >= 2:
            next_batches.set()
        return augment(*arguments)

    class Slow(Corner):
        def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
            assert next_batches.wait(60)  # the second batch is made although the first isn't through yet
            return super().predict_on_batch(images)

    monkeypatch.setattr(features, "augment_batch", counted)
    found = features.compute(Slow(), PICTURES, ROWS, 3, CHANGES, 9, tmp_path / "f.npy", workers=workers)
    assert np.array_equal(found, expected)
    assert len(made) == 6


def test_a_picture_that_cannot_be_augmented_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> np.ndarray:
        raise ValueError("no picture")

    monkeypatch.setattr(features, "augment_batch", broken)
    with pytest.raises(ValueError, match="no picture"):
        compute(tmp_path / "f.npy")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_says_how_to_need_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(StorageError, match=r"the backbone's features need .* --feature-views takes fewer"):
        compute(tmp_path / "f.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_features_that_float16_cannot_hold_are_refused_and_not_kept(tmp_path: Path, value: float) -> None:
    class Broken(Corner):
        def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
            found = super().predict_on_batch(images)
            found[3, 1, 1] = value
            return found

    with pytest.raises(DivergedError, match="aren't finite numbers that float16 can hold"):
        compute(tmp_path / "f.npy", Broken())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with files_unlimited_afterwards(), pytest.raises(StorageError, match=r"features can't be written \(no room left\)"):
        limit_files(500)
        compute(tmp_path / "f.npy")
    assert list(tmp_path.iterdir()) == []


def test_the_files_name_changes_with_everything_that_decides_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def record(*arguments: Any, **_: Any) -> np.ndarray:
        names.append(arguments[6].name)
        return np.zeros((1, 1, 1), np.float16)

    monkeypatch.setattr(features, "compute", record)
    monkeypatch.setattr(loop.models, "split", lambda *_: (None, None))
    base: dict[str, Any] = {
        "inputs": loop.Inputs(PICTURES, [0, 1, 2], [0, 1, 0], [3, 4], [0, 1], 2, ["", "", ""]),
        "recipe": replace(recipes.recipe("seed"), input_size=71),
        "seed": 0,
        "around": loop.Surroundings(
            tmp_path, tmp_path, Console(quiet=True), backbone_identity="a", data_fingerprint="b"
        ),
    }

    def name(**changes: Any) -> str:
        values = {**base, **changes}
        loop._stage(None, values["inputs"], values["recipe"], 0, values["seed"], values["around"])
        return names[-2]  # of train; the last one is of dev

    one = base["recipe"]
    found = [
        name(),
        name(seed=1),
        name(around=replace(base["around"], backbone_identity="other weights")),
        name(around=replace(base["around"], data_fingerprint="other data")),
        name(inputs=replace(base["inputs"], train=[0, 1, 4])),
        name(inputs=replace(base["inputs"], pictures=np.zeros((9, 75, 75), np.uint8))),
        name(recipe=replace(one, scale=1 / 127.5)),
        name(recipe=replace(one, offset=-1.0)),
        name(recipe=replace(one, head="pooled")),
        name(recipe=replace(one, feature_views=2)),
        name(recipe=replace(one, augmentation=replace(one.augmentation, flip=False))),
    ]
    assert len(set(found)) == len(found)
    # What the head alone is about changes nothing.
    assert name(recipe=replace(one, dropout=0.5, batch_size=4, label_smoothing=0.1)) == found[0]
    assert name(around=replace(base["around"], workers=2)) == found[0]


@pytest.mark.slow
@pytest.mark.lab
@pytest.mark.parametrize("name", ["seed", "default"])
def test_the_head_on_features_answers_as_the_whole_model_does(name: str, tmp_path: Path) -> None:
    import keras

    from edgecxr.lab.train import model as models

    keras.utils.set_random_seed(1)
    recipe = replace(recipes.recipe(name), input_size=71)
    whole = models.build(recipe, 3)
    models.freeze(whole, None)
    extractor, head = models.split(whole, recipe)
    images = augmented(PICTURES, ROWS, CHANGES, 9)(np.arange(40), np.ones(40, int))
    expected = np.concatenate([whole.predict_on_batch(images[:32]), whole.predict_on_batch(images[32:])])
    assert expected.std(axis=0).min() > 0
    kept = np.array(features.compute(extractor, PICTURES, ROWS, 2, CHANGES, 9, tmp_path / "f.npy"))[1]
    # float16 holds 11 bits: a feature is off by 1/2048 of itself at most.
    np.testing.assert_allclose(head.predict(kept, verbose=0), expected, atol=2e-3 * np.abs(expected).max())
    exact = np.concatenate([extractor.predict_on_batch(part) for part in (images[:32], images[32:])])
    np.testing.assert_allclose(head.predict(exact, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert {v.path for v in head.trainable_variables} == {v.path for v in whole.trainable_variables}
