"""`edgecxr eval --require`: what is asked, what decides, and what films can't decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecxr.errors import UsageError
from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation.acceptance import Requirement, check_labels, judge, parse, refusal
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.lab.evaluation.score import Scored

LABELS = ("covid", "normal")


def films(*counts: tuple[str, str, int], films_of_a_group: int = 1) -> Scored:
    """`counts` of (label, answer, films), each a group of its own unless several share one; logits of 4 to 0."""
    examples: list[Example] = []
    logits: list[list[float]] = []
    for label, answer, count in counts:
        for number in range(count):
            group = f"{label}-{answer}-{number // films_of_a_group}"
            examples.append(Example(Path("f"), f"{len(examples)}.png", label, None, group, {}))
            logits.append([4.0 * (answer == known) for known in LABELS])
    return Scored(tuple(examples), np.array(logits))


def row_of(text: str, scored: Scored, **options: object) -> dict[str, object]:
    (row,) = judge([parse(text)], LABELS, scored, 1.0, **options)["requirements"]  # type: ignore[arg-type]
    return row  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sensitivity(covid)>=0.9", Requirement("sensitivity", "covid", 0.9)),
        ("  auroc( viral pneumonia ) >= .95 ", Requirement("auroc", "viral pneumonia", 0.95)),
        ("accuracy>=0.8", Requirement("accuracy", "", 0.8)),
        ("ece<=0.05", Requirement("ece", "", 0.05)),
        ("ppv(a (b))>=0.5", Requirement("ppv", "a (b)", 0.5)),
    ],
)
def test_requirements_as_they_are_written(text: str, found: Requirement) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "sensitivity>=0.9", "sensitivity()>=0.9", "accuracy(covid)>=0.9", "accuracy<=0.9", "ece>=0.1", "f1(x)>=0.9",
        "accuracy>0.9", "accuracy>=90", "accuracy>=1", "accuracy>=0", "accuracy>=nan", "accuracy>=0.9 or ece<=1",
    ],
)  # fmt: skip
def test_what_can_t_be_read_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(UsageError, match=r"expects accuracy, .*got") as refused:
        parse(text)
    assert str(refused.value).endswith(repr(text))


def test_a_class_that_the_model_doesn_t_know() -> None:
    with pytest.raises(UsageError, match=r"covid, normal, got 'ppv\(flu\)>=0.5'"):
        check_labels([parse("ppv(flu)>=0.5")], LABELS)


def test_the_lower_bound_decides_and_not_the_value() -> None:
    scored = films(("covid", "covid", 94), ("covid", "normal", 6), ("normal", "normal", 100))
    strict, loose = row_of("sensitivity(covid)>=0.92", scored), row_of("sensitivity(covid)>=0.8", scored)
    assert (strict["value"], strict["passed"]) == (0.94, False)
    low, _ = strict["interval95"]  # type: ignore[misc]
    assert strict["deciding"] == low < 0.92
    assert "is 0.940, the lower bound" in str(strict["why"])
    assert loose["passed"]


def test_what_is_always_right_has_wilson_s_bound_over_groups() -> None:
    scored = films(("covid", "covid", 50), ("normal", "normal", 80))
    assert row_of("sensitivity(covid)>=0.9", scored)["deciding"] == pytest.approx(wilson_interval(50, 50)[0])
    both = [wilson_interval(count, count)[0] for count in (50, 80)]
    assert row_of("balanced_accuracy>=0.9", scored)["deciding"] == pytest.approx(sum(both) / 2)
    assert row_of("auroc(covid)>=0.85", scored)["deciding"] == pytest.approx(both[0] * both[1])


def test_34_groups_can_t_show_a_sensitivity_of_90_percent_and_35_can() -> None:
    # n / (n + 1.96^2) >= 0.9 from n = 34.6 on
    few = films(("covid", "covid", 34), ("normal", "normal", 40))
    row = row_of("sensitivity(covid)>=0.9", few)
    assert (row["passed"], row["deciding"], row["groups"]) == (False, None, 34)
    assert "can't be decided, there are 34 groups (patients) and 35 are needed" in str(row["why"])
    assert row_of("sensitivity(covid)>=0.9", films(("covid", "covid", 35), ("normal", "normal", 40)))["passed"]


def test_many_films_of_few_patients_show_no_more() -> None:
    scored = films(("covid", "covid", 200), ("normal", "normal", 200), films_of_a_group=20)
    for text in ("sensitivity(covid)>=0.9", "accuracy>=0.9", "auroc(covid)>=0.9", "balanced_accuracy>=0.9", "ece<=0.1"):
        row = row_of(text, scored)
        assert (row["passed"], row["deciding"]) == (False, None), text
        assert "can't be decided" in str(row["why"])


def test_a_class_without_films_fails_and_says_so() -> None:
    row = row_of("sensitivity(covid)>=0.5", films(("normal", "normal", 40)))
    assert (row["passed"], row["value"]) == (False, None)
    assert "there is no film that it is of" in str(row["why"])


def test_films_without_an_answer_aren_t_found() -> None:
    scored = films(("covid", "covid", 100), ("normal", "normal", 100))
    silent = Scored(scored.examples, scored.logits, ood=np.arange(200.0))
    judged = judge([parse("sensitivity(covid)>=0.5")], LABELS, silent, 1.0, abstain_at=80)
    assert (judged["abstained"], judged["requirements"][0]["value"]) == (120, 0.8)
    assert (
        judge([parse("specificity(covid)>=0.5")], LABELS, silent, 1.0, abstain_at=80)["requirements"][0]["value"] == 1
    )
    unread = [Example(Path("f"), f"{n}.png", "covid", None, f"unread-{n}", {}) for n in range(25)]
    judged = judge([parse("sensitivity(covid)>=0.9")], LABELS, scored, 1.0, rejected=unread)
    assert (judged["pictures"], judged["rejected"], judged["passed"]) == (225, 25, False)
    assert judged["requirements"][0]["value"] == 0.8


def test_the_upper_bound_of_the_calibration_error_decides() -> None:
    scored = films(("covid", "covid", 98), ("covid", "normal", 2), ("normal", "normal", 98), ("normal", "covid", 2))
    row = row_of("ece<=0.1", scored)  # confidence 1 / (1 + e^-4) = 0.982, right 0.98
    assert row["value"] == pytest.approx(1 / (1 + np.exp(-4)) - 0.98)
    assert row["deciding"] == row["interval95"][1]  # type: ignore[index]
    assert row["passed"]
    assert not row_of("ece<=0.02", scored)["passed"]


def test_the_refusal_names_what_wasn_t_met_and_nothing_else() -> None:
    scored = films(("covid", "covid", 60), ("covid", "normal", 40), ("normal", "normal", 100))
    wanted = [parse("specificity(covid)>=0.9"), parse("sensitivity(covid)>=0.9")]
    verdict = judge(wanted, LABELS, scored, 1.0)
    assert [row["passed"] for row in verdict["requirements"]] == [True, False]
    assert not verdict["passed"]
    assert "sensitivity(covid) is 0.600" in refusal(verdict)
    assert "specificity" not in refusal(verdict)
