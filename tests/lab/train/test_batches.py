"""Batches: pure in (seed, epoch, index), whatever the workers and wherever an epoch is taken up again."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import noisy
from edgecxr.lab.train.augment import augment
from edgecxr.lab.train.batches import Epoch, Targets, augmented
from edgecxr.lab.train.recipes import recipe

CHANGES = recipe("default").augmentation
PICTURES = np.stack([noisy((71, 71), i) for i in range(24)])
ROWS = range(3, 22)  # 19 training pictures: the last batch of 4 holds 3
TARGETS = Targets.of([0, 1, 1] * 6 + [0], 2, balance=True)


def epoch(number: int = 0, **options: Any) -> Epoch:
    values: dict[str, Any] = {"seed": 5, "epoch": number, **options}
    return Epoch(augmented(PICTURES, ROWS, CHANGES, values["seed"]), TARGETS, 4, **values)


def drawn(batches: Epoch) -> list[tuple[np.ndarray, ...]]:
    """What Keras gets of them, in its order, through its own queue and threads."""
    from keras.src.trainers.data_adapters import get_data_adapter

    adapter = get_data_adapter(batches, shuffle=False)  # as the training loop calls fit()
    adapter.on_epoch_begin()
    found = [tuple(np.asarray(part) for part in batch) for batch in adapter.get_numpy_iterator()]
    adapter.on_epoch_end()
    return found


def same(one: list[tuple[np.ndarray, ...]], other: list[tuple[np.ndarray, ...]]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for ours, theirs in zip(one, other, strict=True) for a, b in zip(ours, theirs, strict=True)
    )


def test_one_worker_two_and_three_give_the_same_bytes_in_the_same_order() -> None:
    alone = drawn(epoch(2))
    assert len(alone) == 5
    assert same(alone, drawn(epoch(2, workers=2)))
    assert same(alone, drawn(epoch(2, workers=3)))
    assert same(alone, [epoch(2)[i] for i in range(5)])
    assert not same(alone, drawn(epoch(3)))
    assert not same(alone, drawn(epoch(2, seed=6)))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("first", [1, 3, 4])
def test_an_epoch_taken_up_again_gives_what_was_left(first: int, workers: int) -> None:
    assert same(drawn(epoch(1))[first:], drawn(epoch(1, first=first, workers=workers)))


@given(
    count=st.integers(1, 60),
    size=st.integers(1, 17),
    devices=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    number=st.integers(0, 500),
)
@settings(deadline=None)
def test_an_epoch_sees_each_picture_once_and_devices_share_every_batch_evenly(
    count: int, size: int, devices: int, seed: int, number: int
) -> None:
    def place(places: np.ndarray, turns: np.ndarray) -> np.ndarray:
        assert turns.tolist() == [number] * len(places)
        return places

    targets = Targets.of([0] * count, 1, balance=False)
    batches = Epoch(place, targets, size * devices, seed=seed, epoch=number, multiple_of=devices)
    parts = [batches[i][0] for i in range(len(batches))]
    seen = np.concatenate(parts) if parts else np.array([], int)
    assert len(set(seen.tolist())) == len(seen) == count - count % devices
    assert all(len(part) % devices == 0 for part in parts)
    assert all(len(part) == size * devices for part in parts[:-1])


def test_each_picture_is_augmented_by_its_own_place_in_the_list() -> None:
    places = np.array([7, 0, 3])
    images = augmented(PICTURES, ROWS, CHANGES, 5)(places, np.array([4, 4, 6]))
    assert images.shape == (3, 71, 71, 1)
    for image, place, turn in zip(images[..., 0], places, [4, 4, 6], strict=True):
        assert np.array_equal(image, augment(PICTURES[ROWS[place]], CHANGES, (5, turn, int(place))))


def test_sources_are_drawn_by_the_square_root_of_their_films_and_classes_equally_often() -> None:
    # Class 0: 64 films of a and 16 of b, so 2 to 1; class 1: 20 of a. An epoch is 100 draws: 33.3, 16.7, 50.
    classes, sources = [0] * 80 + [1] * 20, ["a"] * 64 + ["b"] * 16 + ["a"] * 20
    targets = Targets.of(classes, 2, balance=True, sources=sources)
    assert targets.class_weights is None
    seen: dict[tuple[int, int], int] = {}
    for number in range(6):
        order, turns = targets.order(seed=1, epoch=number)
        parts = [int((order < 64).sum()), int(((order >= 64) & (order < 80)).sum()), int((order >= 80).sum())]
        assert parts == [33, 17, 50]
        for place, turn in zip(order.tolist(), turns.tolist(), strict=True):
            assert seen.setdefault((place, turn), number) == number  # no picture is augmented the same way twice
        assert not np.array_equal(order, targets.order(seed=2, epoch=number)[0])
        assert np.array_equal(order, targets.order(seed=1, epoch=number)[0])
    drawn = np.bincount([place for place, _ in seen], minlength=100)
    assert drawn[:64].min() >= 3 and drawn[:64].max() <= 4  # 198 draws of 64 films that take turns
    assert drawn[64:80].tolist().count(6) + drawn[64:80].tolist().count(7) == 16  # 102 of 16
    assert drawn[80:].tolist() == [15] * 20  # 300 of 20


def test_class_weights_are_the_inverse_shares_by_hand() -> None:
    # 7 of class 0 and 12 of class 1: 19 / (2 x 7) and 19 / (2 x 12).
    assert TARGETS.class_weights is not None
    assert TARGETS.class_weights.tolist() == pytest.approx([19 / 14, 19 / 24])
    for _, labels, weights in drawn(epoch()):
        assert weights.tolist() == pytest.approx([19 / 14 if label[0] else 19 / 24 for label in labels])
    assert len(epoch()[0]) == 3
    plain = Targets.of([0, 1, 1], 2, balance=False)
    assert plain.class_weights is None
    assert plain.one_hot.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_keras_weighs_the_loss_of_each_picture_by_them() -> None:
    import keras

    logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    labels = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    weights = labels @ np.array([0.5, 2.0], np.float32)
    found = model.evaluate(logits, labels, sample_weight=weights, batch_size=3, verbose=0)
    # -log softmax of the true class: log(1 + e^-2), log(1 + e), log 2; the mean is over the pictures.
    by_hand = (0.5 * np.log1p(np.exp(-2)) + 0.5 * np.log1p(np.e) + 2.0 * np.log(2)) / 3
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_an_epoch_holds_only_the_batches_in_hand(tmp_path: Path) -> None:
    pictures = np.lib.format.open_memmap(tmp_path / "p.npy", mode="w+", dtype=np.uint8, shape=(1000, 128, 128))
    targets = Targets.of([0, 1] * 500, 2, balance=False)
    batches = Epoch(augmented(pictures, range(1000), CHANGES, 0), targets, 16, seed=0, epoch=0)
    tracemalloc.start()
    try:
        for number in range(len(batches)):
            batches[number]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pictures.nbytes > 16e6
    assert peak < 2e6  # a batch is 0.26 MB, augmented 0.26 more
