"""Figures by hand, against scikit-learn, and the same figures over resampled groups against weighted scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from edgecxr.lab.evaluation import metrics
from edgecxr.lab.evaluation.bootstrap import Draws, Figure
from edgecxr.lab.evaluation.calibration import (
    BINS,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from edgecxr.scoring.postprocess import probabilities

# true class, answer: covid 2 of 3, normal 1 of 2, viral pneumonia 1 of 1
CLASSES = np.array([0, 0, 0, 1, 1, 2])
ANSWERS = np.array([0, 0, 1, 1, 2, 2])


def drawn(count: int = 200, classes: int = 3, groups: int = 40, seed: int = 3) -> tuple[np.ndarray, ...]:
    """(classes, probabilities with ties, group of each picture)"""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes)).round(1)  # rounded, so that scores tie
    logits[np.arange(count), true] += 1
    return true, probabilities(logits, 1.0), rng.integers(0, groups, count)


def value(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def test_confusion_and_shares_by_hand() -> None:
    assert metrics.confusion(CLASSES, ANSWERS, 3) == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert value(metrics.accuracy(CLASSES, ANSWERS)) == pytest.approx(4 / 6)
    assert value(metrics.balanced_accuracy(CLASSES, ANSWERS)) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert value(metrics.sensitivity(CLASSES, ANSWERS, 0)) == pytest.approx(2 / 3)
    assert value(metrics.specificity(CLASSES, ANSWERS, 0)) == 1.0
    assert value(metrics.specificity(CLASSES, ANSWERS, 2)) == pytest.approx(4 / 5)
    assert value(metrics.positive_predictive_value(CLASSES, ANSWERS, 2)) == pytest.approx(1 / 2)
    # F1 by 2 TP / (2 TP + FP + FN): 4/5, 2/4, 2/3.
    assert [value(metrics.f1(CLASSES, ANSWERS, k)) for k in range(3)] == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert value(metrics.macro_f1(CLASSES, ANSWERS)) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_auroc_by_hand() -> None:
    # Pairs of positives (0.8, 0.4) and negatives (0.6, 0.4): above, above, below, tie: 2.5 of 4.
    scores = np.array([0.8, 0.4, 0.6, 0.4])
    assert value(metrics.auroc(np.array([True, True, False, False]), scores)) == pytest.approx(2.5 / 4)


def test_values_are_scikit_learn_s() -> None:
    classes, p, _ = drawn()
    answers = p.argmax(axis=1)
    assert value(metrics.accuracy(classes, answers)) == sk.accuracy_score(classes, answers)
    assert value(metrics.balanced_accuracy(classes, answers)) == sk.balanced_accuracy_score(classes, answers)
    assert value(metrics.macro_auroc(classes, p)) == pytest.approx(sk.roc_auc_score(classes, p, multi_class="ovr"))
    assert value(negative_log_likelihood(classes, p)) == pytest.approx(sk.log_loss(classes, p))
    recall = sk.recall_score(classes, answers, average=None)
    precision = sk.precision_score(classes, answers, average=None)
    for k in range(3):
        assert value(metrics.sensitivity(classes, answers, k)) == pytest.approx(recall[k])
        assert value(metrics.positive_predictive_value(classes, answers, k)) == pytest.approx(precision[k])
    two = np.stack([p[:, 0], 1 - p[:, 0]], axis=1)  # scikit-learn's binary form counts one of the two classes
    one = sk.brier_score_loss(classes == 0, p[:, 0])
    assert value(brier_score((classes != 0).astype(int), two)) == pytest.approx(2 * one)


def test_replicates_are_scikit_learn_s_with_weights() -> None:
    """Each replicate weighs a picture by how often its group was drawn."""
    classes, p, group_of = drawn()
    answers = p.argmax(axis=1)
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=5).astype(float)
    draws = Draws(weights, group_of)
    found = {
        "accuracy": metrics.accuracy(classes, answers),
        "balanced": metrics.balanced_accuracy(classes, answers),
        "macro f1": metrics.macro_f1(classes, answers),
        "f1": metrics.f1(classes, answers, 1),
        "ppv": metrics.positive_predictive_value(classes, answers, 1),
        "auroc": metrics.auroc(classes == 2, p[:, 2]),
        "pair": metrics.auroc(classes == 2, p[:, 2], classes != 0),
        "macro auroc": metrics.macro_auroc(classes, p),
        "nll": negative_log_likelihood(classes, p),
    }
    replicates = {name: figure.replicate(draws) for name, figure in found.items()}
    for row, w in enumerate(weights[:, group_of]):
        auroc = [sk.roc_auc_score(classes == k, p[:, k], sample_weight=w) for k in range(3)]
        pair = classes != 0
        expected = {
            "accuracy": sk.accuracy_score(classes, answers, sample_weight=w),
            "balanced": sk.balanced_accuracy_score(classes, answers, sample_weight=w),
            "macro f1": sk.f1_score(classes, answers, average="macro", sample_weight=w),
            "f1": sk.f1_score(classes, answers, labels=[1], average="macro", sample_weight=w),
            "ppv": sk.precision_score(classes, answers, labels=[1], average="macro", sample_weight=w),
            "auroc": auroc[2],
            "pair": sk.roc_auc_score(classes[pair] == 2, p[pair, 2], sample_weight=w[pair]),
            "macro auroc": np.mean(auroc),
            "nll": sk.log_loss(classes, p, sample_weight=w),
        }
        assert {name: values[row] for name, values in replicates.items()} == pytest.approx(expected)


def test_a_class_without_pictures_is_undefined_and_left_out_of_the_averages() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    classes, answers = np.array([0, 1, 1]), p.argmax(axis=1)  # viral pneumonia: no picture, one answer
    for figure in (
        metrics.sensitivity(classes, answers, 2),
        metrics.positive_predictive_value(classes, answers, 2),
        metrics.f1(classes, answers, 2),
        metrics.auroc(classes == 2, p[:, 2]),
    ):
        assert figure.value is None
    assert value(metrics.specificity(classes, answers, 2)) == pytest.approx(2 / 3)
    assert value(metrics.balanced_accuracy(classes, answers)) == pytest.approx((1 + 1 / 2) / 2)
    assert value(metrics.macro_auroc(classes, p)) == pytest.approx(1.0)
    assert metrics.roc_curve(classes == 2, p[:, 2]) is None
    assert metrics.positive_predictive_value(classes, np.array([0, 0, 0]), 1).value is None  # never answered


def test_the_roc_curve_encloses_its_area() -> None:
    classes, p, _ = drawn(2000)
    curve = metrics.roc_curve(classes == 0, p[:, 0])
    assert curve is not None
    assert len(curve["sensitivity"]) <= metrics.MAX_ROC_POINTS
    area = np.trapezoid(curve["sensitivity"], curve["false_positive_rate"])
    assert area == pytest.approx(sk.roc_auc_score(classes == 0, p[:, 0]), abs=2e-3)


def test_calibration_by_hand() -> None:
    # Confidences 0.9 (right, wrong) and 0.6 (right): bins (13/15, 14/15] and (8/15, 9/15].
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    classes = np.array([0, 1, 0])
    # 2/3 * |1/2 - 0.9| + 1/3 * |1 - 0.6|
    assert value(expected_calibration_error(classes, p)) == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.4)
    assert value(brier_score(classes, p)) == pytest.approx((2 * 0.1**2 + 2 * 0.9**2 + 2 * 0.4**2) / 3)
    assert value(negative_log_likelihood(classes, p)) == pytest.approx(-np.log([0.9, 0.1, 0.6]).mean())
    rows = [row for row in reliability(classes, p) if row["pictures"]]
    assert [(row["pictures"], row["accuracy"]) for row in rows] == [(1, 1.0), (2, 0.5)]
    assert [row["confidence"] for row in rows] == pytest.approx([0.6, 0.9])
    assert (rows[1]["low"], rows[1]["high"]) == pytest.approx((13 / 15, 14 / 15))
    assert len(reliability(classes, p)) == BINS


@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 10_000), st.floats(0.05, 20))
def test_ranges(count: int, labels: int, seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, labels, count)
    p = probabilities(rng.normal(0, 3, (count, labels)), temperature)
    answers = p.argmax(axis=1)
    shares = [metrics.accuracy(classes, answers), metrics.balanced_accuracy(classes, answers)]
    shares += [metrics.macro_f1(classes, answers), metrics.macro_auroc(classes, p)]
    shares.append(expected_calibration_error(classes, p))
    assert all(figure.value is None or 0 <= figure.value <= 1 for figure in shares)
    assert 0 <= value(brier_score(classes, p)) <= 2
    assert value(negative_log_likelihood(classes, p)) >= 0
    assert sum(row["pictures"] for row in reliability(classes, p)) == count


@given(st.integers(2, 60), st.integers(2, 5), st.integers(0, 10_000))
def test_perfect_answers_give_one(count: int, labels: int, seed: int) -> None:
    classes = np.random.default_rng(seed).integers(0, labels, count)
    p = np.eye(labels)[classes]
    for figure in (
        metrics.accuracy(classes, classes),
        metrics.balanced_accuracy(classes, classes),
        metrics.macro_f1(classes, classes),
        metrics.macro_auroc(classes, p),
    ):
        assert figure.value is None or figure.value == pytest.approx(1)
    assert value(brier_score(classes, p)) == value(expected_calibration_error(classes, p)) == 0
