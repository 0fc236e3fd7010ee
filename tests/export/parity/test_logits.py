"""Errors of logits, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgecxr_export.parity.logits import errors, scale

# Centred: (2, -1, -1) and (-1, 2, -1), whose mean square is 2.
REFERENCE = np.array([[3, 0, 0], [9, 12, 9]], dtype=np.float32)


def test_errors_by_hand() -> None:
    assert scale(REFERENCE) == pytest.approx(np.sqrt(2))
    # (0.3, 0, 0) is (0.2, -0.1, -0.1) and a constant, which changes no probability.
    moved = REFERENCE + np.array([[0.3, 0, 0], [5, 5, 5]], dtype=np.float32)
    assert errors(moved, REFERENCE) == pytest.approx([0.2 / np.sqrt(2), 0], abs=1e-6)


def test_a_sharper_fit_is_not_punished() -> None:
    moved = REFERENCE + np.array([[0.3, 0, 0], [0, 0, 0.1]], dtype=np.float32)
    assert errors(7 * moved, 7 * REFERENCE) == pytest.approx(errors(moved, REFERENCE), abs=1e-6)


def test_what_no_limit_lets_pass() -> None:
    same = np.ones((2, 3), dtype=np.float32)
    assert errors(same + np.float32([[1, 0, 0], [2, 2, 2]]), same).tolist() == [np.inf, 0.0]
    assert np.isnan(errors(np.full((2, 3), np.nan), REFERENCE)).all()
