"""The overlay's colours, by hand."""

from __future__ import annotations

import numpy as np
from PIL import Image

from common import noisy
from edgecxr.views import overlay

GREYS = np.full((40, 30), 100, dtype=np.uint8)


def one(share: float) -> np.ndarray:
    return np.full((2, 2), share, dtype=np.float32)


def test_colour_is_as_opaque_as_evidence_is_strong() -> None:
    for share, colour in ((1.0, overlay.FOR), (-1.0, overlay.AGAINST)):
        full, half = (overlay.tinted(GREYS, one(share * part), 1.0) for part in (1.0, 0.5))
        assert full.shape == (40, 30, 3) and full.dtype == np.uint8
        np.testing.assert_allclose(full[20, 15], 100 * 0.4 + colour * 0.6, atol=0.51)
        np.testing.assert_allclose(half[20, 15], 100 * 0.7 + colour * 0.3, atol=0.51)
    np.testing.assert_array_equal(overlay.tinted(GREYS, one(0), 1.0), np.repeat(GREYS[..., None], 3, axis=2))


def test_evidence_lies_where_it_was_found() -> None:
    corner = np.zeros((4, 4), dtype=np.float32)
    corner[0, 3] = 2.0
    drawn = overlay.tinted(GREYS, corner, 2.0).astype(int)
    coloured = np.abs(drawn - 100).sum(axis=2)
    assert coloured[:10, 23:].min() > 0 and coloured[20:].max() == 0 and coloured[:, :15].max() == 0


def test_no_evidence_is_no_colour_and_no_division() -> None:
    assert overlay.scale_of(one(0)) == 1.0
    drawn = overlay.side_by_side(GREYS, one(0))
    np.testing.assert_array_equal(drawn[:, :30], drawn[:, 30 + overlay.GAP : 60 + overlay.GAP])


def test_the_film_stands_beside_its_evidence_and_the_scale() -> None:
    film = noisy((300, 200))
    evidence = np.array([[0.5, -0.25], [0.0, 0.1]], dtype=np.float32)
    drawn = overlay.side_by_side(film, evidence, side=150)
    assert drawn.shape[0] == 100
    small = overlay.reduced(film, 150)
    np.testing.assert_array_equal(drawn[:, :150], np.repeat(small[..., None], 3, axis=2))
    start = 150 + overlay.GAP
    np.testing.assert_array_equal(drawn[:, start : start + 150], overlay.tinted(small, evidence, 0.5))
    np.testing.assert_array_equal(drawn[:, start + 150 + overlay.GAP :], overlay.bar(100, 0.5))


def test_the_bar_shows_what_a_place_of_that_evidence_shows() -> None:
    bar = overlay.bar(101, 0.25)
    grey = np.full((1, 1), overlay.GREY, dtype=np.uint8)
    for row, value in ((0, 0.25), (50, 0.0), (100, -0.25)):
        np.testing.assert_allclose(bar[row, 0], overlay.tinted(grey, one(value), 0.25)[0, 0], atol=2)


def test_a_film_is_not_enlarged() -> None:
    assert overlay.reduced(GREYS).shape == (40, 30)
    assert overlay.reduced(np.zeros((4000, 10), dtype=np.uint8)).shape == (overlay.SIDE, 2)


def ramp(size: int = 120) -> np.ndarray:
    """Evidence (1, size) from -1 at the left to 1 at the right."""
    return np.linspace(-1, 1, size, dtype=np.float32)[None]


def test_lines_stand_where_evidence_passes_a_level_solid_for_and_dashed_against() -> None:
    drawn = overlay.tinted(np.full((60, 120), 100, dtype=np.uint8), ramp(), 1.0)
    white = (drawn == 255).all(axis=2)
    full = [column for column in range(120) if white[:, column].all()]
    dashed = [column for column in range(120) if white[:, column].any() and not white[:, column].all()]
    at = {level: int(np.searchsorted(ramp()[0], level)) for level in (1 / 3, 2 / 3, -1 / 3, -2 / 3)}
    assert full == [at[1 / 3], at[2 / 3]]
    assert dashed == [at[-2 / 3], at[-1 / 3]]
    assert (drawn[:, full[0] - 1] == 0).all() and (drawn[:, full[0] + 1] == 0).all()  # an edge on either side


def test_lines_survive_grey_printing_on_any_film() -> None:
    for grey in (0, 100, 255):
        drawn = overlay.tinted(np.full((60, 120), grey, dtype=np.uint8), ramp(), 1.0)
        printed = np.asarray(Image.fromarray(drawn).convert("L")).astype(int)
        line = int(np.searchsorted(ramp()[0], 1 / 3))
        assert np.ptp(printed[30, line - 2 : line + 3]) == 255  # white beside black


def test_a_sheet_has_the_pictures_between_the_words() -> None:
    film, evidence = noisy((800, 800)), np.array([[0.5, -0.25], [0.0, 0.1]], dtype=np.float32)
    pictures = overlay.side_by_side(film, evidence, 400)
    few, many = (overlay.sheet(film, evidence, "covid", lines, 400) for lines in ((), ("one", "two")))
    assert few.dtype == np.uint8 and few.shape[1] == many.shape[1] == pictures.shape[1]
    assert len(pictures) < len(few) < len(many)
    above = next(row for row in range(len(few)) if (few[row : row + 400] == pictures).all())
    assert few[:above].max() > 200 and few[above + 400 :].max() > 200  # words
    assert (many[len(many) - len(few) + above :] == few[above:]).all()


def test_a_small_film_has_room_for_its_words() -> None:
    drawn = overlay.sheet(noisy((64, 64)), one(0.5), "a heading of many words " * 10)
    assert drawn.shape[1] == overlay.NARROWEST
    assert drawn[:, -overlay.GAP :].max() == 0  # no word runs over the edge
