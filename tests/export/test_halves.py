"""The halves of dev: no group divided, classes and origins alike, whatever the order."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecxr.errors import DataError
from edgecxr.lab.dataset import Example
from edgecxr_export.labelled import halves


def example(number: int, label: str, origin: str = "") -> Example:
    return Example(Path(), f"{number}.png", label, "dev", f"g{number // 2}", {"origin": origin})


# Two films a group: 20 groups of covid, 10 of normal from each of two origins.
EXAMPLES = [example(n, "covid" if n < 40 else "normal", "" if n < 40 else "A" if n < 60 else "B") for n in range(80)]


def test_the_halves_are_alike_and_divide_no_group() -> None:
    first, second = halves(EXAMPLES)
    assert sorted(first + second) == list(range(80))
    assert not {EXAMPLES[n].group for n in first} & {EXAMPLES[n].group for n in second}
    for half in (first, second):
        kinds = [(EXAMPLES[n].label, EXAMPLES[n].origin) for n in half]
        assert [kinds.count(kind) for kind in (("covid", ""), ("normal", "A"), ("normal", "B"))] == [20, 10, 10]


def test_they_are_the_same_whatever_the_order() -> None:
    turned = EXAMPLES[::-1]
    assert {EXAMPLES[n].file for n in halves(EXAMPLES)[0]} == {turned[n].file for n in halves(turned)[0]}


def test_one_group_can_t_be_halved() -> None:
    with pytest.raises(DataError, match="dev must hold two groups of pictures or more, to choose on one half"):
        halves(EXAMPLES[:2])
