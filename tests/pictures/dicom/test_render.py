"""Grey levels from stored values: DICOM's formulas by hand, and the order of the steps."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

import dicoms
from edgecxr.errors import PictureRejected
from edgecxr.pictures import decode as images
from edgecxr.pictures.dicom import render
from edgecxr.pictures.preprocess import Contract

VALUES = dicoms.values()
WINDOW = {"WindowCenter": 1514, "WindowWidth": 1228}
INVERSE = {"PresentationLUTShape": "INVERSE"}
NEGATIVE = {"PhotometricInterpretation": "MONOCHROME1"}
FULL = {"WindowCenter": 2048, "WindowWidth": 4096}


def shown(samples: np.ndarray = VALUES, **tags: Any) -> np.ndarray:
    return images.decode(dicoms.film(samples, **tags), Contract()).pixels.astype(int)


def way(samples: np.ndarray = VALUES, **tags: Any) -> str | None:
    return images.decode(dicoms.film(samples, **tags), Contract()).rendering


def by_hand(function: str, x: np.ndarray, c: float, w: float) -> np.ndarray:
    """PS3.3, C.11.2.1.2 and C.11.2.1.3, for an output of 0 to 255."""
    if function == "LINEAR":
        y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
        y = np.where(x <= c - 0.5 - (w - 1) / 2, 0, np.where(x > c - 0.5 + (w - 1) / 2, 255, y))
    elif function == "LINEAR_EXACT":
        y = ((x - c) / w + 0.5) * 255
        y = np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 255, y))
    else:
        y = 255 / (1 + np.exp(-4 * (x - c) / w))
    return np.floor(y + 0.5)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("c", "w"), [(1514, 1228), (2048, 4096), (1514.25, 1227.5), (100, 1)])
def test_windows_are_the_standards(function: str, c: float, w: float) -> None:
    x = VALUES.astype(float)
    tags = {"WindowCenter": c, "WindowWidth": w, "VOILUTFunction": function}
    if (function, w) == ("LINEAR", 1):  # pydicom and the formula divide by zero: a threshold, PS3.3 C.11.2.1.2.1
        expected = np.where(x > c - 0.5, 255.0, 0.0)
    else:
        expected = by_hand(function, x, c, w)
        described = Dataset()
        described.BitsStored, described.PixelRepresentation, described.PhotometricInterpretation = 12, 0, "MONOCHROME2"
        for keyword, value in tags.items():
            setattr(described, keyword, value)
        theirs = apply_voi_lut(VALUES, described) / 4095 * 255
        assert np.abs(theirs - expected).max() <= 0.51
    assert np.array_equal(shown(**tags), expected)
    assert way(**tags) == f"window_{function.lower()}"


def test_the_first_of_several_windows_counts() -> None:
    assert np.array_equal(shown(WindowCenter=[1514, 3000], WindowWidth=[1228, 500]), shown(**WINDOW))


def test_the_modality_comes_first() -> None:
    """A slope of -1 turns the picture round, and its window is of what comes out."""
    turned = shown((4095 - VALUES).astype(np.uint16), RescaleSlope=-1, RescaleIntercept=4095, **WINDOW)
    assert np.array_equal(turned, shown(**WINDOW))
    entries = dicoms.lut(np.arange(4095, -1, -1))
    with_table = shown((4095 - VALUES).astype(np.uint16), ModalityLUTSequence=entries, **WINDOW)
    assert np.array_equal(with_table, shown(**WINDOW))
    assert way(ModalityLUTSequence=entries, **WINDOW) == "modality_lut+window_linear"


def test_signed_values_with_and_without_an_intercept() -> None:
    signed = ((VALUES.astype(int) - 2048) & 0xFFF).astype(np.uint16)
    assert np.array_equal(
        shown(signed, PixelRepresentation=1, WindowCenter=1514 - 2048, WindowWidth=1228), shown(**WINDOW)
    )
    rescaled = {"RescaleSlope": 1, "RescaleIntercept": 2048}
    assert np.array_equal(shown(signed, PixelRepresentation=1, **rescaled, **WINDOW), shown(**WINDOW))


def test_a_look_up_table_is_preferred_to_a_window() -> None:
    entries = (np.arange(1229) * 4095 // 1228).astype(np.uint16)
    table = dicoms.lut(entries, first=900, bits=12)
    expected = np.floor(entries[np.clip(VALUES.astype(int) - 900, 0, 1228)] / 4095 * 255 + 0.5)
    assert np.array_equal(shown(VOILUTSequence=table, **FULL), expected)
    assert way(VOILUTSequence=table, **FULL) == "voi_lut"


def test_a_table_of_65536_entries_has_a_count_of_zero() -> None:
    values = dicoms.values(bits=16)
    table = dicoms.lut(np.arange(65536)[::-1], bits=16)
    assert table[0]["00283002"].value[0] == 0
    expected = np.floor((65535 - values.astype(int)) / 65535 * 255 + 0.5)
    assert np.array_equal(shown(values, BitsStored=16, HighBit=15, VOILUTSequence=table), expected)


def test_tables_of_bytes_and_of_negative_values() -> None:
    table = dicoms.lut(np.zeros(1))
    table[0]["00283002"].value = [256, 65536 - 128, 8]
    table[0]["00283006"].value = bytes(range(256))
    signed = (VALUES.astype(int) // 16 - 128) & 0xFFF
    tags = {"VOILUTSequence": table, "PixelRepresentation": 1, "syntax": dicoms.IMPLICIT}
    assert np.array_equal(shown(signed.astype(np.uint16), **tags), VALUES // 16)


@pytest.mark.parametrize("change", [{"bits": 4}, {"bits": 17}, {"bits": 8}])
def test_a_table_that_contradicts_itself_is_rejected(change: dict[str, int]) -> None:
    with pytest.raises(PictureRejected) as caught:
        shown(VOILUTSequence=dicoms.lut(np.arange(4096), **change))
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_a_window_without_width_is_rejected(width: float) -> None:
    with pytest.raises(PictureRejected, match="no width"):
        shown(WindowCenter=1514, WindowWidth=width)


def test_an_unknown_function_is_rejected() -> None:
    with pytest.raises(PictureRejected, match="isn't known"):
        shown(**WINDOW, VOILUTFunction="CUBIC")


@pytest.mark.parametrize(
    ("tags", "inverted"), [({}, False), (NEGATIVE, True), (INVERSE, True), ({**NEGATIVE, **INVERSE}, True)], ids=str
)
def test_polarity_is_applied_once_about_a_defined_white(tags: dict[str, str], inverted: bool) -> None:
    """Not about the picture's own maximum: this one reaches neither end of its range."""
    inner = (VALUES // 4 + 1000).astype(np.uint16)
    plain = shown(inner, **FULL)
    assert np.array_equal(shown(inner, **FULL, **tags), 255 - plain if inverted else plain)
    assert (way(**FULL, **tags) or "").endswith("inverted") == inverted


@pytest.mark.parametrize("polarity", [{}, NEGATIVE], ids=str)
@pytest.mark.parametrize("window", [{}, FULL], ids=str)
def test_padding_is_black_and_does_not_move_the_range(polarity: dict[str, str], window: dict[str, int]) -> None:
    inner = (VALUES // 4 + 1000).astype(np.uint16)
    padded = inner.copy()
    padded[:, :20] = 4095
    found = shown(padded, PixelPaddingValue=4095, **polarity, **window)
    assert (found[:, :20] == 0).all()
    assert np.array_equal(found[:, 20:], shown(inner[:, 20:], **polarity, **window))
    limited = inner.copy()
    limited[:, :10], limited[:, 10:20] = 4095, 4000
    ends = {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000}
    assert np.array_equal(shown(limited, **ends, **polarity, **window), found)
    assert "padding" in str(way(padded, PixelPaddingValue=4095))


def test_a_picture_of_padding_alone_is_blank() -> None:
    with pytest.raises(PictureRejected) as caught:
        shown(np.full((80, 96), 7, dtype=np.uint16), PixelPaddingValue=7)
    assert caught.value.code == "blank"


def test_eight_bits_without_a_window_are_what_they_are() -> None:
    octets = (VALUES // 40 + 20).astype(np.uint8)
    assert np.array_equal(shown(octets), octets)
    assert np.array_equal(shown(octets, **NEGATIVE), 255 - octets.astype(int))
    assert way(octets) == "full_range"


def test_deeper_films_without_a_window_fill_the_range_whatever_a_few_pixels_hold() -> None:
    inner = np.linspace(1000, 2000, 100 * 80).astype(np.uint16).reshape(80, 100)
    low, high = (np.percentile(inner, p, method="inverted_cdf") for p in (0.5, 99.5))
    expected = np.floor((inner - max(low - 0.1 * (high - low), 1000)) / 1000 * 255 + 0.5)
    assert np.array_equal(shown(inner), expected)  # the margin reaches beyond the film's own values, which end it
    spoiled = inner.copy()
    spoiled[0, :20], spoiled[-1, -20:] = 0, 4095  # a quarter of a percent each: dead pixels, a marker
    low, high = (np.percentile(spoiled, p, method="inverted_cdf") for p in (0.5, 99.5))
    margin = 0.1 * (high - low)
    shades = (spoiled - (low - margin)) / (high - low + 2 * margin)
    assert np.array_equal(shown(spoiled), np.floor(np.clip(shades, 0, 1) * 255 + 0.5))
    assert np.abs(shown(spoiled) - expected)[1:-1].max() < 30
    assert way(inner) == "percentiles"


def test_counting_in_blocks_is_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shown()
    monkeypatch.setattr(render, "BLOCK", 1000)
    assert np.array_equal(shown(), whole)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_same_film_as_dicom_png_and_tiff_is_the_same_input(bits: int) -> None:
    """A window of the whole depth is what a PNG of such samples means; to the grey level."""
    values = dicoms.values((400, 300), bits)
    contract = Contract(source_size=224)
    whole = {"WindowCenter": 1 << bits - 1, "WindowWidth": 1 << bits}
    stored = values.astype(np.uint8) if bits == 8 else values
    depth = {} if bits == 8 else {"BitsStored": bits, "HighBit": bits - 1}
    inputs = [images.prepare(images.decode(dicoms.film(stored, **depth, **whole), contract), contract)]
    for kind in ("PNG", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(stored).save(buffer, kind)
        inputs.append(images.prepare(images.decode(buffer.getvalue(), contract), contract))
    assert np.array_equal(inputs[0], inputs[1])
    assert np.array_equal(inputs[0], inputs[2])


def test_pixels_that_are_not_square_make_the_same_input() -> None:
    """Both sides are stretched on their own, so that rows twice as far apart come to the same place."""
    values = dicoms.values((300, 300))
    smooth = np.asarray(
        Image.fromarray((values // 16).astype(np.uint8)).resize((300, 300)).reduce(10).resize((300, 300))
    )
    half = smooth.reshape(150, 2, 300).mean(axis=1).astype(np.uint8)
    contract = Contract(source_size=None)
    whole, squashed = (
        images.prepare(images.decode(dicoms.film(grey, **tags), contract), contract).astype(int)
        for grey, tags in ((smooth, {}), (half, {"PixelAspectRatio": [2, 1]}))
    )
    assert np.abs(whole - squashed).mean() < 2
