"""Shares turned away and kept, counted by hand; Wilson's interval is checked in test_bootstrap.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.lab.evaluation.turned_away import films_of, of_films, of_outliers
from edgecxr.lab.outliers import Outlier

SCORED, ABSTAINED, REJECTED = "scored", "abstained", "rejected"


def outlier(kind: str, use: str = "report", *, near: bool = False) -> Outlier:
    return Outlier(Path(kind), kind, kind, near, use)


def test_kinds_and_sums_have_a_share_for_each_artifact() -> None:
    outliers = [
        outlier("hand", "fit"), outlier("ct", near=True), outlier("ct", near=True), outlier("photo"),
        outlier("photo"), outlier("film", "control"),
    ]  # fmt: skip
    int8 = [ABSTAINED, ABSTAINED, SCORED, ABSTAINED, REJECTED, SCORED]
    fp32 = [SCORED, ABSTAINED, ABSTAINED, ABSTAINED, REJECTED, ABSTAINED]
    found = of_outliers(outliers, [int8, fp32])
    rows = [
        (row["use"], row["kind"], row["pictures"], row["rejected"], [s["hits"] for s in row["turned_away"]])
        for row in found["kinds"]
    ]
    assert rows == [("report", "ct", 2, 0, [1, 2]), ("report", "photo", 2, 1, [1, 1]), ("fit", "hand", 1, 0, [1, 0])]
    sums = [(row["use"], row["near"], [(s["hits"], s["total"]) for s in row["turned_away"]]) for row in found["sums"]]
    assert sums == [
        ("report", False, [(2, 3), (3, 3)]), ("report", True, [(1, 2), (2, 2)]), ("fit", False, [(1, 1), (0, 1)]),
    ]  # fmt: skip
    share = found["sums"][0]["turned_away"][0]
    assert (share["value"], tuple(share["interval95"])) == (pytest.approx(2 / 3), wilson_interval(2, 3))


def test_a_kind_that_is_rejected_throughout_has_no_share() -> None:
    (row,) = of_outliers([outlier("text")], [[REJECTED]])["kinds"]
    assert (row["pictures"], row["rejected"]) == (1, 1)
    assert (row["turned_away"][0]["value"], row["turned_away"][0]["interval95"]) == (None, None)


def test_films_are_kept_where_they_are_scored() -> None:
    found = of_films(["A", "B", "A", "A"], [[SCORED, ABSTAINED, SCORED, REJECTED]])
    assert [(row["source"], row["pictures"], row["rejected"]) for row in found] == [("A", 3, 1), ("B", 1, 0)]
    assert [row["kept"][0]["value"] for row in found] == [1.0, 0.0]


def test_films_are_named_by_source_origin_or_folder_and_by_a_label_that_is_not_known() -> None:
    def film(label: str, **columns: str) -> Example:
        return Example(Path("a"), "a", label, None, "a", columns)

    films = [film("covid", source="S", origin="O"), film("covid", origin="O"), film("covid"), film("tb", source="S")]
    assert films_of(films, ("covid", "normal"), "data") == ["S", "O", "data", "S · tb"]
