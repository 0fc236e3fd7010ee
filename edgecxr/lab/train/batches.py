"""Batches of one epoch: what is drawn, in which order, depends on (seed, epoch) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgecxr.lab.train.augment import augment_batch
from edgecxr.lab.train.recipes import Augmentation

# (places in the list of training pictures (B,), how often each was drawn before (B,)) -> network inputs (B, …)
Places = npt.NDArray[np.intp]
Source = Callable[[Places, Places], npt.NDArray[Any]]

BATCH = 32  # pictures at a time where nothing is learnt from them


@dataclass(frozen=True)
class Targets:
    """What the training pictures are: one-hot labels (N, K), a weight for each class (K,) or None, and how to draw.

    `cells` are the places of each (class, source), and how many of them an epoch draws; none: each picture once.
    """

    one_hot: npt.NDArray[np.float32]
    class_weights: npt.NDArray[np.float32] | None
    cells: tuple[tuple[Places, int], ...] = ()

    @classmethod
    def of(
        cls, classes: Sequence[int], class_count: int, *, balance: bool, sources: Sequence[str] | None = None
    ) -> Targets:
        """`balance` weighs each class by the inverse of its share, with mean 1 over the pictures.

        `sources`, where given, takes the place of weights: each class is drawn equally often, and within it each
        source in proportion to the square root of its films, so that a class isn't told by where most of it comes
        from and the films of a small source aren't seen ten times an epoch.
        """
        one_hot = np.eye(class_count, dtype=np.float32)[np.asarray(classes)]
        if sources is not None:
            return cls(one_hot, None, _cells(np.asarray(classes), np.asarray(sources)))
        counts = np.bincount(classes, minlength=class_count)
        weights = (len(classes) / (class_count * counts)).astype(np.float32) if balance else None
        return cls(one_hot, weights)

    def order(self, seed: int, epoch: int) -> tuple[Places, Places]:
        """The places that `epoch` draws, shuffled, and how often each was drawn before: two arrays (M,)."""
        generator = np.random.default_rng((seed, epoch))
        if not self.cells:
            order = generator.permutation(len(self.one_hot))
            return order, np.full(len(order), epoch)
        parts = []
        for number, (places, quota) in enumerate(self.cells):
            # A cell's films take turns without end; this epoch's stretch of that line may lie in several turns.
            turns, positions = np.divmod(np.arange(epoch * quota, (epoch + 1) * quota), len(places))
            for turn in np.unique(turns):
                shuffled = np.random.default_rng((seed, number, int(turn))).permutation(places)
                drawn = shuffled[positions[turns == turn]]
                parts.append(np.stack([drawn, np.full(len(drawn), turn)]))
        order, before = generator.permutation(np.concatenate(parts, axis=1), axis=1)
        return order, before


def _cells(classes: npt.NDArray[np.intp], sources: npt.NDArray[np.str_]) -> tuple[tuple[Places, int], ...]:
    """The places of each (class, source) and its share of an epoch, which is as long as the list."""
    found = [
        [np.flatnonzero((classes == label) & (sources == source)) for source in np.unique(sources[classes == label])]
        for label in np.unique(classes)
    ]
    cells = []
    for parts in found:
        roots = np.sqrt([len(places) for places in parts])
        shares = roots / roots.sum() / len(found)
        cells += [(p, max(1, round(len(classes) * share))) for p, share in zip(parts, shares, strict=True)]
    return tuple(cells)


def augmented(
    pictures: npt.NDArray[np.uint8], rows: Sequence[int], augmentation: Augmentation, seed: int, views: int = 0
) -> Source:
    """Training inputs uint8 (B, H, W, 1): picture `rows[place]` of the memory map, augmented for its turn.

    With `views`, a picture shows only so many, in turn.
    """
    kept = np.asarray(rows)

    def take(places: Places, turns: Places) -> npt.NDArray[np.uint8]:
        # Sorted reads go through the file in one direction, which a disk likes better.
        order = np.argsort(kept[places], kind="stable")
        images = np.empty((len(places), *pictures.shape[1:]), np.uint8)
        for place in order:
            images[place] = pictures[kept[places[place]]]
        shown = turns % views if views else turns
        return augment_batch(images, augmentation, seed, shown, places)[..., None]

    return take


class Epoch(keras.utils.PyDataset):  # type: ignore[misc]  # keras brings no types
    """The batches of one epoch: (inputs (B, …), one-hot labels float32 (B, K)[, weights float32 (B,)]).

    `beside` gives more that is learnt of each picture on its turn, float32 (B, X): labels are then (B, K + X).
    Starts at batch `first`, for a run that goes on in the middle of an epoch. Where `multiple_of` devices share a
    batch, pictures that don't fill the last one evenly are left to the next epoch's order.
    """

    def __init__(
        self,
        source: Source,
        targets: Targets,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        first: int = 0,
        multiple_of: int = 1,
        workers: int = 1,
        beside: Source | None = None,
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        self.source, self.targets, self.batch_size = source, targets, batch_size
        self.first, self.beside = first, beside
        order, turns = targets.order(seed, epoch)
        whole = len(order) // multiple_of * multiple_of
        self.order, self.turns = order[:whole], turns[:whole]

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size) - self.first

    def __getitem__(self, batch: int) -> tuple[Any, ...]:
        begin = (self.first + batch) * self.batch_size
        chosen = self.order[begin : begin + self.batch_size]
        turns = self.turns[begin : begin + self.batch_size]
        inputs, labels = self.source(chosen, turns), self.targets.one_hot[chosen]
        learnt = np.concatenate([labels, self.beside(chosen, turns)], axis=1) if self.beside else labels
        if self.targets.class_weights is None:
            return inputs, learnt
        return inputs, learnt, labels @ self.targets.class_weights


class Inputs(keras.utils.PyDataset):  # type: ignore[misc]
    """Pictures as they are, in the order of `rows`, for prediction: batches (inputs uint8 (B, H, W, 1),).

    The last batch is filled with its own last picture, so that every batch has one shape: nothing is compiled twice
    and devices share evenly. Cut the predictions to len(rows).
    """

    def __init__(self, pictures: npt.NDArray[np.uint8], rows: Sequence[int], batch_size: int) -> None:
        super().__init__()
        self.pictures, self.rows, self.batch_size = pictures, np.asarray(rows), batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, batch: int) -> tuple[npt.NDArray[np.uint8]]:
        chosen = self.rows[batch * self.batch_size : (batch + 1) * self.batch_size]
        filled = np.concatenate([chosen, np.full(self.batch_size - len(chosen), chosen[-1])])
        return (self.pictures[filled][..., None],)


def predict(
    model: Any, pictures: npt.NDArray[np.uint8], rows: Sequence[int], batch_size: int = BATCH
) -> npt.NDArray[np.float32]:
    """What `model` answers to the pictures `rows`: float32 (len(rows), …)."""
    outputs = model.predict(Inputs(pictures, rows, batch_size), verbose=0)
    return np.asarray(outputs, dtype=np.float32)[: len(rows)]
