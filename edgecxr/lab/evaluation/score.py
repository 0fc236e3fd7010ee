"""Which labelled pictures to evaluate on, and their logits: through a bundle's pipeline, or as a RUN stored them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.errors import DataError, UsageError
from edgecxr.lab.dataset import Dataset, Example
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session

RUN_SPLITS = ("dev", "test")  # those whose logits a RUN keeps


@dataclass(frozen=True)
class Scored:
    """Labelled pictures with their logits, and those that were rejected, which stand in no figure."""

    examples: tuple[Example, ...]
    logits: npt.NDArray[np.float64]  # (N, K), in the order of the examples
    rejected: tuple[tuple[str, str], ...] = ()  # (file, reason)
    ood: npt.NDArray[np.float64] | None = None  # (N,), of a network that gives it; those that abstain are among them

    def rejected_json(self) -> list[dict[str, str]]:
        return [{"file": file, "reason": reason} for file, reason in self.rejected]


def default_split(dataset: Dataset) -> str:
    """`test` where there are splits, else `all`.

    To be asked of the whole data: of a part that holds training pictures only, the default must not be `all`.
    """
    return "test" if any(example.split is not None for example in dataset.examples) else "all"


def run_split(asked: str | None) -> str:
    """The split of a RUN to evaluate on, test unless asked otherwise; raises UsageError for one it has no logits of."""
    if asked is not None and asked not in RUN_SPLITS:
        raise UsageError(f"a run holds the logits of {' and '.join(RUN_SPLITS)} only, got --split {asked}")
    return asked or "test"


def check_ignored(ignored: Sequence[str], *known: Sequence[str]) -> None:
    """Raise UsageError for an ignored label that is in none of `known`, the labels of the data and of the model."""
    labels = sorted({label for some in known for label in some})
    for label in ignored:
        if label not in labels:
            raise UsageError(f"--ignore-label expects one of {', '.join(labels)}, got {label!r}")


def select(dataset: Dataset, labels: Sequence[str], split: str, ignored: Sequence[str]) -> tuple[Example, ...]:
    """The examples to evaluate on: those of `split` (or all), less those whose label is `ignored`.

    Raises DataError for a label that the model doesn't know, since such a picture could only be counted as wrong.
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


def score(
    session: Session,
    examples: Sequence[Example],
    advance: Callable[[Prediction], Any] = lambda prediction: None,
) -> Scored:
    """Score `examples` from their files, through the same pipeline as `infer`."""
    predictions = []
    for prediction in pipeline.stream(session, [example.path for example in examples]):
        advance(prediction)
        predictions.append(prediction)
    return collect(session.bundle.labels, examples, predictions)


def collect(labels: Sequence[str], examples: Sequence[Example], predictions: Sequence[Prediction]) -> Scored:
    """Predictions of `examples`, in their order, as logits (N, K) of those that weren't rejected."""
    kept, rows, rejected, oods = [], [], [], []
    for example, prediction in zip(examples, predictions, strict=True):
        if not prediction.logits:
            rejected.append((example.file, prediction.error_code or prediction.status))
            continue
        kept.append(example)
        rows.append([prediction.logits[label] for label in labels])
        oods.append(prediction.ood_score)
    logits = np.array(rows, dtype=np.float64).reshape(len(kept), len(labels))
    ood = None if None in oods or not oods else np.array(oods, dtype=np.float64)
    return Scored(tuple(kept), logits, tuple(rejected), ood)


def check_logits(
    folder: Path, split: str, labels: int, files: int, classes: npt.NDArray[Any], logits: npt.NDArray[Any]
) -> None:
    """Raise DataError where a RUN's arrays aren't one finite logit a label and one class a file, or there are none."""
    fits = (
        files > 0
        and classes.shape == (files,)
        and logits.shape == (files, labels)
        and np.issubdtype(classes.dtype, np.integer)
        and np.issubdtype(logits.dtype, np.floating)
        and bool(((classes >= 0) & (classes < labels)).all())
        and bool(np.isfinite(logits).all())
    )
    if not fits:
        raise DataError(
            f"the run must hold {labels} finite logits and a class for each of its {files} {split} pictures, it holds "
            f"logits {logits.shape} and classes {classes.shape}: {folder}"
        )


def stored(
    dataset: Dataset,
    labels: Sequence[str],
    files: Sequence[str],
    classes: npt.NDArray[np.integer],
    logits: npt.NDArray[np.floating],
) -> Scored:
    """A RUN's logits (N, K) of `files` with `classes` (N,), joined with the groups and origins that the data name.

    Raises DataError where the data lack one of the files, or call its class otherwise: then they aren't the run's.
    """
    by_file = {example.file: example for example in dataset.examples}
    examples = []
    for file, index in zip(files, classes, strict=True):
        example = by_file.get(file)
        if example is None:
            raise DataError(f"the data must hold the run's pictures, there is none named {file}: {dataset.folder}")
        if example.label != labels[index]:
            raise DataError(f"the run calls {file} {labels[index]}, the data call it {example.label}: {dataset.folder}")
        examples.append(example)
    return Scored(tuple(examples), np.asarray(logits, dtype=np.float64))


def narrowed(scored: Scored, wanted: Dataset, ignored: Sequence[str]) -> Scored:
    """Only the examples that are in `wanted` too, less those whose label is `ignored`; raises DataError for none."""
    files = {example.file for example in wanted.examples}
    places = [i for i, e in enumerate(scored.examples) if e.file in files and e.label not in ignored]
    if not places:
        raise DataError("no labelled picture of the run is left to evaluate on")
    return Scored(tuple(scored.examples[i] for i in places), scored.logits[places], scored.rejected)
