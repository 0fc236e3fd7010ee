"""Figures against labels, by hand."""

from pathlib import Path

import pytest

from edgecxr.dataset import Dataset, Example
from edgecxr.errors import DataError
from edgecxr.evaluate import compare, default_split, select, wilson_interval
from test_records import prediction

LABELS = ("covid", "normal", "viral_pneumonia")


def example(index: int, label: str, origin: str = "", split: str | None = None) -> Example:
    return Example(Path(f"{index}.png"), f"{index}.png", label, split, str(index), {"origin": origin})


def test_wilson_interval_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for hits, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


def test_confusion_sensitivity_specificity_and_origins_by_hand() -> None:
    truth = ["covid", "covid", "covid", "normal", "normal", "viral_pneumonia", "normal"]
    answers = ["covid", "covid", "normal", "normal", "viral_pneumonia", "viral_pneumonia", None]
    origins = ["x", "x", "y", "x", "y", "x", "x"]
    examples = [example(i, label, origin) for i, (label, origin) in enumerate(zip(truth, origins, strict=True))]
    predictions = [
        prediction(
            f"{i}.png", label=answer, status="scored" if answer else "rejected", error_code=None if answer else "empty"
        )
        for i, answer in enumerate(answers)
    ]
    result = compare(LABELS, examples, predictions)
    assert result.confusion == ((2, 1, 0), (0, 1, 1), (0, 0, 1))
    assert (result.accuracy.hits, result.accuracy.total) == (4, 6)
    assert result.sensitivity("covid").value == pytest.approx(2 / 3)
    assert result.specificity("covid").value == 1.0
    assert result.specificity("viral_pneumonia").value == pytest.approx(4 / 5)
    assert result.rejected == (("6.png", "empty"),)
    shares = {(label, origin): (s.hits, s.total) for label, origin, s in result.by_origin}
    assert shares["covid", "x"] == (2, 2)
    assert shares["covid", "y"] == (0, 1)


def test_the_test_split_is_the_default_where_there_is_one() -> None:
    examples = tuple(example(i, "covid", split=s) for i, s in enumerate(("train", "dev", "test", "test")))
    data = Dataset(Path(), ("covid",), examples)
    assert default_split(data) == "test"
    assert [e.file for e in select(data, LABELS, "test", ())] == ["2.png", "3.png"]
    assert len(select(data, LABELS, "all", ())) == 4
    unsplit = Dataset(Path(), ("covid",), tuple(example(i, "covid") for i in range(3)))
    assert default_split(unsplit) == "all"
    assert len(select(unsplit, LABELS, "all", ())) == 3
    with pytest.raises(DataError, match="no labelled picture"):
        select(unsplit, LABELS, "dev", ())


def test_an_unknown_label_is_refused_or_left_out_by_name() -> None:
    data = Dataset(Path(), ("covid", "pneumonia"), (example(0, "covid"), example(1, "pneumonia")))
    with pytest.raises(DataError, match="doesn't know the label pneumonia"):
        select(data, LABELS, "all", ())
    assert [e.label for e in select(data, LABELS, "all", ["pneumonia"])] == ["covid"]
