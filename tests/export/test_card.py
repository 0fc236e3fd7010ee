"""Figures by class, origin and age, and the card that is written from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecxr.dataset import Example
from edgecxr.evaluate import Evaluation, Share, wilson_interval
from edgecxr_export.card import model_card
from edgecxr_export.evaluation import evaluate_logits, within_ages

from .conftest import LABELS

# (label, origin, answers)
ANSWERS = (
    ("covid", "adult, A", "ccccccccn"),
    ("normal", "adult, B", "nnnc"),
    ("normal", "pediatric, C", "nnnnv"),
    ("viral_pneumonia", "pediatric, C", "vvvvvvvnc"),
)


def evaluated() -> Any:
    examples, answers = [], []
    for label, origin, given in ANSWERS:
        for number, letter in enumerate(given):
            file = f"{label}/{origin}{number}"
            examples.append(Example(Path(file), file, label, "dev", file, {"origin": origin}))
            answers.append("cnv".index(letter))
    return evaluate_logits(LABELS, examples, np.eye(3, dtype=np.float32)[answers])


def test_evaluation_by_hand() -> None:
    found = evaluated()
    assert found.confusion == ((8, 1, 0), (1, 7, 1), (1, 1, 7))
    assert (found.accuracy.hits, found.accuracy.total) == (22, 27)
    assert [(label, origin, share.hits, share.total) for label, origin, share in found.by_origin] == [
        ("covid", "adult, A", 8, 9),
        ("normal", "adult, B", 3, 4),
        ("normal", "pediatric, C", 4, 5),
        ("viral_pneumonia", "pediatric, C", 7, 9),
    ]


def test_ages_are_kept_apart() -> None:
    children, adults = within_ages(evaluated())
    assert (children["age"], children["labels"]) == ("pediatric", ["normal", "viral_pneumonia"])
    assert (children["accuracy"]["hits"], children["accuracy"]["total"]) == (11, 14)
    assert (adults["age"], adults["labels"]) == ("adult", ["covid", "normal"])
    assert (adults["accuracy"]["hits"], adults["accuracy"]["total"]) == (11, 13)
    assert adults["sensitivity"]["normal"]["hits"] == 3


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I,
    # method 3 (score without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(hits: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=6e-5)


def card(**changes: Any) -> str:
    found = evaluated()
    model = {
        "model": "Keras float32",
        "split": "dev",
        "in_full": True,
        **found.to_json(),
        "within_ages": within_ages(found),
    }
    run = {
        "recipe": {"name": "default", "head": "pooled", "stages": [{"epochs": 1}, {"epochs": 4}]},
        "seed": 7,
        "backbone_weights": {"source": "cxr.h5", "sha256": "ab" * 32},
        "data": {
            "fingerprint": "cd" * 32,
            "splits": {"train": {"covid": 211, "normal": 176, "viral_pneumonia": 77}},
            "sources": ["Kermany et al. 2018"],
            "origins": ["adult, A"],
        },
    }
    row = {
        "precision": "int8", "pictures": 1222, "flips": 3, "max_dp": 0.0421, "p99_dp": 0.017, "max_dlogit": 0.31,
        "accuracy": 0.925, "reference_accuracy": 0.927,
    }  # fmt: skip
    values: dict[str, Any] = {
        "name": "xception-cxr",
        "version": "0.1.0",
        "labels": LABELS,
        "preprocessing": {"width": 299, "height": 299, "source_size": 224},
        "training": {"run": run},
        "evaluation": {
            "temperature": {
                "split": "dev", "temperature": 0.8123, "nll_before": 0.25, "nll_after": 0.2, "pictures": 1222,
                "at_bound": False,
            },
            "models": [model],
        },
        "parity": {"split": "dev", "artifacts": [row]},
        "artifacts": [
            {"file": "model.int8.onnx", "precision": "int8", "bytes": 21_450_000, "opset": 17, "preferred": True}
        ],
        "quantization": {"pictures": 128},
    }  # fmt: skip
    return model_card(**{**values, **changes})


def test_the_card_holds_the_figures() -> None:
    text = card(notes=["dev was seen by the backbone weights"])
    for figure in (
        "| Keras float32 | dev | 81.5% | 63.3%–91.8% | 22 of 27 |",
        "| accuracy, all classes | 81.5% | 63.3%–91.8% | 22 of 27 |",
        "| sensitivity, covid | 88.9% | 56.5%–98.0% | 8 of 9 |",
        "| normal found, of pediatric, C | 80.0% |",
        "| viral pneumonia against paediatric normal: accuracy | 78.6% |",
        "| covid against adult normal: accuracy | 84.6% |",
        "| viral_pneumonia | 1 | 1 | 7 |",
        "| train | 211 | 176 | 77 |",
        "softmax(logits / 0.8123)",
        "| `model.int8.onnx` (preferred) | int8 | 21.4 | 17 | 3 of 1222 | 0.042 | 0.017 | 0.31 | 92.5% (92.7%) |",
        "`cxr.h5`, SHA-256 `" + "ab" * 32,
        "- dev was seen by the backbone weights",
        "first reduced to 224 px",
        "calibrated on 128 training pictures",
    ):
        assert figure in text
    assert text.count("not a medical device") == 1


def test_the_card_s_twins_are_a_section_of_their_own_where_there_are_any() -> None:
    assert "small twins" not in card()
    shipped = {"source_size": 224, "agree": 124, "total": 126, "max_dp": 0.2, "mean_dp": 0.01}
    twins = {"as_shipped": shipped, "source_size_switched": {**shipped, "source_size": None, "agree": 120}}
    text = card(twins=twins)
    assert "| originals first reduced to 224 px (as shipped) | 124 of 126 | 0.2 | 0.01 |" in text
    assert "| originals as they are | 120 of 126 | 0.2 | 0.01 |" in text


def test_another_source_comes_before_the_data_s_own_test_split() -> None:
    labels = ("covid", "normal")
    evaluation = Evaluation(labels, Share(9, 12), ((2, 1), (2, 7)), (), (("x.png", "blank"),))
    text = card(other_sources=[{"data": "elsewhere", "precision": "int8", **evaluation.to_json()}])
    other, own = text.index("## Another source: the int8 artifact on elsewhere"), text.index("## Figures: ")
    assert other < own
    assert "| accuracy, all classes | 75.0% |" in text[other:own]
    assert "1 pictures were rejected" in text[other:own]
