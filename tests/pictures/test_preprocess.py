"""Preprocessing: bit depth, scaling, geometry, and the contract that a runtime refuses when it doesn't know it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecxr.errors import BundleError
from edgecxr.pictures.preprocess import Contract, bit_depth, preprocess, to_uint8


@pytest.mark.parametrize(
    ("peak", "bits"),
    [
        (1, 8),
        (255, 8),
        (256, 10),
        (1023, 10),
        (1024, 12),
        (4095, 12),
        (4096, 14),
        (16383, 14),
        (16384, 16),
        (65535, 16),
    ],
)
def test_observed_bit_depth_is_the_smallest_usual_one_that_holds_the_peak(peak: int, bits: int) -> None:
    assert bit_depth(np.array([[0, peak]], dtype=np.uint16)) == bits


def test_a_declared_depth_is_believed_unless_the_pixels_exceed_it() -> None:
    pixels = np.array([[0, 3000]], dtype=np.uint16)
    assert bit_depth(pixels, declared=13) == 13
    assert bit_depth(pixels, declared=11) == 12


@given(st.integers(8, 16), st.data())
def test_scaling_is_rounded_division_and_never_clips(bits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, (1 << bits) - 1))
    scaled = int(to_uint8(np.array([[value]], dtype=np.uint16), bits)[0, 0])
    assert abs(scaled - value * 255 / ((1 << bits) - 1)) <= 0.5
    assert int(to_uint8(np.array([[(1 << bits) - 1]], dtype=np.uint16), bits)[0, 0]) == 255


def test_twelve_bits_in_a_sixteen_bit_container_are_not_left_dark() -> None:
    pixels = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    scaled = to_uint8(pixels, bit_depth(pixels))
    assert scaled.max() == 255
    assert abs(float(scaled.mean()) - 127.5) < 1


@settings(max_examples=30)
@given(st.integers(33, 400), st.integers(33, 400), st.integers(0, 255))
def test_any_size_becomes_the_input_size_and_a_constant_stays_constant(width: int, height: int, grey: int) -> None:
    result = preprocess(np.full((height, width), grey, dtype=np.uint8), Contract())
    assert result.shape == (299, 299)
    assert result.dtype == np.uint8
    assert np.all(result == grey)


def test_reduction_is_antialiased() -> None:
    stripes = np.zeros((1024, 1024), dtype=np.uint8)
    stripes[:, ::2] = 255  # finer than the input can show: must become grey, not stripes or black
    result = preprocess(stripes, Contract())
    assert result.std() < 8
    assert abs(float(result.mean()) - 127.5) < 1


def test_source_size_takes_detail_from_a_sharp_picture_and_none_from_a_small_one() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (897, 897)).astype(np.uint8)
    plain, reduced = (preprocess(sharp, replace(Contract(), source_size=size)) for size in (None, 112))
    assert reduced.std() < 0.7 * plain.std()
    small = rng.integers(0, 256, (112, 100)).astype(np.uint8)
    assert np.array_equal(*(preprocess(small, replace(Contract(), source_size=size)) for size in (None, 112)))


def test_contract_survives_json() -> None:
    contract = Contract(height=96, width=128, source_size=80, jpeg_scale=0)
    assert Contract.from_json(contract.to_json()) == contract


def test_version_1_is_read_as_it_was_written_and_can_be_upgraded() -> None:
    written = {key: value for key, value in Contract(source_size=80).to_json().items() if not key.startswith("dicom_")}
    first = Contract.from_json({**written, "version": 1})
    assert first.to_json() == {**written, "version": 1}
    assert not first.reads_dicom
    assert first.upgraded() == Contract(source_size=80)
    for wrong in (written, {**Contract().to_json(), "version": 1}, {**written, "version": True}):
        with pytest.raises(BundleError):
            Contract.from_json(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 3},
        {"dicom_polarity": "twice"},
        {"dicom_padding": None},
        {"geometry": "pad"},
        {"polarity": "white-is-zero"},
        {"height": 0},
        {"height": "299"},
        {"height": True},
        {"source_size": -1},
        {"jpeg_scale": 1},
        {"unheard_of": 1},
    ],
)
def test_an_unknown_contract_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        Contract.from_json({**Contract().to_json(), **change})


def test_a_contract_with_a_field_less_is_refused() -> None:
    data = Contract().to_json()
    del data["filter"]
    with pytest.raises(BundleError, match="filter"):
        Contract.from_json(data)
