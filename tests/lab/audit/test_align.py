"""The fit of one thumbnail to another."""

from __future__ import annotations

import numpy as np
from drawn import film

from edgecxr.lab.audit.align import MARGIN, aligned_similarity, fit, outline_similarity, outlines, warp


def thumbnails(*seeds: int) -> np.ndarray:
    return np.stack([film(seed, (64, 64)) for seed in seeds])


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return aligned_similarity(first, second, outlines(first), outlines(second))


def test_an_inner_product_of_outlines_is_their_correlation() -> None:
    first, second = outlines(thumbnails(1, 2)), outlines(thumbnails(3, 1))
    inner = slice(MARGIN, -MARGIN)
    expected = [
        np.corrcoef(a[inner, inner].astype(float).ravel(), b[inner, inner].astype(float).ravel())[0, 1]
        for a, b in zip(first, second, strict=True)
    ]
    assert np.allclose(outline_similarity(first, second), expected, atol=2e-3)  # float16


def test_warp_moves_by_whole_pixels_and_stretches_a_ramp() -> None:
    pictures = thumbnails(1).astype(np.float32)
    moved = warp(pictures, np.array([[2, 0, -3, 0]], np.float32))
    assert np.allclose(moved[0, :-2, 3:], pictures[0, 2:, :-3])
    ramp = np.tile(np.arange(33, dtype=np.float32), (1, 33, 1))
    stretched = warp(ramp, np.array([[0, 0, 0, -4]], np.float32))  # v = -1..1: the edges come 4 px from inside
    assert np.allclose(stretched[0, 5], 4 + np.arange(33) * 24 / 32)


def test_the_fit_finds_what_was_moved_and_stretched() -> None:
    target = outlines(thumbnails(1, 2, 3)).astype(np.float32)
    planted = np.array([[0.8, 0.5, -0.6, 0], [0, -0.7, 0, 0.7], [-1, 0, 0.9, -0.4]], np.float32)
    # Small, so that moving there and back is nearly nothing: stretch acts on a shift by up to 1 / 15 of it.
    found = fit(target, warp(target, -planted))
    assert np.allclose(found, planted, atol=0.12)


def test_a_film_is_like_itself_whatever_its_brightness_and_unlike_others() -> None:
    first = thumbnails(*range(12))
    assert np.allclose(similarity(first, first), 1, atol=1e-4)
    assert similarity(first, (first * 0.7 + 30).astype(np.uint8)).min() > 0.99
    assert similarity(first, thumbnails(*range(20, 32))).max() < 0.5


def test_pictures_without_detail_are_like_nothing() -> None:
    flat = np.full((2, 64, 64), 77, np.uint8)
    found = similarity(flat, thumbnails(1, 2))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 0.5
