"""benchmarks/twins.py: which pairs count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common import ROOT
from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, Example

sys.path.insert(0, str(ROOT / "benchmarks"))

import twins


def test_only_twins_that_were_not_learnt_count() -> None:
    originals = Dataset(
        Path("full"),
        ("a",),
        tuple(
            Example(Path("full") / file, file, "a", None, file, {"near_radiography": twin})
            for file, twin in (("1.jpeg", "x.jpg"), ("2.jpeg", "y.jpg"), ("3.jpeg", ""), ("4.jpeg", "absent.jpg"))
        ),
    )
    small = Dataset(
        Path("small"),
        ("a",),
        tuple(
            Example(Path("small") / file, file, "a", split, file, {})
            for file, split in (("x.jpg", "train"), ("y.jpg", "test"))
        ),
    )
    assert twins.pairs(originals, small) == [(Path("full/2.jpeg"), Path("small/y.jpg"))]
    with pytest.raises(DataError, match="no picture of full has a twin in the test split of small"):
        twins.pairs(originals, Dataset(small.folder, small.labels, small.examples[:1]))
