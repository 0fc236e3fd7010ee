"""The arithmetic of benchmarks/deletion.py, and its direction on a network that is computed by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from common import ROOT
from edgecxr.bundle import load
from edgecxr.lab.dataset import Example
from edgecxr.scoring.session import open_session

SPEC = importlib.util.spec_from_file_location("benchmarks_deletion", ROOT / "benchmarks" / "deletion.py")
assert SPEC is not None and SPEC.loader is not None
deletion = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(deletion)


def example(label: str, group: str) -> Example:
    return Example(Path(group), f"{label}/{group}", label, None, group, {})


def test_the_top_places_are_those_of_the_most_evidence() -> None:
    evidence = np.arange(100.0).reshape(10, 10)
    assert np.flatnonzero(deletion.top_places(evidence, 0.05)).tolist() == [95, 96, 97, 98, 99]
    assert deletion.top_places(np.array([[1.0, 3.0], [2.0, 0.0]]), 0.05).tolist() == [[False, True], [False, False]]


def test_elsewhere_is_as_much_in_the_same_shape_and_none_of_the_top() -> None:
    top = np.zeros((10, 10), dtype=bool)
    top[2:5, 3:6] = True
    moved = deletion.elsewhere(top, 3, np.random.default_rng(0))
    assert len(moved) == 3 and len({mask.tobytes() for mask in moved}) == 3
    for mask in moved:
        assert mask.sum() == 9 and not (mask & top).any()
        assert any((np.roll(top, (y, x), (0, 1)) == mask).all() for y in range(10) for x in range(10))


def test_a_place_covers_its_share_of_the_picture() -> None:
    mask = np.array([[True, False], [False, False]])
    assert deletion.grown(mask, (5, 4)).tolist() == [[True, True, False, False]] * 3 + [[False] * 4] * 2


def test_a_sample_has_one_film_of_a_group_and_as_many_of_each_class() -> None:
    films = [example("covid", f"c{i // 2}") for i in range(20)] + [example("normal", f"n{i}") for i in range(4)]
    taken = deletion.sample(films, 12, 0)
    assert len(taken) == len({film.group for film in taken}) == 12
    assert sum(film.label == "normal" for film in taken) == 4
    assert deletion.sample(films, 12, 0) == taken
    assert sum(film.label == "normal" for film in deletion.sample(films, 6, 1)) == 3


def test_the_top_falls_faster_where_the_map_is_what_the_answer_rests_on(tiny_bundle: Path) -> None:
    session = open_session(load(tiny_bundle))
    image = np.zeros((64, 64), dtype=np.uint8)
    image[:16, :16], image[16:] = 255, 100  # one place of sixteen has the most evidence, a quarter of them none
    found = deletion.deleted(session, image, np.random.default_rng(0))
    assert found.shape == (len(deletion.SHARES), 2, 2)
    assert found[0, 0, 0] > found[0, 1, 0] >= 0


def test_an_interval_is_of_groups() -> None:
    values, groups = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1])
    assert deletion.interval(values, groups, 0) == pytest.approx([0.0, 1.0])
    assert deletion.interval(values, np.zeros(4, dtype=int), 0) is None
