"""Comparison with the reference: figures by hand, the gate, and logits of another fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgecxr.engines import Outputs
from edgecxr.errors import UsageError
from edgecxr.lab.run import Logits
from edgecxr_export.parity.compare import checked_reference, compare, compare_evidence, run_logits, spread


class Fake:
    """An engine whose logits are the first pixels and whose evidence is a tenth of them at each of two places."""

    name, provider, device, threads = "fake", "none", "cpu", 1

    def run(self, images: np.ndarray) -> Outputs:
        logits = images[:, 0, :3, 0].astype(np.float32)
        return Outputs(logits, np.stack([logits / 10] * 2, axis=1)[:, None])  # evidence (N, 1, 2, 3)


REFERENCE = Logits(
    ("a.png", "b.png", "c.png"),
    np.array([0, 1, 1]),
    np.array([[2, 0, 0], [0, 1, 0], [0, 0, 3]], dtype=np.float32),
)


def test_figures_by_hand() -> None:
    logits = np.array([[2, 0, 0], [1, 0, 0], [0, 0, 3.5]], dtype=np.float32)
    found = compare(Fake(), "dev", REFERENCE, logits, 1.0)
    assert (found.pictures, found.flips, found.flipped_files) == (3, 1, ("b.png",))
    assert found.max_dlogit == 1.0
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.reference_accuracy == pytest.approx(2 / 3)
    # b: softmax(0, 1, 0) against softmax(1, 0, 0): (e - 1) / (e + 2) in two classes.
    assert found.max_dp == pytest.approx((np.e - 1) / (np.e + 2))
    # Centred, the reference is (4, -2, -2) / 3, (-1, 2, -1) / 3 and (-1, -1, 2), with squares of 84 / 9 over nine
    # logits; b moved by (1, -1, 0).
    assert found.p99_logits == pytest.approx(1 / np.sqrt(84 / 81))
    hotter = compare(Fake(), "dev", REFERENCE, logits, 2.0)
    root = np.exp(0.5)
    assert hotter.max_dp == pytest.approx((root - 1) / (root + 2))


def test_logits_come_in_order_whatever_the_batch() -> None:
    pictures = np.arange(20 * 4 * 4, dtype=np.int64).reshape(20, 4, 4).astype(np.uint8)
    done: list[int] = []
    logits = run_logits(Fake(), pictures, list(range(19, -1, -1)), done.append)
    assert np.array_equal(logits, pictures[::-1, 0, :3])
    assert done == [8, 16, 20]


def test_a_residual_of_the_evidence_is_seen() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 2, 3, 1)).astype(np.uint8)
    maps = Fake().run(images).evidence
    # Logits x; evidence x / 10 at two places, so what is left is 0.8 x, whatever the bias takes of it.
    left = 0.8 * Fake().run(images).logits
    found = compare_evidence(Fake(), images, np.full(3, 39, dtype=np.float32), maps)
    assert found.residual_mean == pytest.approx(np.abs(left - 39).mean(), rel=1e-5)
    assert found.residual_max == pytest.approx(np.abs(left - 39).max(), rel=1e-5)
    assert (found.pictures, found.correlation_min) == (10, pytest.approx(1.0))


def test_the_correlation_of_evidence_is_numpy_s() -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (9, 2, 3, 1)).astype(np.uint8)
    maps = Fake().run(images).evidence
    theirs = (maps + rng.normal(0, 5, maps.shape)).astype(np.float32)
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, theirs, strict=True)]
    found = compare_evidence(Fake(), images, np.zeros(3, dtype=np.float32), theirs)
    assert found.correlation_mean == pytest.approx(np.mean(expected))
    assert found.correlation_min == pytest.approx(min(expected))


def test_intervals_calibration_and_undecided_flips() -> None:
    # Two classes are nearly equal in the first picture and far apart in the second: both flip.
    reference = Logits(
        tuple("abcd"),
        np.array([0, 0, 1, 2]),
        np.array([[1.001, 1, 0], [4, 0, 0], [0, 3, 0], [0, 0, 3]], dtype=np.float32),
    )
    logits = np.array([[1, 1.001, 0], [0, 4, 0], [0, 3, 0], [0, 0, 3]], dtype=np.float32)
    found = compare(Fake(), "dev", reference, logits, 1.0, ["p", "p", "q", "r"])
    assert (found.flips, found.decided_flips, found.flipped_files) == (2, 1, ("a", "b"))
    assert found.flips_interval95 == pytest.approx((0.150, 0.850), abs=1e-3)  # Wilson, 2 of 4
    assert found.drop == pytest.approx(0.5)
    assert found.drop_interval95 == pytest.approx((0.0, 1.0))  # the two lost pictures are one patient's
    # Without that patient nothing moved; with him b did, by (-4, 4, 0), centred as it is.
    apart = np.sqrt(np.mean([np.var(row) for row in reference.logits]))
    assert found.p99_logits_interval95 == pytest.approx((0.0, 4 / apart))
    # Confidence minus accuracy in the reference's two bins: 0.4225 against 1, and the other three near 0.95.
    e = np.exp
    sure = [e(4) / (e(4) + 2), e(3) / (e(3) + 2), e(3) / (e(3) + 2)]
    unsure = e(1.001) / (e(1.001) + e(1) + 1)
    assert found.reference_ece == pytest.approx((sum(1 - p for p in sure) + 1 - unsure) / 4)
    nothing_lost = compare(Fake(), "dev", reference, reference.logits, 1.0)
    assert (nothing_lost.drop_interval95, nothing_lost.mean_dp) == (None, 0.0)


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
