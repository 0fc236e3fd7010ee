"""Two models on the same films: counts, exact p and differences by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from edgecxr.errors import DataError
from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation.paired import compared, mcnemar, paired
from edgecxr.lab.evaluation.score import Scored

LABELS = ("covid", "normal", "other")


def test_mcnemar_is_a_fair_coin() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == mcnemar(5, 0) == pytest.approx(2 * 0.5**5)
    assert mcnemar(3, 9) == pytest.approx(2 * binom.cdf(3, 12, 0.5))
    assert mcnemar(4, 4) == 1


def test_rows_by_hand() -> None:
    classes = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    first = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    second = np.array([0, 0, 1, 1, 0, 2, 0, 1])
    whole, covid, normal = paired(LABELS, classes, first, second, [f"g{n}" for n in range(8)])  # no film of "other"
    assert [row["label"] for row in (whole, covid, normal)] == [None, "covid", "normal"]
    assert [(row["only_first"], row["only_second"]) for row in (whole, covid, normal)] == [(4, 1), (1, 0), (3, 1)]
    assert (whole["first"]["hits"], whole["second"]["hits"]) == (6, 3)
    assert whole["difference"]["value"] == 3 / 8
    assert whole["p_value"] == pytest.approx(12 / 32)  # 2 (1 + 5) / 2^5
    assert normal["difference"]["value"] == 0.5
    low, high = whole["difference"]["interval95"]
    # The mean of eight draws of +1 (4 of 8), -1 (1 of 8) and 0: standard deviation 0.70 / sqrt(8).
    assert low == pytest.approx(3 / 8 - 1.96 * 0.25, abs=0.15)
    assert high == pytest.approx(3 / 8 + 1.96 * 0.25, abs=0.15)


def test_a_group_counts_once() -> None:
    classes = np.zeros(40, dtype=np.int64)
    first, second = np.zeros(40, dtype=np.int64), np.repeat([0, 1], 20)
    alone = paired(LABELS, classes, first, second, [str(n) for n in range(40)])[0]
    together = paired(LABELS, classes, first, second, [str(n // 10) for n in range(40)])[0]
    assert alone["difference"]["value"] == together["difference"]["value"] == 0.5
    widths = [row["difference"]["interval95"][1] - row["difference"]["interval95"][0] for row in (alone, together)]
    assert widths[1] > 2 * widths[0]  # four patients, not forty


def test_films_are_paired_by_name() -> None:
    def scored(files: str, answers: list[int]) -> Scored:
        examples = tuple(Example(Path(), file, "covid", None, file, {}) for file in files)
        return Scored(examples, np.eye(3)[answers])

    (whole, _) = compared(LABELS, scored("abc", [0, 1, 0]), scored("cbd", [1, 0, 0]), 0)
    assert (whole["first"]["total"], whole["only_first"], whole["only_second"]) == (2, 1, 1)
    with pytest.raises(DataError, match="both scored, got none"):
        compared(LABELS, scored("a", [0]), scored("b", [0]), 0)
