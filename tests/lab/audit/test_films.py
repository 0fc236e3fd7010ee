"""What is kept of a picture: content, properties, hash; and of pictures that can't be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn import example, examples_in, film, save
from PIL import Image, PngImagePlugin

from edgecxr.lab.audit.films import (
    COLUMNS,
    DETAIL_SIDE,
    Films,
    border_statistics,
    contrast,
    grey_statistics,
    phash,
    read_film,
    read_films,
    sharpness,
)


def properties(path: Path, name: str) -> dict[str, float]:
    found = read_film(example(path.name, folder=path.parent)).properties[name]
    return dict(zip(COLUMNS[name], found.tolist(), strict=True))


def test_equal_pixels_are_equal_content_whatever_the_file(tmp_path: Path) -> None:
    pixels = film(1)
    noted = PngImagePlugin.PngInfo()
    noted.add_text("Comment", "another")
    save(tmp_path / "a.png", pixels)
    save(tmp_path / "b.png", pixels, pnginfo=noted)
    save(tmp_path / "c.bmp", pixels)
    save(tmp_path / "d.tif", pixels)
    save(tmp_path / "e.png", np.dstack([pixels] * 3))  # grey, stored as colour
    save(tmp_path / "f.jpg", pixels, quality=90)
    films = read_films(examples_in(tmp_path), 2)
    assert len(set(films.sha256)) == 6
    assert len(set(films.content[:5])) == 1
    assert films.content[5] != films.content[0]


def test_the_shape_belongs_to_the_content(tmp_path: Path) -> None:
    pixels = film(1)
    save(tmp_path / "a.png", pixels)
    save(tmp_path / "b.png", pixels.reshape(pixels.shape[::-1]))  # the same bytes
    films = read_films(examples_in(tmp_path), 1)
    assert films.content[0] != films.content[1]


def test_size_format_and_compression(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", film(1, (200, 100)), quality=75)
    size = path.stat().st_size
    with Image.open(path) as image:
        luma = sum(image.quantization[0])  # type: ignore[attr-defined]
    assert properties(path, "size") == pytest.approx(
        {"width": 200, "height": 100, "aspect": 2, "log pixels": 9.90349}  # ln 20000
    )
    assert {name for name, value in properties(path, "format").items() if value} == {"JPEG", "one component"}
    compression = properties(path, "compression")
    assert compression["bytes per pixel"] == pytest.approx(size / 20_000)
    assert compression["JPEG quantization"] == luma
    deep = save(tmp_path / "b.png", film(1).astype(np.uint16) * 257)
    assert {name for name, value in properties(deep, "format").items() if value} == {
        "PNG", "one component", "more than 8 bits",
    }  # fmt: skip


def test_grey_statistics_by_hand() -> None:
    half = np.zeros((64, 64), np.uint8)
    half[:, 32:] = 255
    found = dict(zip(COLUMNS["grey statistics"], grey_statistics(half).tolist(), strict=True))
    assert (found["mean"], found["deviation"]) == (127.5, 127.5)
    assert (found["black"], found["white"], found["entropy"]) == (0.5, 0.5, 1.0)
    assert (found["percentile 25"], found["percentile 75"]) == (0, 255)


def test_contrast_by_hand() -> None:
    ramp = np.arange(100, 200, dtype=np.uint8).reshape(10, 10)
    deviation, *ranges = contrast(grey_statistics(ramp)).tolist()
    assert deviation == pytest.approx(np.sqrt((100**2 - 1) / 12))  # of the discrete uniform distribution
    assert ranges == [98, 90, 50]


def test_sharpness_by_hand() -> None:
    # One wave of the cosine transform at 3/8 of the highest frequency, one at 3/4, of equal depth.
    place = (np.arange(DETAIL_SIDE) + 0.5) * np.pi / DETAIL_SIDE
    low, high = (np.cos(place * DETAIL_SIDE * share)[:, None] for share in (3 / 8, 3 / 4))
    flat = np.zeros((DETAIL_SIDE, DETAIL_SIDE))
    waves = [(128 + 50 * (flat + wave)).round().astype(np.uint8) for wave in (low, low + high)]
    # Beyond a quarter lies all of it; beyond a half nothing of the first but rounding, and half of the second.
    assert sharpness(waves[0])[0] == pytest.approx(0, abs=0.01)
    assert sharpness(waves[0])[1] < -3
    assert sharpness(waves[1]) == pytest.approx([0, np.log10(0.5)], abs=0.01)
    # Windowing changes nothing: half the depth, and brighter.
    milder = (waves[1] // 2 + 100).astype(np.uint8)
    assert sharpness(milder) == pytest.approx(sharpness(waves[1]), abs=0.01)


def test_a_frame_is_seen_on_its_side() -> None:
    pixels = film(2, (64, 96))
    pixels[:6] = 0  # of 96 rows
    found = dict(zip(COLUMNS["border"], border_statistics(pixels).tolist(), strict=True))
    assert (found["top mean"], found["top deviation"], found["top flat"]) == (0, 0, 6 / 96)
    assert (found["bottom flat"], found["left flat"], found["right flat"]) == (0, 0, 0)
    assert found["bottom mean"] == pytest.approx(pixels[-3:].mean())  # 96 / 32 rows
    assert found["right deviation"] == pytest.approx(pixels[:, -2:].std(), rel=1e-5)  # 64 / 32 columns


def test_the_hash_is_that_of_the_cosine_transform_written_out() -> None:
    pixels = film(3, (64, 64))
    small = pixels.astype(float).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    place = np.arange(32)
    low = np.array(
        [
            [(small * np.outer(*(np.cos(np.pi * (place + 0.5) * k / 32) for k in (v, u)))).sum() for u in range(1, 9)]
            for v in range(1, 9)
        ]
    ).ravel()
    bits = "".join("1" if value > np.median(low) else "0" for value in low)
    assert int(phash(pixels)) == int(bits, 2)


def test_the_hash_forgives_brightness_and_contrast_and_tells_films_apart() -> None:
    first = phash(film(4, (64, 64)))
    softer = (film(4, (64, 64)) * 0.6 + 60).astype(np.uint8)
    assert np.bitwise_count(first ^ phash(softer)) <= 4
    others = [np.bitwise_count(first ^ phash(film(seed, (64, 64)))) for seed in range(5, 25)]
    assert min(others) > 12


def test_what_cannot_be_read_is_listed_and_the_others_keep_their_rows(tmp_path: Path) -> None:
    for i in (0, 2, 4, 6):
        save(tmp_path / f"{i}.png", film(i))
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    save(tmp_path / "5.png", np.full((80, 80), 9, np.uint8))
    examples = [*examples_in(tmp_path), example("7.png", folder=tmp_path)]
    read: list[int] = []
    films = read_films(examples, 2, lambda: read.append(1))
    assert len(read) == 8
    assert [(e.file, code) for e, code, _ in films.rejected] == [
        ("1.png", "corrupt"),
        ("3.jpg", "not_an_image"),
        ("5.png", "blank"),
        ("7.png", "unreadable"),
    ]
    assert [e.file for e in films.examples] == ["0.png", "2.png", "4.png", "6.png"]
    for row, e in enumerate(films.examples):
        alone = read_film(e)
        assert films.content[row] == alone.content
        assert np.array_equal(films.thumbnails[row], alone.thumbnail)
        assert films.phashes[row] == alone.phash
        assert all(np.array_equal(films.properties[name][row], alone.properties[name]) for name in COLUMNS)


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / f"{i:02}.png", film(i))

    def read(workers: int) -> Films:
        return read_films(examples_in(tmp_path), workers)

    one, three = read(1), read(3)
    assert (one.examples, one.content) == (three.examples, three.content)
    assert np.array_equal(one.thumbnails, three.thumbnails)
