"""What the weights before a fit may have seen."""

from __future__ import annotations

from typing import Any

import pytest

from edgecxr.lab.ancestry import WITHOUT_FILMS, doubts, strangers

IMAGENET = {"source": "imagenet"}


def run(name: str, fitted_on: str, before: dict[str, Any]) -> dict[str, Any]:
    return {"source": f"run {name}", "sha256": "ab" * 32, "fitted_on": fitted_on, "backbone_weights": before}


@pytest.mark.parametrize(
    "backbone",
    [
        IMAGENET,
        {"source": "none"},
        {"source": "x.h5", "sha256": min(WITHOUT_FILMS)},
        run("a", "these", IMAGENET),
        run("b", "these", run("a", "these", {"source": "none"})),
    ],
)
def test_nothing_is_doubted_that_saw_no_film_or_the_same_train_alone(backbone: dict[str, Any]) -> None:
    assert strangers(backbone, "these") == []


def test_others_are_named_up_to_the_first() -> None:
    file = {"source": "cxr.h5", "sha256": "cd" * 32}
    description = {"backbone_weights": run("b", "these", run("a", "others", file)), "data": {"fingerprint": "these"}}
    assert doubts(description) == [
        "run a was fitted on other data or other splits",
        "what cxr.h5 was fitted on isn't known",
    ]


def test_biases_that_dev_moved_are_told_of_a_run_and_of_what_it_began_with() -> None:
    moved = {"biases_on_dev": True}
    before = {**run("a", "these", IMAGENET), "recipe": moved}
    description = {"backbone_weights": before, "data": {"fingerprint": "these"}, "recipe": moved}
    assert doubts(description) == ["a bias for each class was fitted on dev", "the biases of run a were fitted on dev"]
    assert strangers({**before, "recipe": {"biases_on_dev": False}}, "these") == []
