"""Comparison with the reference: figures by hand, the gate, and logits of another fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgecxr.errors import GateError, UsageError
from edgecxr.train.run import Logits
from edgecxr_export.parity import Parity, checked_reference, compare, evidence_residual, gate, run_logits, spread


class Fake:
    """An engine whose logits are the first pixels and whose evidence is a tenth of them at each of two places."""

    name, provider, device, threads = "fake", "none", "cpu", 1

    def run(self, images: np.ndarray) -> np.ndarray:
        return images[:, 0, :3, 0].astype(np.float32)

    def evidence(self, images: np.ndarray) -> np.ndarray:
        return np.stack([self.run(images) / 10] * 2, axis=1)[:, None]  # (N, 1, 2, 3)


REFERENCE = Logits(
    ("a.png", "b.png", "c.png"),
    np.array([0, 1, 1]),
    np.array([[2, 0, 0], [0, 1, 0], [0, 0, 3]], dtype=np.float32),
)


def test_figures_by_hand() -> None:
    logits = np.array([[2, 0, 0], [1, 0, 0], [0, 0, 3.5]], dtype=np.float32)
    found = compare("int8", Fake(), "dev", REFERENCE, logits, 1.0, (0.0, 0.0), 3)
    assert (found.pictures, found.flips, found.flipped_files) == (3, 1, ("b.png",))
    assert found.max_dlogit == 1.0
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.reference_accuracy == pytest.approx(2 / 3)
    # b: softmax(0, 1, 0) against softmax(1, 0, 0): (e - 1) / (e + 2) in two classes.
    assert found.max_dp == pytest.approx((np.e - 1) / (np.e + 2))
    hotter = compare("int8", Fake(), "dev", REFERENCE, logits, 2.0, (0.0, 0.0), 3)
    root = np.exp(0.5)
    assert hotter.max_dp == pytest.approx((root - 1) / (root + 2))


def test_logits_come_in_order_whatever_the_batch() -> None:
    pictures = np.arange(20 * 4 * 4, dtype=np.int64).reshape(20, 4, 4).astype(np.uint8)
    done: list[int] = []
    logits = run_logits(Fake(), pictures, list(range(19, -1, -1)), done.append)
    assert np.array_equal(logits, pictures[::-1, 0, :3])
    assert done == [8, 16, 20]


def test_a_residual_of_the_evidence_is_seen() -> None:
    images = np.full((10, 2, 3, 1), 50, dtype=np.uint8)
    # Logits 50; evidence 5 at two places, so with a bias of 39 a residual of 1, with 40 none.
    assert evidence_residual(Fake(), images, np.full(3, 39, dtype=np.float32)) == pytest.approx((1.0, 1.0))
    assert evidence_residual(Fake(), images, np.full(3, 40, dtype=np.float32)) == pytest.approx((0.0, 0.0), abs=1e-5)


PASSING = Parity("fp32", "onnxruntime", "CPU", "dev", 100, 0, (), 9e-5, 1e-5, 1e-4, 0.9, 0.9, 8, 0.0, 0.0)


@pytest.mark.parametrize("change", [{"max_dp": 1.1e-4}, {"flips": 1}, {"max_dp": float("nan")}])
def test_the_gate_for_fp32(change: dict[str, float]) -> None:
    gate(PASSING)
    with pytest.raises(GateError, match="fp32 artifact must agree"):
        gate(replace(PASSING, **change))  # type: ignore[arg-type]


def test_stored_logits_are_checked_against_the_weights() -> None:
    calls: list[int] = []

    def off_by(amount: float) -> Logits:
        def recompute(places: Sequence[int]) -> np.ndarray:
            calls.append(len(places))
            return REFERENCE.logits[list(places)] + np.float32(amount)

        return checked_reference(REFERENCE, recompute)[0]

    assert off_by(1e-5) is REFERENCE
    assert calls == [3]
    # Another hardware's rounding: all are computed anew.
    assert np.allclose(off_by(0.01).logits, REFERENCE.logits + 0.01)
    for amount in (2.0, float("nan")):
        with pytest.raises(UsageError, match="weights don't give the run's logits"):
            off_by(amount)


def test_spread() -> None:
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert spread(3, 8) == [0, 1, 2]
