"""The report's core: shapes, subsets, degenerate data, and that it is JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from edgecxr.errors import DataError
from edgecxr.lab.evaluation.operating import fit_operating_points
from edgecxr.lab.evaluation.page import page
from edgecxr.lab.evaluation.plots import plots
from edgecxr.lab.evaluation.report import report
from edgecxr.lab.evaluation.subsets import not_measured, pair_title
from edgecxr.lab.evaluation.table import evaluation_tables
from edgecxr.scoring.postprocess import probabilities
from edgecxr.views.figure import plot_text
from edgecxr.views.terminal import printable

LABELS = ("covid", "normal", "viral_pneumonia")
# (label, origin, answers)
ANSWERS = (
    ("covid", "adult, A", "ccccccccn"),
    ("normal", "adult, B", "nnnc"),
    ("normal", "pediatric, C", "nnnnv"),
    ("viral_pneumonia", "pediatric, C", "vvvvvvvnc"),
)
# What cli_eval adds to a report.
ASKED: dict[str, Any] = {
    "data": "drawn",
    "split": "test",
    "where": {},
    "ignored_labels": [],
    "rejected": [{"file": "normal/<b>.png", "reason": "blank"}],
    "model": "tiny 1",
    "engine": "none",
    "provider": None,
    "precision": "fp32",
}


def given() -> tuple[list[int], np.ndarray, list[str], list[str]]:
    """(classes, logits, groups, origins) of ANSWERS; two pictures a group."""
    classes, answers, origins = [], [], []
    for label, origin, letters in ANSWERS:
        classes += [LABELS.index(label)] * len(letters)
        answers += ["cnv".index(letter) for letter in letters]
        origins += [origin] * len(letters)
    logits = np.eye(3)[answers] * 2 + np.random.default_rng(0).normal(0, 0.1, (len(answers), 3))
    return classes, logits, [f"g{i // 2}" for i in range(len(classes))], origins


def made(**options: Any) -> dict[str, Any]:
    classes, logits, groups, origins = given()
    return report(LABELS, classes, logits, 0.5, groups, origins, replicates=200, **options)


def counts(figure: dict[str, Any]) -> tuple[int, int]:
    return figure["hits"], figure["total"]


def test_figures_by_hand() -> None:
    found = made()
    assert found["confusion"] == [[8, 1, 0], [1, 7, 1], [1, 1, 7]]
    assert (found["pictures"], found["groups"], found["temperature"]) == (27, 14, 0.5)
    assert counts(found["accuracy"]) == (22, 27)
    assert counts(found["specificity"]["covid"]) == (16, 18)
    assert counts(found["ppv"]["viral_pneumonia"]) == (7, 8)
    assert [(r["label"], r["origin"], *counts(r["sensitivity"])) for r in found["by_origin"]] == [
        ("covid", "adult, A", 8, 9),
        ("normal", "adult, B", 3, 4),
        ("normal", "pediatric, C", 4, 5),
        ("viral_pneumonia", "pediatric, C", 7, 9),
    ]


def test_ages_are_kept_apart() -> None:
    children, adults = made()["within_ages"]
    assert (children["age"], children["labels"]) == ("pediatric", ["viral_pneumonia", "normal"])
    assert pair_title(children) == "viral pneumonia against paediatric normal"
    assert counts(children["accuracy"]) == (11, 14)
    assert pair_title(adults) == "covid against adult normal"
    assert counts(adults["accuracy"]) == (11, 13)
    assert counts(adults["sensitivity"]["normal"]) == (3, 4)
    # 9 covid against 4 normal: 8 of the 9 and 1 of the 4 score high. High against low, and half of what is near.
    assert 8 * 3 / 36 <= adults["auroc"]["value"] <= 1 - 1 / 36


def test_a_third_class_of_an_age_makes_a_pair_of_its_own() -> None:
    classes, logits, groups, _ = given()
    rows = report(LABELS, classes, logits, 1.0, groups, ["Adult"] * len(groups), replicates=20)["within_ages"]
    assert [(row["age"], *row["labels"]) for row in rows if not row["absent"]] == [
        ("adult", "covid", "normal"),
        ("adult", "viral_pneumonia", "normal"),
    ]


def test_a_pair_that_is_always_reported_says_what_it_lacks() -> None:
    classes, logits, groups, origins = given()
    rows = [i for i, origin in enumerate(origins) if origin != "adult, B"]  # as in the original recipe's data

    def within(kept: list[int], places: list[str], labels: tuple[str, ...] = LABELS) -> list[dict[str, Any]]:
        chosen = ([classes[i] for i in kept], logits[kept], 1.0, [groups[i] for i in kept], places)
        found: list[dict[str, Any]] = report(labels, *chosen, replicates=20)["within_ages"]
        return found

    children, adults = within(rows, [origins[i] for i in rows])
    assert (children["absent"], counts(children["accuracy"])) == ([], (11, 14))
    assert (adults["labels"], adults["absent"]) == (["covid", "normal"], ["normal"])
    assert adults["accuracy"]["value"] is adults["auroc"]["value"] is None
    assert counts(adults["sensitivity"]["covid"]) == (8, 9)
    assert not_measured(adults) == "not measured: the origins name no adult normal here"
    assert not_measured(children) == ""
    # No origins at all: both are said to be impossible. Classes that the model doesn't know have no pair.
    unknown = within(rows, [""] * len(rows))
    assert [row["absent"] for row in unknown] == [["viral_pneumonia", "normal"], ["covid", "normal"]]
    assert within(rows, [""] * len(rows), ("a", "b", "c")) == []
    whole = {**ASKED, **made(), "within_ages": unknown}
    assert page(whole).count("not measured: the origins name no") == 2


def test_what_an_origin_is_taken_for() -> None:
    rows = made()["by_origin"]
    assert [list(row["answers"].values()) for row in rows] == [[8, 1, 0], [1, 3, 0], [0, 4, 1], [1, 1, 7]]
    assert "covid 1, normal 1" in page({**ASKED, **made()})


def test_before_and_after_the_temperature() -> None:
    classes, logits, _, _ = given()
    found = made()["calibration"]
    for when, temperature in (("before", 1.0), ("after", 0.5)):
        own = probabilities(logits, temperature)[np.arange(27), classes]
        assert found[when]["nll"]["value"] == pytest.approx(-np.log(own).mean())


def test_a_temperature_per_picture_is_each_fold_s_own() -> None:
    classes, logits, groups, origins = given()
    each = np.where(np.arange(27) < 10, 0.5, 2.0)
    found = report(LABELS, classes, logits, each, groups, origins, replicates=20)
    whole = report(LABELS, classes, logits / each[:, None], 1.0, groups, origins, replicates=20)
    assert found["temperature"] == [0.5, 2.0]
    assert found["calibration"]["after"] == whole["calibration"]["after"]


def test_the_same_call_gives_the_same_report_and_another_seed_other_intervals() -> None:
    assert made() == made()
    other = made(seed=1)
    assert other["accuracy"]["value"] == made()["accuracy"]["value"]
    assert other["accuracy"]["interval95"] != made()["accuracy"]["interval95"]


@pytest.mark.parametrize("case", ["whole", "absent class", "one class", "one picture", "nothing"])
def test_whatever_the_data_lack_it_is_json_and_can_be_drawn(case: str) -> None:
    classes, logits, groups, origins = given()
    points = fit_operating_points(LABELS, np.array(classes), probabilities(logits, 0.5), split="dev")
    kept = {
        "whole": range(27),
        "absent class": range(18),
        "one class": range(9),
        "one picture": range(1),
        "nothing": range(0),
    }[case]
    rows = list(kept)
    found = report(
        LABELS,
        [classes[i] for i in rows],
        logits[rows],
        0.5,
        [groups[i] for i in rows],
        [origins[i] for i in rows],
        operating_points=points,
        replicates=50,
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    if case == "absent class":
        assert found["sensitivity"]["viral_pneumonia"]["value"] is None
        assert found["auroc"]["viral_pneumonia"]["value"] is None
        assert found["balanced_accuracy"]["value"] == pytest.approx((8 / 9 + 7 / 9) / 2)
    if case == "nothing":
        assert (found["accuracy"]["value"], found["accuracy"]["total"]) == (None, 0)
    drawn = plots({**ASKED, **found})
    assert set(drawn) == {"confusion.png", "roc.png", "reliability.png"}
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
    html = page({**ASKED, **found})
    assert "nan" not in html.split("<h2>How")[0].replace("data:image", "").lower().split("<img")[0]
    assert len(evaluation_tables(found)) == 4


def test_the_page_escapes_names_and_refers_to_nothing_outside() -> None:
    html = page({**ASKED, **made()})
    assert "normal/&lt;b&gt;.png" in html
    assert "<b>.png" not in html
    assert "viral pneumonia against paediatric normal" in html
    assert html.count('src="data:image/png;base64,') == 3
    assert "http" not in html
    assert "Operating points" not in html
    classes, logits, _, _ = given()
    points = fit_operating_points(LABELS, np.array(classes), probabilities(logits, 0.5), split="dev")
    assert "Operating points" in page({**ASKED, **made(operating_points=points)})


@pytest.mark.parametrize(
    "labels",
    [
        ("$a$b_{", "<b>\\$x", "normal"),  # no formula
        ("cov\udce9d", "肺炎", "z" * 200),  # no UTF-8, no glyph, no room
        ("a\x1b[2J", "new\nline", "[/b]"),  # nothing that steers a terminal, or rich
        tuple(
            f"class {number}" for number in range(9)
        ),  # more than have room among the curves, or (here) numbers in the matrix
    ],
)
def test_labels_of_any_name_are_drawn_and_shown_letter_by_letter(
    labels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without a warning, which would be an error here."""
    monkeypatch.setattr("edgecxr.lab.evaluation.plots.MAX_CELLS", 8)
    classes = np.repeat(np.arange(len(labels)), 3)
    logits = np.eye(len(labels))[classes]
    points = fit_operating_points(labels, classes, probabilities(logits, 1.0), split="dev")
    found = report(labels, classes, logits, 1.0, list(map(str, classes)), operating_points=points, replicates=20)
    assert all(content.startswith(b"\x89PNG") for content in plots({**ASKED, **found}).values())
    terminal = io.StringIO()
    for table in evaluation_tables(found):
        Console(file=terminal, width=5000).print(table)
    shown = terminal.getvalue()
    assert "\x1b" not in shown
    for label in labels:
        assert shown.count(printable(label).plain) >= 4, label  # each class's row, points, and confusion twice


def test_one_class_alone_is_evaluated_without_a_warning() -> None:
    found = report(("covid",), [0, 0], [[1.0], [2.0]], 1.0, ["a", "b"], replicates=20)
    assert (found["confusion"], found["accuracy"]["value"]) == ([[2]], 1)


def test_a_plot_s_text_is_cut_in_the_middle() -> None:
    assert plot_text("abcdefghij", 10) == "abcdefghij"
    assert plot_text("abcdefghijk", 10) == "abcde…hijk"
    assert plot_text("$\x1b\ud800") == r"\$\x1b\ud800"


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="2 pictures have others"):
        report(LABELS, [0, 1, 2], [[np.nan, 0, 0], [0, 0, np.inf], [0, 0, 0]], 1.0, ["a", "b", "c"])
    with pytest.raises(ValueError, match="expected 2 groups"):
        report(LABELS, [0, 1], np.zeros((2, 3)), 1.0, ["a"])
    with pytest.raises(ValueError, match="classes from 0 to 2, got 0 to 3"):
        report(LABELS, [0, 3], np.zeros((2, 3)), 1.0, ["a", "b"])
