"""`edgecxr eval`: how often is a bundle right on labelled pictures, on this device, as a clinic would run it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgecxr import pipeline
from edgecxr.dataset import Dataset, Example
from edgecxr.errors import DataError
from edgecxr.records import Prediction


@dataclass(frozen=True)
class Share:
    """`hits` of `total`, with a 95 % interval."""

    hits: int
    total: int

    @property
    def value(self) -> float | None:
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson_interval(self.hits, self.total) if self.total else None

    def to_json(self) -> dict[str, Any]:
        return {"hits": self.hits, "total": self.total, "value": self.value, "interval95": self.interval}


@dataclass(frozen=True)
class Evaluation:
    """Predictions against labels. Rejected pictures are in `rejected` and nowhere else."""

    labels: tuple[str, ...]
    accuracy: Share
    confusion: tuple[tuple[int, ...], ...]  # [true label][predicted label]
    by_origin: tuple[tuple[str, str, Share], ...]  # (label, origin, share of it that was found)
    rejected: tuple[tuple[str, str], ...]  # (file, reason)

    def sensitivity(self, label: str) -> Share:
        """Share of the pictures of `label` that were found."""
        row = self.confusion[self.labels.index(label)]
        return Share(row[self.labels.index(label)], sum(row))

    def specificity(self, label: str) -> Share:
        """Share of the other pictures that weren't taken for `label`."""
        column = self.labels.index(label)
        others = [row for index, row in enumerate(self.confusion) if index != column]
        return Share(sum(sum(row) - row[column] for row in others), sum(sum(row) for row in others))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "labels": list(self.labels),
            "accuracy": self.accuracy.to_json(),
            "sensitivity": {label: self.sensitivity(label).to_json() for label in self.labels},
            "specificity": {label: self.specificity(label).to_json() for label in self.labels},
            "confusion": [list(row) for row in self.confusion],
            "by_origin": [{"label": label, "origin": origin, **s.to_json()} for label, origin, s in self.by_origin],
            "rejected": [{"file": file, "reason": reason} for file, reason in self.rejected],
        }


def wilson_interval(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson, JASA 1927); it treats pictures as independent."""
    share = hits / total
    centre = share + z * z / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def default_split(dataset: Dataset) -> str:
    """`test` where there are splits, else `all`."""
    return "test" if dataset.split("test") else "all"


def select(dataset: Dataset, labels: Sequence[str], split: str, ignored: Sequence[str]) -> tuple[Example, ...]:
    """The examples to evaluate on: those of `split` (or all), less those whose label is `ignored`.

    Raises DataError for a label that the bundle doesn't know, since such a picture could only be counted as wrong.
    """
    chosen = [e for e in (dataset.examples if split == "all" else dataset.split(split)) if e.label not in ignored]
    unknown = sorted({example.label for example in chosen} - set(labels))
    if unknown:
        raise DataError(
            f"the bundle doesn't know the label {', '.join(unknown)}, only {', '.join(labels)}; "
            "give --ignore-label to leave its pictures out"
        )
    if not chosen:
        raise DataError(f"no labelled picture to evaluate on: split {split}")
    return tuple(chosen)


def evaluate(
    session: pipeline.Session,
    examples: Sequence[Example],
    advance: Callable[[Prediction], Any] = lambda prediction: None,
) -> Evaluation:
    """Score `examples` from their files, through the same pipeline as `infer`, and compare with their labels."""
    predictions = []
    for prediction in pipeline.stream(session, [example.path for example in examples]):
        advance(prediction)
        predictions.append(prediction)
    return compare(session.bundle.labels, examples, predictions)


def compare(labels: tuple[str, ...], examples: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
    """Predictions against labels, picture by picture."""
    confusion = [[0] * len(labels) for _ in labels]
    found: dict[tuple[str, str], list[bool]] = {}
    rejected = []
    for example, prediction in zip(examples, predictions, strict=True):
        if prediction.label is None:
            rejected.append((example.file, prediction.error_code or prediction.status))
            continue
        confusion[labels.index(example.label)][labels.index(prediction.label)] += 1
        found.setdefault((example.label, example.origin), []).append(prediction.label == example.label)
    return Evaluation(
        labels=labels,
        accuracy=Share(sum(confusion[i][i] for i in range(len(labels))), sum(map(sum, confusion))),
        confusion=tuple(tuple(row) for row in confusion),
        by_origin=tuple(
            (label, origin, Share(sum(hits), len(hits))) for (label, origin), hits in sorted(found.items())
        ),
        rejected=tuple(rejected),
    )
