"""benchmarks/unseen_changes.py: the changes are what they are called, and the figures are of a network by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from common import ROOT, noisy
from edgecxr.bundle import load
from edgecxr.scoring.session import open_session

pytest.importorskip("cv2")
pytestmark = pytest.mark.lab

SPEC = importlib.util.spec_from_file_location("benchmarks_unseen_changes", ROOT / "benchmarks" / "unseen_changes.py")
assert SPEC is not None and SPEC.loader is not None
unseen = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(unseen)


def test_the_changes_are_what_they_are_called() -> None:
    image = np.clip(noisy((64, 64)), 10, 240).astype(np.uint8)
    made = {name: change(image, np.random.default_rng(0)) for name, change in unseen.CHANGES.items()}
    off = {name: other.astype(float) - image for name, other in made.items()}
    assert (off["a grey level brighter"] == 1).all()
    assert np.array_equal(made["a pixel to the right"][:, 1:], image[:, :-1])
    for sigma, name in ((1.0, "noise of 1 grey level"), (2.0, "noise of 2 grey levels")):
        assert off[name].std() == pytest.approx((sigma**2 + 1 / 12) ** 0.5, rel=0.05)  # rounded
    assert 0 < np.abs(off["JPEG, quality 95"]).mean() < np.abs(off["JPEG, quality 75"]).mean()


def test_a_network_that_adds_grey_levels_up_is_moved_by_brightness_and_hardly_by_noise(tiny_bundle: Path) -> None:
    session = open_session(load(tiny_bundle))
    films = [noisy((64, 64), seed).astype(np.uint8) for seed in range(4)]
    answers = unseen.logits(session, films).argmax(axis=1)
    report = unseen.measured(session, films, answers)
    found = report["changes"]
    assert found.keys() == unseen.CHANGES.keys()
    assert report["right"] == len(films)
    assert all(row["right"] == len(films) - row["other_class"] for row in found.values())
    brighter, noise = (found[name]["p99_of_spread"] for name in ("a grey level brighter", "noise of 0.5 grey levels"))
    assert brighter > 5 * noise > 0
    assert all(row["interval"][0] <= row["other_class"] / 4 <= row["interval"][1] for row in found.values())
