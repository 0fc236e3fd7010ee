"""Which pictures are evaluated on, and where their logits come from."""

from pathlib import Path

import numpy as np
import pytest

from edgecxr.errors import DataError, UsageError
from edgecxr.lab.dataset import Dataset, Example
from edgecxr.lab.evaluation.score import collect, default_split, narrowed, run_split, select, stored
from records.test_formats import prediction

LABELS = ("covid", "normal", "viral_pneumonia")


def example(index: int, label: str, origin: str = "", split: str | None = None) -> Example:
    return Example(Path(f"{index}.png"), f"{index}.png", label, split, str(index), {"origin": origin})


def test_the_test_split_is_the_default_where_there_is_one() -> None:
    examples = tuple(example(i, "covid", split=s) for i, s in enumerate(("train", "dev", "test", "test")))
    data = Dataset(Path(), ("covid",), examples)
    assert default_split(data) == "test"
    assert [e.file for e in select(data, LABELS, "test", ())] == ["2.png", "3.png"]
    assert len(select(data, LABELS, "all", ())) == 4
    untested = Dataset(Path(), ("covid",), examples[:2])
    assert default_split(untested) == "test"  # and not all: the pictures that were learnt from aren't a test
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


def test_rejected_pictures_stand_aside() -> None:
    examples = [example(i, "covid") for i in range(3)]
    logits = {"covid": 1.0, "normal": 0.0, "viral_pneumonia": -1.0}
    predictions = [
        prediction("0.png", logits=logits),
        prediction("1.png", status="rejected", label=None, logits={}, probabilities={}, error_code="blank"),
        prediction("2.png", logits=logits),
    ]
    scored = collect(LABELS, examples, predictions)
    assert [e.file for e in scored.examples] == ["0.png", "2.png"]
    assert scored.logits.tolist() == [[1.0, 0.0, -1.0]] * 2
    assert scored.rejected_json() == [{"file": "1.png", "reason": "blank"}]
    assert collect(LABELS, examples[1:2], predictions[1:2]).logits.shape == (0, 3)


def test_abstained_pictures_keep_their_logits_and_their_ood() -> None:
    examples = [example(i, "covid") for i in range(2)]
    logits = {"covid": 1.0, "normal": 0.0, "viral_pneumonia": -1.0}
    predictions = [
        prediction("0.png", logits=logits, ood_score=0.5),
        prediction("1.png", status="abstained", label=None, logits=logits, ood_score=7.5),
    ]
    scored = collect(LABELS, examples, predictions)
    assert scored.logits.shape == (2, 3)
    assert scored.ood is not None
    assert scored.ood.tolist() == [0.5, 7.5]
    older = collect(LABELS, examples, [prediction("0.png", logits=logits)] * 2)  # of a network that doesn't say
    assert older.ood is None


def test_a_run_s_logits_meet_the_data_by_name() -> None:
    data = Dataset(Path(), ("covid", "normal"), tuple(example(i, "covid" if i < 2 else "normal") for i in range(4)))
    logits = np.arange(9.0).reshape(3, 3)
    scored = stored(data, LABELS, ("2.png", "0.png", "3.png"), np.array([1, 0, 1]), logits)
    assert [e.label for e in scored.examples] == ["normal", "covid", "normal"]
    part = narrowed(scored, Dataset(Path(), ("normal",), data.examples[1:3]), [])
    assert [e.file for e in part.examples] == ["2.png"]
    assert part.logits.tolist() == [[0.0, 1.0, 2.0]]
    assert len(narrowed(scored, data, ["covid"]).examples) == 2
    with pytest.raises(DataError, match="no labelled picture"):
        narrowed(scored, data, ["covid", "normal"])
    with pytest.raises(DataError, match=r"none named 9\.png"):
        stored(data, LABELS, ("9.png",), np.array([0]), logits[:1])
    with pytest.raises(DataError, match=r"the run calls 0\.png normal, the data call it covid"):
        stored(data, LABELS, ("0.png",), np.array([1]), logits[:1])


def test_a_run_has_two_splits() -> None:
    assert run_split(None) == "test"
    assert run_split("dev") == "dev"
    for asked in ("train", "all"):
        with pytest.raises(UsageError, match=f"dev and test only, got --split {asked}"):
            run_split(asked)
