"""How often a model is right on labelled pictures: by class, by origin, and within an age group.

The public sets join viral pneumonia of children with covid of adults, so a model can score well by telling ages
apart. Within one age group it can't.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.dataset import Example
from edgecxr.evaluate import Evaluation, Share

# What an origin's text says about age; "pediatric" as in the manifests.
AGES = ("pediatric", "adult")


def evaluate_logits(
    labels: tuple[str, ...], examples: Sequence[Example], logits: npt.NDArray[np.float32]
) -> Evaluation:
    """The evaluation of logits (N, K) of `examples`, in the same form as `edgecxr eval` gives."""
    classes = np.array([labels.index(example.label) for example in examples])
    answers = logits.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(confusion, (classes, answers), 1)
    right = classes == answers
    groups = sorted({(example.label, example.origin) for example in examples})
    by_origin = []
    for label, origin in groups:
        mine = np.array([(example.label, example.origin) == (label, origin) for example in examples])
        by_origin.append((label, origin, Share(int(right[mine].sum()), int(mine.sum()))))
    return Evaluation(
        labels=labels,
        accuracy=Share(int(right.sum()), len(examples)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        by_origin=tuple(by_origin),
        rejected=(),
    )


def within_ages(evaluation: Evaluation) -> list[dict[str, Any]]:
    """For each age group of two classes or more: its classes, the share that was right, and each class's share found.

    A right answer is the right one of all classes, so taking a child's film for covid counts as wrong too.
    """
    rows = []
    for age in AGES:
        found: dict[str, Share] = {}
        for label, origin, share in evaluation.by_origin:
            if age in origin.lower():
                before = found.get(label, Share(0, 0))
                found[label] = Share(before.hits + share.hits, before.total + share.total)
        if len(found) < 2:
            continue
        total = Share(sum(s.hits for s in found.values()), sum(s.total for s in found.values()))
        rows.append(
            {
                "age": age,
                "labels": sorted(found),
                "accuracy": total.to_json(),
                "sensitivity": {label: found[label].to_json() for label in sorted(found)},
            }
        )
    return rows
