"""The cache of decoded pictures: decoded once, memory-mapped, and never another's."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, Example, read_dataset
from edgecxr.lab.train import pictures
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract

CONTRACT = Contract(height=71, width=71)


@pytest.fixture
def films(picture: Callable[..., Path], tmp_path: Path) -> Dataset:
    for seed, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png")):
        picture(f"films/{name}", seed=seed)
    return read_dataset(tmp_path / "films")


def load(films: Dataset, cache: Path, contract: Contract = CONTRACT) -> np.ndarray:
    return pictures.load(films.examples, contract, cache, pictures.fingerprints(films.examples)[1])


def test_the_cache_is_a_read_only_memory_map_of_the_devices_inputs(films: Dataset, tmp_path: Path) -> None:
    done: list[int] = []
    found = pictures.load(films.examples, CONTRACT, tmp_path / "cache", "x" * 64, done.append)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert (found.dtype, found.shape) == (np.uint8, (5, 71, 71))
    for example, image in zip(films.examples, found, strict=True):
        assert np.array_equal(image, images.network_input(example.path, CONTRACT))
    assert done == [1, 2, 3, 4, 5]


def test_nothing_is_decoded_twice_whatever_splits_are_made(
    films: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(films, tmp_path / "cache")
    monkeypatch.setattr(images, "network_input", lambda *_: pytest.fail("decoded a second time"))
    assert np.array_equal(load(films, tmp_path / "cache"), first)
    split = replace(films, examples=tuple(replace(e, split="test", label="c") for e in films.examples))
    assert np.array_equal(load(split, tmp_path / "cache"), first)


def test_other_pictures_another_order_or_another_contract_are_decoded_anew(films: Dataset, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = load(films, cache)
    assert np.array_equal(load(replace(films, examples=films.examples[::-1]), cache), first[::-1])
    assert load(films, cache, Contract(height=80, width=80)).shape == (5, 80, 80)
    assert load(films, cache, replace(CONTRACT, source_size=40)).tolist() != first.tolist()
    (tmp_path / "films" / "b" / "3.png").write_bytes((tmp_path / "films" / "a" / "1.png").read_bytes())
    assert np.array_equal(load(films, cache)[4], first[0])
    assert len(list(cache.iterdir())) == 5


def test_the_datas_fingerprint_holds_file_label_split_and_content(films: Dataset) -> None:
    example = films.examples[0]
    prints = {pictures.fingerprint(films.examples)}
    for changed in (
        replace(example, file="a/9.png"),
        replace(example, label="b"),
        replace(example, split="train"),
        replace(example, path=films.examples[1].path),
    ):
        prints.add(pictures.fingerprint((changed, *films.examples[1:])))
    assert len(prints) == 5


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut"])
def test_a_picture_that_cannot_be_used_is_named_and_leaves_no_cache(
    films: Dataset, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "films" / "b" / "2.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a labelled picture can't be used .*2\.png$"):
        load(films, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir() if (tmp_path / "cache").exists() else []) == []
    (tmp_path / "films" / "b" / "2.png").unlink()
    with pytest.raises(DataError, match=r"a labelled picture can't be used .*2\.png$"):
        pictures.fingerprint(films.examples)


def test_memory_stays_the_same_whatever_the_number_of_pictures(
    picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count, contract = picture(), 1200, Contract(height=128, width=128)
    examples = [Example(path, f"{i}.png", "a", None, str(i), {}) for i in range(count)]
    monkeypatch.setattr(pictures, "WINDOW", 64)
    monkeypatch.setattr(files, "MAX_BYTES", 1 << 16)  # a file is read into a buffer of this size, which isn't kept
    tracemalloc.start()
    try:
        found = pictures.load(examples, contract, tmp_path / "cache", "x" * 64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.nbytes == count * 128 * 128  # 19.7 MB
    assert peak < 4e6  # 64 pictures in hand are 1 MB


def test_the_source_size_is_the_median_of_the_shorter_sides(picture: Callable[..., Path], tmp_path: Path) -> None:
    for number, size in enumerate(((100, 80), (70, 300), (90, 90))):
        picture(f"films/a/{number}.png", size=size)
    examples = read_dataset(tmp_path / "films").examples
    assert pictures.source_size(examples, Contract(height=299, width=299)) == 80
    assert pictures.source_size(examples, Contract(height=80, width=80)) is None
