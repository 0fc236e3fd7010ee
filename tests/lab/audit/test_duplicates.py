"""Planted copies are found, different films aren't confused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from drawn import example, examples_in, film, save
from PIL import Image

from edgecxr.lab.audit import duplicates
from edgecxr.lab.audit.align import aligned_similarity
from edgecxr.lab.audit.duplicates import DuplicateSet, Match, Prints, components, exact_sets, joined, matches, near_sets
from edgecxr.lab.audit.films import Films, read_films
from edgecxr.lab.dataset import read_dataset


def nothing(*_: int) -> None:
    pass


def read(folder: Path) -> Films:
    return read_films(examples_in(folder), 2)


def named(films: Films, sets: list[DuplicateSet]) -> list[list[str]]:
    return sorted([films.examples[m].file for m in s.members] for s in sets)


def near(films: Films, workers: int = 2) -> list[DuplicateSet]:
    return near_sets(films, Prints.of(films), workers, nothing)


def cropped(pixels: np.ndarray, share: float) -> np.ndarray:
    y, x = (round(side * share) for side in pixels.shape)
    return pixels[y:-y, x:-x]


def resized(pixels: np.ndarray, factor: float) -> np.ndarray:
    height, width = (round(side * factor) for side in pixels.shape)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def gamma(pixels: np.ndarray, power: float) -> np.ndarray:
    return (255 * (pixels / 255) ** power).round().astype(np.uint8)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Films:
    """40 different films, and a copy of the first eight in eight ways."""
    folder = tmp_path_factory.mktemp("planted")
    large = [film(seed, (256, 224)) for seed in range(40)]
    for number, pixels in enumerate(large):
        save(folder / f"{number:02}.png", pixels)
    save(folder / "00-quality-30.jpg", large[0], quality=30)
    save(folder / "01-half.png", resized(large[1], 0.5))
    save(folder / "02-double.jpg", resized(large[2], 2), quality=80)
    save(folder / "03-crop-1.png", cropped(large[3], 0.01))
    save(folder / "04-gamma-low.png", gamma(large[4], 0.6))
    save(folder / "05-gamma-high.png", gamma(large[5], 1.6))
    save(folder / "06-all.jpg", resized(gamma(cropped(large[6], 0.01), 0.8), 0.6), quality=50)
    save(folder / "07-square.png", np.asarray(Image.fromarray(large[7]).resize((200, 200))))
    return read(folder)


def test_each_planted_copy_is_found_and_no_two_films_are_confused(planted: Films) -> None:
    found = near(planted)
    files = [e.file for e in planted.examples]
    copies = sorted(file for file in files if "-" in file)
    assert named(planted, found) == [[copy, f"{copy[:2]}.png"] for copy in copies]
    assert all(0.9 <= s.similarity <= 1 for s in found)
    assert exact_sets(planted) == []


def test_blocks_and_threads_change_nothing(planted: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = near(planted, workers=1)
    monkeypatch.setattr(duplicates, "_CELLS", 200)  # four rows a block
    monkeypatch.setattr(duplicates, "CHUNK", 3)
    assert near(planted, workers=3) == expected


def test_different_films_stay_far_below_the_threshold(planted: Films) -> None:
    prints = Prints.of(planted)
    originals = [row for row, e in enumerate(planted.examples) if "-" not in e.file]
    i, j = (np.array(originals)[k] for k in np.triu_indices(len(originals), 1))
    assert len(i) == 780
    found = aligned_similarity(prints.thumbnails[i], prints.thumbnails[j], prints.outlines[i], prints.outlines[j])
    assert found.max() < 0.6


def test_exact_copies_count_once_and_stand_in_near_sets(tmp_path: Path) -> None:
    save(tmp_path / "a.png", film(1))
    save(tmp_path / "b.bmp", film(1))
    save(tmp_path / "c.jpg", film(1), quality=60)
    save(tmp_path / "d.png", film(2))
    save(tmp_path / "e.tif", film(2))
    films = read(tmp_path)
    exact, close = exact_sets(films), near(films)
    assert named(films, exact) == [["a.png", "b.bmp"], ["d.png", "e.tif"]]
    assert {s.similarity for s in exact} == {1.0}
    assert named(films, close) == [["a.png", "b.bmp", "c.jpg"]]
    assert named(films, joined(exact, close)) == [["a.png", "b.bmp", "c.jpg"], ["d.png", "e.tif"]]


def test_a_chain_of_links_is_one_set_with_its_weakest(planted: Films) -> None:
    forest = duplicates._Forest(6)
    forest.join(np.array([0, 3, 1]), np.array([1, 4, 4]), np.array([0.99, 0.97, 0.93], np.float32))
    forest.join(np.array([0]), np.array([4]), np.array([0.91], np.float32))  # joined already: no link is needed
    (members, weakest), *others = forest.trees()
    assert (members, others) == ([0, 1, 3, 4], [])
    assert weakest == pytest.approx(0.93)
    assert forest.apart(np.array([0, 0]), np.array([4, 5])).tolist() == [False, True]


def test_copies_in_another_folder(tmp_path: Path) -> None:
    for seed in range(6):
        save(tmp_path / "here" / f"{seed}.png", film(seed))
    save(tmp_path / "here" / "5-again.png", film(5))
    save(tmp_path / "there" / "a.jpg", film(0), quality=30)
    save(tmp_path / "there" / "b.jpg", film(0), quality=90)
    save(tmp_path / "there" / "c.bmp", film(3))
    save(tmp_path / "there" / "d.jpg", film(3), quality=90)
    save(tmp_path / "there" / "e.jpg", film(5), quality=50)
    save(tmp_path / "there" / "f.png", film(77))
    here, there = read(tmp_path / "here"), read(tmp_path / "there")

    def found(a: Films, b: Films) -> list[Match]:
        return matches(a, Prints.of(a), b, Prints.of(b), 2, nothing)

    pairs = [(here.examples[m.film].file, there.examples[m.other].file) for m in found(here, there)]
    assert pairs == [("0.png", "b.jpg"), ("3.png", "c.bmp"), ("5-again.png", "e.jpg"), ("5.png", "e.jpg")]
    exact = [m.similarity == 1.0 for m in found(here, there)]
    assert exact == [False, True, False, False]
    back = [(there.examples[m.film].file, here.examples[m.other].file[0]) for m in found(there, here)]
    assert back == [("a.jpg", "0"), ("b.jpg", "0"), ("c.bmp", "3"), ("d.jpg", "3"), ("e.jpg", "5")]


def test_a_folder_without_a_readable_picture_holds_no_copy(tmp_path: Path) -> None:
    save(tmp_path / "a.png", film(1))
    here, none = read(tmp_path), read_films([example("gone.png", folder=tmp_path)], 1)
    assert matches(here, Prints.of(here), none, Prints.of(none), 1, nothing) == []
    assert near(none) == []


def test_components_by_hand() -> None:
    found = components(7, [(0, 2), (2, 4), (5,), (6, 1)]).tolist()
    assert found[0] == found[2] == found[4]
    assert found[1] == found[6]
    assert len(set(found)) == 4  # {0 2 4} {1 6} {3} {5}
    assert len(set(components(3, []).tolist())) == 3


def test_real_originals_are_matched_with_their_twins(real_data: Path) -> None:
    with (real_data / "fullres" / "manifest.csv").open(newline="") as opened:
        twin_of = {row["file"]: row["near_radiography"] for row in csv.DictReader(opened) if row["near_radiography"]}
    folder = real_data / "fullres"
    smallest = sorted(twin_of, key=lambda file: (folder / file).stat().st_size)[:12]
    originals = read_films([example(file, folder=folder) for file in smallest], 2)
    small = real_data / "radiography"
    twins = read_films([example(file, folder=small) for file in sorted(set(twin_of.values()))], 2)
    found = matches(originals, Prints.of(originals), twins, Prints.of(twins), 2, nothing)
    assert {originals.examples[m.film].file: twins.examples[m.other].file for m in found} == {
        file: twin_of[file] for file in smallest
    }


def test_real_films_of_different_patients_are_not_confused(real_data: Path) -> None:
    patients = {e.columns["patient"]: e for e in read_dataset(real_data / "radiography").where({"seed": "1"}).examples}
    films = read_films([e for e in patients.values() if e.label != "covid"][::8], 2)
    assert len(films) > 150
    assert near(films) == []
