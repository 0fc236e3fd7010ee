"""Every file of data/dicom: the outcome that is expected of it, and the picture that another program draws of it."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import REAL
from edgecxr.errors import PictureRejected
from edgecxr.pictures import decode as images
from edgecxr.pictures.preprocess import Contract

FOLDER = REAL / "dicom"
CONTRACT = Contract(source_size=224)
LOSSLESS = (
    "explicit_le implicit_le big_endian deflated rle jpeg_lossless_sv1 jpeg_lossless_p14_sv6 jpegls j2k_lossless "
    "htj2k_lossless htj2k_rpcl jpeg_lossless_7_fragments"
)
# Grey levels, mean absolute difference to dcmtk's picture; dcmtk cuts where this rounds, which is half a level.
MOST = {"window1": 0.7, "voilut": 0.7, "fullrange": 0.8, "minmax": 9.0}


def rows() -> list[dict[str, str]]:
    if not FOLDER.is_dir():
        pytest.skip(f"no real pictures at {REAL} (set EDGECXR_DATA)")
    with (FOLDER / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


@cache
def outcome(file: str) -> images.Picture | str:
    try:
        picture = images.decode((FOLDER / file).read_bytes(), CONTRACT)
        images.prepare(picture, CONTRACT)
    except PictureRejected as rejected:
        return rejected.code
    return picture


def image(name: str) -> np.ndarray:
    picture = outcome(f"derived/{name}")
    assert isinstance(picture, images.Picture), picture
    return images.prepare(picture, CONTRACT)


def test_every_file_has_its_expected_outcome() -> None:
    wrong = [
        (row["file"], row["expected"], outcome(row["file"]))
        for row in rows()
        if row["expected"] not in ("either", "reject" if isinstance(outcome(row["file"]), str) else "score")
    ]
    assert not wrong


def test_no_file_fails_in_an_unforeseen_way() -> None:
    assert "decoder_failed" not in {outcome(row["file"]) for row in rows() if isinstance(outcome(row["file"]), str)}


def test_films_look_as_another_program_draws_them() -> None:
    far, counted = [], defaultdict(int)
    for row in rows():
        picture = outcome(row["file"])
        if not row["reference"] or isinstance(picture, str):
            continue
        with Image.open(FOLDER / row["reference"]) as reference:
            expected = np.asarray(reference.convert("L")).astype(float)
        ours = Image.fromarray(picture.pixels).resize(expected.shape[::-1], Image.Resampling.BOX)
        difference = float(np.abs(np.asarray(ours) - expected).mean())
        counted[row["reference_rule"]] += 1
        # What isn't square was drawn undistorted, which moves the edges by a part of a pixel.
        most = 2.0 if row["file"].endswith(("spacing_2_to_1.dcm", "aspect_2_1.dcm")) else MOST[row["reference_rule"]]
        if difference > most:
            far.append((row["file"], difference))
    assert not far
    assert sum(counted.values()) >= 60


def test_one_film_in_every_transfer_syntax_without_loss_is_one_picture() -> None:
    rows()
    base = image("ts_explicit_le.dcm")
    for name in LOSSLESS.split():
        assert np.array_equal(image(f"ts_{name}.dcm"), base), name
    for name in ("jpeg_extended_12", "jpegls_near", "j2k_lossy", "htj2k_lossy", "jpeg_baseline_8"):
        assert 0 < np.abs(image(f"ts_{name}.dcm").astype(int) - base).mean() < 1.5, name


@pytest.mark.parametrize("names", [("spacing_2_to_1.dcm", "aspect_2_1.dcm")])
def test_pixels_that_are_not_square_come_to_the_same_place(names: tuple[str, ...]) -> None:
    rows()
    for name in names:
        assert np.abs(image(name).astype(int) - image("ts_explicit_le.dcm")).mean() < 2


def test_polarity_padding_and_odd_bits_give_the_base_again() -> None:
    rows()
    base = image("ts_explicit_le.dcm").astype(int)
    same = (
        "mono1_window mono1_pls_inverse rescale_slope_minus1 window_two modality_lut highbit_15_of_12 "
        "garbage_high_bits overlay_bits_in_pixels overlay_plane signed_12 signed_12_rescaled icon_first no_preamble "
        "no_meta_implicit frames_1 trailing_padding name_japanese name_bad_charset"
    )
    for name in same.split():
        assert np.abs(image(f"{name}.dcm") - base).max() <= 1, name


def test_the_films_are_there() -> None:
    assert len(rows()) == 145
    assert all((FOLDER / row["file"]).is_file() for row in rows())
    assert isinstance(FOLDER, Path)
