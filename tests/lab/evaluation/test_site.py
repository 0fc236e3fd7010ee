"""What a site's films can claim: counts from the literature, thresholds by hand, halves by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, Example
from edgecxr.lab.evaluation import site

LABELS = ("covid", "normal")


def test_the_films_that_a_claim_needs() -> None:
    # Wilks, 1941: the smallest of 29 bounds 90 % with 95 % confidence, of 59 95 %; Vovk's n / (n + 1).
    assert [site.positives_needed(share) for share in (0.9, 0.95)] == [29, 59]
    assert [site.films_needed(kept) for kept in (0.9, 0.98, 0.99, 0.995)] == [9, 49, 99, 199]


@pytest.mark.parametrize(("groups", "rank"), [(58, None), (59, 1), (92, 1), (93, 2), (123, 2), (124, 3)])
def test_the_rank_is_that_of_wilks(groups: int, rank: int | None) -> None:
    # 59, 93 and 124 runs for the first three orders of 95 %/95 %: Wilks' formula as nuclear safety tabulates it.
    scores = np.concatenate([np.linspace(0.5, 0.9, groups), [0.1]])
    classes = np.array([0] * groups + [1])
    points = site.operating_points(
        LABELS, classes, np.stack([scores, 1 - scores], axis=1), [str(n) for n in range(groups + 1)]
    )
    found = [point for point in points if (point.label, point.target_sensitivity) == ("covid", 0.95)]
    if rank is None:
        assert not found
        return
    below = scores[rank - 2] if rank > 1 else 0.1
    assert found[0].threshold == pytest.approx((scores[rank - 1] + below) / 2)
    assert found[0].sensitivity == pytest.approx((groups - rank + 1) / groups)
    assert (found[0].split, found[0].pictures) == ("site", groups + 1)


def test_a_point_keeps_its_promise_in_95_of_100_sites() -> None:
    rng = np.random.default_rng(5)
    kept = 0
    for _ in range(400):
        scores = rng.random(80)  # of positives, uniform: the share found by a threshold t is 1 - t
        classes = np.array([0] * 80 + [1])
        p = np.append(scores, 0.0)
        points = site.operating_points(LABELS, classes, np.stack([p, 1 - p], axis=1), [str(n) for n in range(81)])
        (point,) = [each for each in points if (each.label, each.target_sensitivity) == ("covid", 0.9)]
        kept += 1 - point.threshold >= 0.9
    assert kept / 400 > 0.93  # 0.95 at least, and three standard errors are 0.033


def test_the_worst_film_of_a_group_counts() -> None:
    classes = np.array([0, 0, 0, 1, 1])
    ood = np.array([1.0, 5.0, 2.0, 3.0, 4.0])
    found = site.thresholds(LABELS, classes, ood, ["a", "a", "b", "c", "c"], 0.5)
    # Largest of the groups: covid 5 and 2, of which the second of three ranks; normal 4.
    assert found["covid"].pictures == 2
    assert found["covid"].value == pytest.approx(5.0)
    assert found["normal"].value == pytest.approx(4.0)
    assert found["normal"].value > 4.0  # a film of that very score stays


def test_each_class_keeps_its_share() -> None:
    rng = np.random.default_rng(3)
    classes = np.repeat([0, 1], 300)
    shares = []
    for _ in range(50):
        ood = np.concatenate([rng.normal(0, 1, 300), rng.normal(2, 1, 300)])
        found = site.thresholds(LABELS, classes, ood, [str(n) for n in range(600)], 0.95)
        fresh = rng.normal(0, 1, 2000), rng.normal(2, 1, 2000)
        shares.append([(new < found[label].value).mean() for label, new in zip(LABELS, fresh, strict=True)])
    assert np.mean(shares, axis=0) == pytest.approx([0.95, 0.95], abs=0.01)


def test_claims_say_what_is_missing_before_a_film_is_scored() -> None:
    found = site.claims({"covid": 40, "normal": 250}, 290, 0.995)
    possible = {(claim.kind, claim.label, claim.share): claim.possible for claim in found}
    assert possible == {
        ("temperature", "", None): True,
        ("operating point", "covid", 0.9): True,
        ("operating point", "covid", 0.95): False,
        ("operating point", "normal", 0.9): True,
        ("operating point", "normal", 0.95): True,
        ("abstention", "covid", 0.995): False,
        ("abstention", "normal", 0.995): True,
    }
    (point,) = [claim.missing for claim in found if claim.share == 0.95 and not claim.possible]
    assert point == (
        "an operating point of covid at 95% isn't claimed, it needs 59 groups of covid in the half that fits, got 40"
    )
    assert not [claim for claim in site.claims({"covid": 400}, 400, None) if claim.kind == "abstention"]


def dataset(counts: dict[str, int], films_of_a_group: int = 2) -> Dataset:
    examples = [
        Example(Path(label) / f"{n}.png", f"{label}/{n}.png", label, None, f"{label}{n // films_of_a_group}", {})
        for label, count in counts.items()
        for n in range(count)
    ]
    return Dataset(Path("local"), tuple(sorted(counts)), tuple(examples))


def test_halves_divide_no_group_and_each_class_evenly() -> None:
    films = dataset({"covid": 30, "normal": 50})
    fit, report = site.halves(films, 0)
    assert not {e.group for e in fit} & {e.group for e in report}
    assert sorted(e.file for e in (*fit, *report)) == sorted(e.file for e in films.examples)
    for label, groups in (("covid", 15), ("normal", 25)):
        assert abs(site.groups_of(fit)[label] - groups / 2) <= 0.5
    assert site.halves(films, 0) == (fit, report)
    assert site.halves(films, 1) != (fit, report)


@pytest.mark.parametrize(
    ("counts", "words"),
    [({"covid": 40}, "two classes or more, got only covid"), ({"covid": 40, "normal": 6}, "normal has 3")],
)
def test_films_that_can_t_be_halved(counts: dict[str, int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        site.halves(dataset(counts), 0)


def test_wrong_groups_are_counted_once() -> None:
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert site.wrong_groups(np.array([0, 0, 0, 1]), logits, ["a", "b", "b", "c"]) == 1
