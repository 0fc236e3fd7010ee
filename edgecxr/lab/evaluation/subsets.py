"""Where a model may score by a shortcut: each class by its origin, and classes against normal within one age group.

The public sets join viral pneumonia of children with covid of adults, so a model can do well by telling ages or
hospitals apart. Within one age group it can't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecxr.lab.evaluation.bootstrap import Bools, Floats, Ints
from edgecxr.lab.evaluation.metrics import auroc, share

# What an origin's text says about age.
AGES = {"pediatric": ("pediatric", "paediatric", "child"), "adult": ("adult",)}
NORMAL = "normal"  # the class that every finding is set against
# What the public sets confound with age, so that these two are always reported, or said to be impossible.
ALWAYS = {"pediatric": "viral_pneumonia", "adult": "covid"}


def by_origin(labels: Sequence[str], classes: Ints, answers: Ints, origins: Sequence[str]) -> list[dict[str, Any]]:
    """For each class and origin that the data name: the share of its pictures that was found, and all their answers."""
    rows = []
    given = np.array(origins, dtype=object)
    for index, label in sorted(enumerate(labels), key=lambda pair: pair[1]):
        for origin in sorted({origin for origin in given[classes == index] if origin}):
            mine = (classes == index) & (given == origin)
            given_answers = np.bincount(answers[mine], minlength=len(labels)).tolist()
            rows.append(
                {
                    "label": label,
                    "origin": origin,
                    "sensitivity": share(answers == index, mine),
                    "answers": dict(zip(labels, given_answers, strict=True)),
                }
            )
    return rows


def within_ages(labels: Sequence[str], classes: Ints, logits: Floats, origins: Sequence[str]) -> list[dict[str, Any]]:
    """For each age group, each finding against the normal pictures of that age; where none is normal, the only two.

    Viral pneumonia against paediatric normal and covid against adult normal always have a row where the model knows
    these classes. `absent` names the classes of a row without a picture of that age: then only the other's
    sensitivity is defined.

    A right answer is the right one of all classes, so taking a child's film for covid counts as wrong. The AUROC is
    the pair's own: pictures are ordered by the difference of the two logits, that is by the finding's probability
    were there no third class.
    """
    rows = []
    for age, words in AGES.items():
        among = np.array([any(word in origin.lower() for word in words) for origin in origins], dtype=bool)
        present = [label for index, label in enumerate(labels) if (among & (classes == index)).any()]
        pairs = _pairs(present)
        always = (ALWAYS[age], NORMAL)
        if set(always) <= set(labels) and always not in pairs:
            pairs.insert(0, always)
        for pair in pairs:
            absent = [label for label in pair if label not in present]
            rows.append(
                {
                    "age": age,
                    "labels": list(pair),
                    "absent": absent,
                    **_pair(labels, classes, logits, among, *pair, whole=not absent),
                }
            )
    return rows


def _pairs(present: Sequence[str]) -> list[tuple[str, str]]:
    if NORMAL in present:
        return [(label, NORMAL) for label in present if label != NORMAL]
    return [(present[0], present[1])] if len(present) == 2 else []


def _pair(
    labels: Sequence[str], classes: Ints, logits: Floats, among: Bools, finding: str, other: str, *, whole: bool
) -> dict[str, Any]:
    first, second = labels.index(finding), labels.index(other)
    pair = among & ((classes == first) | (classes == second))
    answers = logits.argmax(axis=1)
    return {
        "accuracy": share(answers == classes, pair & whole),  # of one class alone it would be its sensitivity
        "sensitivity": {
            label: share(answers == index, pair & (classes == index))
            for label, index in ((finding, first), (other, second))
        },
        "auroc": auroc(classes == first, logits[:, first] - logits[:, second], pair),
    }


def pair_title(row: Mapping[str, Any]) -> str:
    """A row of `within_ages` in words: "viral pneumonia against paediatric normal"."""
    finding, other = (label.replace("_", " ") for label in row["labels"])
    return f"{finding} against {_age(row)} {other}"


def not_measured(row: Mapping[str, Any]) -> str:
    """Why a row of `within_ages` has no accuracy, in words; empty where it has one."""
    if not row["absent"]:
        return ""
    kinds = " and no ".join(f"{_age(row)} {label.replace('_', ' ')}" for label in row["absent"])
    return f"not measured: the origins name no {kinds} here"


def _age(row: Mapping[str, Any]) -> str:
    return "paediatric" if row["age"] == "pediatric" else str(row["age"])
