"""The cache of decoded pictures: decoded once, memory-mapped, and never another's."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, Example, read_dataset
from edgecxr.lab.train import pictures
from edgecxr.lab.train.pictures import Corpus
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
    return Corpus(films.examples).inputs(contract, cache)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was read."""
    found: Counter[str] = Counter()
    read = files.read
    monkeypatch.setattr(files, "read", lambda path: (found.update([str(path)]), read(path))[1])
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was decoded."""
    found: list[bytes] = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda data, contract: (found.append(data), decode(data, contract))[1])
    return found


def test_the_cache_is_a_read_only_memory_map_of_the_devices_inputs(films: Dataset, tmp_path: Path) -> None:
    done: list[int] = []
    found = Corpus(films.examples).inputs(CONTRACT, tmp_path / "cache", done.append)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert (found.dtype, found.shape) == (np.uint8, (5, 71, 71))
    for example, image in zip(films.examples, found, strict=True):
        assert np.array_equal(image, images.network_input(example.path, CONTRACT))
    assert done == [1, 2, 3, 4, 5]


def test_nothing_is_decoded_twice_whatever_splits_are_made(
    films: Dataset, tmp_path: Path, decoded: list[bytes]
) -> None:
    first = load(films, tmp_path / "cache")
    assert len(decoded) == 5
    assert np.array_equal(load(films, tmp_path / "cache"), first)
    split = replace(films, examples=tuple(replace(e, split="test", label="c") for e in films.examples))
    assert np.array_equal(load(split, tmp_path / "cache"), first)
    assert len(decoded) == 5


def test_each_file_is_read_once_and_what_is_hashed_is_what_is_decoded(
    films: Dataset, tmp_path: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "SIZE_SAMPLE", 2)  # some are looked at before, and not all
    contents = [example.path.read_bytes() for example in films.examples]
    corpus = Corpus(films.examples)
    assert corpus.source_size(films.examples, CONTRACT) is None
    assert 0 < reads.total() < 5
    corpus.inputs(CONTRACT, tmp_path / "cache")
    once = {str(example.path): 1 for example in films.examples}
    assert reads == once
    for example in films.examples:
        example.path.write_bytes(b"another film by now")
    assert corpus.hashes() == tuple(hashlib.sha256(data).hexdigest() for data in contents)
    corpus.fingerprint(films.examples)
    corpus.inputs(CONTRACT, tmp_path / "cache")
    assert reads == once


def test_with_the_cache_there_each_file_is_read_once_and_none_decoded(
    films: Dataset, tmp_path: Path, reads: Counter[str], decoded: list[bytes]
) -> None:
    first = load(films, tmp_path / "cache")
    for hashed_before in (False, True):
        reads.clear()
        decoded.clear()
        corpus = Corpus(films.examples)
        if hashed_before:  # by a resume that asks for the fingerprint
            corpus.hashes()
        assert np.array_equal(corpus.inputs(CONTRACT, tmp_path / "cache"), first)
        assert reads == {str(example.path): 1 for example in films.examples}
        assert not decoded


def test_what_another_data_set_decoded_is_copied(films: Dataset, tmp_path: Path, decoded: list[bytes]) -> None:
    part = replace(films, examples=films.examples[1:4])
    load(part, tmp_path / "cache")
    decoded.clear()
    found = load(films, tmp_path / "cache")
    assert len(decoded) == 2
    for example, image in zip(films.examples, found, strict=True):
        assert np.array_equal(image, images.network_input(example.path, CONTRACT))


@pytest.mark.parametrize("damage", ["absent", "shorter", "garbled"])
def test_an_array_without_its_list_of_hashes_is_made_anew(films: Dataset, tmp_path: Path, damage: str) -> None:
    first = load(films, tmp_path / "cache").copy()
    (listing,) = (tmp_path / "cache").glob("*.sha256")
    before = listing.read_text()
    if damage == "absent":
        listing.unlink()
    else:
        listing.write_bytes(before.encode()[:130] if damage == "shorter" else b"\xff" + before.encode())
    assert np.array_equal(load(films, tmp_path / "cache"), first)
    assert listing.read_text() == before
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_other_pictures_another_order_or_another_contract_are_decoded_anew(films: Dataset, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = load(films, cache)
    assert np.array_equal(load(replace(films, examples=films.examples[::-1]), cache), first[::-1])
    assert load(films, cache, Contract(height=80, width=80)).shape == (5, 80, 80)
    assert load(films, cache, replace(CONTRACT, source_size=40)).tolist() != first.tolist()
    (tmp_path / "films" / "b" / "3.png").write_bytes((tmp_path / "films" / "a" / "1.png").read_bytes())
    assert np.array_equal(load(films, cache)[4], first[0])
    assert len(list(cache.glob("*.npy"))) == 5


def test_the_datas_fingerprint_holds_file_label_split_and_content(films: Dataset) -> None:
    example = films.examples[0]

    def fingerprint(first: Example) -> str:
        examples = (first, *films.examples[1:])
        return Corpus(examples).fingerprint(examples)

    prints = {fingerprint(example)}
    for changed in (
        replace(example, file="a/9.png"),
        replace(example, label="b"),
        replace(example, split="train"),
        replace(example, path=films.examples[1].path),
    ):
        prints.add(fingerprint(changed))
    assert len(prints) == 5
    # As earlier versions wrote it into their RUNs.
    rows = [[e.file, e.label, e.split, hashlib.sha256(e.path.read_bytes()).hexdigest()] for e in films.examples]
    assert fingerprint(example) == hashlib.sha256("".join(map(json.dumps, rows)).encode()).hexdigest()


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
        Corpus(films.examples).hashes()


def test_memory_stays_the_same_whatever_the_number_of_pictures(
    picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count, contract = picture(), 1200, Contract(height=128, width=128)
    examples = [Example(path, f"{i}.png", "a", None, str(i), {}) for i in range(count)]
    monkeypatch.setattr(pictures, "WINDOW", 64)
    monkeypatch.setattr(files, "MAX_BYTES", 1 << 16)  # a file is read into a buffer of this size, which isn't kept
    tracemalloc.start()
    try:
        found = Corpus(examples).inputs(contract, tmp_path / "cache")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.nbytes == count * 128 * 128  # 19.7 MB
    assert peak < 4e6  # 64 pictures in hand are 1 MB


def test_the_source_size_is_the_median_of_the_shorter_sides(picture: Callable[..., Path], tmp_path: Path) -> None:
    for number, size in enumerate(((100, 80), (70, 300), (90, 90))):
        picture(f"films/a/{number}.png", size=size)
    examples = read_dataset(tmp_path / "films").examples
    assert Corpus(examples).source_size(examples, Contract(height=299, width=299)) == 80
    assert Corpus(examples).source_size(examples, Contract(height=80, width=80)) is None


def test_the_smallest_source_decides_and_large_files_are_sampled_less(
    picture: Callable[..., Path], tmp_path: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"sharp": 200, "soft": 90}
    for source, size in sizes.items():
        for number in range(4):
            picture(f"films/a/{source}-{number}.png", size=(size, size), seed=size + number)
    examples = [
        replace(example, columns={"source": example.file[2:].split("-")[0]})
        for example in read_dataset(tmp_path / "films").examples
    ]
    contract = Contract(height=299, width=299)
    assert Corpus(examples).source_size(examples, contract) == 90
    assert reads.total() == 8
    assert Corpus(examples).source_size([e for e in examples if e.source == "sharp"], contract) == 200
    monkeypatch.setattr(pictures, "SAMPLE_BYTES", 2)
    reads.clear()
    assert Corpus(examples).source_size(examples, contract) == 90
    assert reads.total() == 2  # one of each
