"""A planted shortcut is found where it was planted; balanced data give none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import example, film, films_of, save
from PIL import Image

from edgecxr.lab.audit.films import COLUMNS, read_films
from edgecxr.lab.audit.probes import ALL, FRAME, OF_PLACES, THUMBNAIL, Probe, probe, provenances

N = 60
SMALL = (96, 80)


def probes(folder: Path, plant: Callable[[int, int], tuple[str, np.ndarray, dict[str, object]]]) -> dict[str, Probe]:
    """By source: 60 films of two classes in turn; `plant` makes of (number, class) a suffix, pixels and options."""
    examples = []
    for number in range(N):
        label = number % 2
        suffix, pixels, options = plant(number, label)
        path = save(folder / f"{number:02}{suffix}", pixels, **options)
        examples.append(example(path.name, "ab"[label], folder=folder))
    found, notes = probe(read_films(examples, 2), np.arange(N), 0, lambda *_: None)
    assert notes == []
    assert [p.source for p in found] == [*COLUMNS, ALL, THUMBNAIL, FRAME]
    return {p.source: p for p in found}


def clear(found: dict[str, Probe]) -> set[str]:
    return {source for source, p in found.items() if p.severity != "ok"}


def test_balanced_data_give_no_finding_and_chance_lies_in_the_intervals(tmp_path: Path) -> None:
    found = probes(tmp_path, lambda number, _: (".jpg", film(number, SMALL), {"quality": 80}))
    assert clear(found) == set()
    outside = [s for s, p in found.items() if not p.answer.interval[0] <= 0.5 <= p.answer.interval[1]]
    assert len(outside) <= 1  # of nine intervals of 95 %


def test_size(tmp_path: Path) -> None:
    found = probes(tmp_path, lambda number, label: (".png", film(number, (96 + 8 * label, 80)), {}))
    assert {"size", ALL} <= clear(found)
    assert found["size"].answer.balanced_accuracy == 1
    assert not {"format", "mean grey", "border", THUMBNAIL} & clear(found)


def test_format(tmp_path: Path) -> None:
    found = probes(tmp_path, lambda number, label: ((".png", ".bmp")[label], film(number, SMALL), {}))
    assert found["format"].answer.balanced_accuracy == 1
    assert not {"size", "mean grey", "grey statistics", "border", THUMBNAIL, FRAME} & clear(found)


def test_colour_storage_of_one_class(tmp_path: Path) -> None:
    def plant(number: int, label: int) -> tuple[str, np.ndarray, dict[str, object]]:
        pixels = film(number, SMALL)
        return ".png", np.dstack([pixels] * 3) if label else pixels, {}

    found = probes(tmp_path, plant)
    assert found["format"].answer.balanced_accuracy == 1
    assert not {"size", "mean grey", "border", THUMBNAIL} & clear(found)


def test_compression(tmp_path: Path) -> None:
    found = probes(tmp_path, lambda number, label: (".jpg", film(number, SMALL), {"quality": (90, 60)[label]}))
    assert found["compression"].answer.balanced_accuracy == 1
    assert not {"size", "format", "mean grey", THUMBNAIL} & clear(found)


def test_mean_grey(tmp_path: Path) -> None:
    found = probes(tmp_path, lambda number, label: (".png", film(number, SMALL) // 2 + 40 * label, {}))
    assert found["mean grey"].answer.balanced_accuracy == 1
    assert {"mean grey", "grey statistics", THUMBNAIL} <= clear(found)
    assert not {"size", "format"} & clear(found)


def test_a_black_frame_is_told_from_the_border_and_with_the_centre_blacked_out(tmp_path: Path) -> None:
    def plant(number: int, label: int) -> tuple[str, np.ndarray, dict[str, object]]:
        pixels = film(number, SMALL)
        if label:
            pixels[:4] = 0
        return ".png", pixels, {}

    found = probes(tmp_path, plant)
    assert found["border"].answer.balanced_accuracy == 1
    assert {"border", FRAME, THUMBNAIL} <= clear(found)
    assert not {"size", "format"} & clear(found)


def test_an_opacity_in_the_centre_is_told_from_the_thumbnail_alone(tmp_path: Path) -> None:
    def plant(number: int, label: int) -> tuple[str, np.ndarray, dict[str, object]]:
        pixels = film(number, SMALL).astype(int)
        # As much is taken away beside it, so that no statistic of the whole tells.
        pixels[30:50, 20:40] += 40 * (1 - 2 * label)
        pixels[30:50, 55:75] -= 40 * (1 - 2 * label)
        return ".png", pixels.clip(0, 255).astype(np.uint8), {}

    found = probes(tmp_path, plant)
    assert found[THUMBNAIL].answer.balanced_accuracy > 0.9
    assert found[THUMBNAIL].severity == "note"  # the disease may be what is seen
    assert not {"size", "format", "border", "mean grey", FRAME} & clear(found)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Probe]:
    """Two classes; a is of two places, which differ in a mark in the corner, b of the second alone."""
    folder = tmp_path_factory.mktemp("places")
    examples = []
    for number in range(N):
        label, origin = (("a", "here"), ("a", "there"), ("b", "there"))[number % 3]
        pixels = film(number, SMALL)
        if origin == "there":
            pixels[:8, -10:] = 255
        path = save(folder / f"{number:02}.png", pixels)
        examples.append(example(path.name, label, folder=folder, origin=origin, source=origin.upper()))
    found, notes = probe(read_films(examples, 2), np.arange(N), 0, lambda *_: None)
    assert notes == []
    return found


def test_the_origin_is_told_also_within_a_class(places: list[Probe]) -> None:
    asked = [(p.target, p.source, p.within) for p in places if p.target != "label"]
    # `source` divides the pictures as `origin` does, and b has one origin: neither is asked about.
    assert asked == [("origin", source, within) for within in (None, "a") for source in OF_PLACES]
    for p in places:
        if p.target == "origin" and p.source != "sharpness":
            assert p.severity == "warning"
            assert p.answer.balanced_accuracy > 0.9
    within = next(p for p in places if p.within == "a")
    assert (len(within.question.rows), within.question.classes) == (40, ("here", "there"))
    assert within.finding().id == "origin:thumbnail:a"


def test_what_a_thumbnail_tells_within_a_place_that_has_several_classes(places: list[Probe]) -> None:
    (found,) = [p for p in places if p.target == "label" and p.within]
    assert (found.source, found.within, len(found.question.rows)) == (THUMBNAIL, "there", 40)
    assert found.question.classes == ("a", "b")
    assert not found.answer.clear(0.5)  # the mark is in all of them


def test_a_soft_source_is_told_from_its_sharpness(tmp_path: Path) -> None:
    examples = []
    for number in range(N):
        picture = Image.fromarray(film(number, (256, 224)))
        if number % 2:  # as where small copies were enlarged
            picture = picture.resize((128, 112)).resize((256, 224))
        path = save(tmp_path / f"{number:02}.png", np.asarray(picture))
        examples.append(example(path.name, "ab"[number // 2 % 2], folder=tmp_path, source="xy"[number % 2]))
    found, _ = probe(read_films(examples, 2), np.arange(N), 0, lambda *_: None)
    told = {(p.target, p.source): p.answer.balanced_accuracy for p in found if p.within is None}
    assert told["source", "sharpness"] == 1
    assert told["label", "sharpness"] < 0.8


def test_contrast_of_one_class(tmp_path: Path) -> None:
    def plant(number: int, label: int) -> tuple[str, np.ndarray, dict[str, object]]:
        pixels = film(number, SMALL).astype(float)
        mean = pixels.mean()
        return ".png", (mean + (pixels - mean) * (1, 0.8)[label]).round().astype(np.uint8), {}

    found = probes(tmp_path, plant)
    assert found["contrast"].answer.balanced_accuracy > 0.9
    assert not {"size", "format"} & clear(found)


def test_the_label_from_the_origin_by_hand(places: list[Probe]) -> None:
    found = next(p for p in places if (p.target, p.source) == ("label", "origin"))
    # "there" says b, which is right for all of b and wrong for half of a.
    assert found.answer.recalls == (0.5, 1.0)
    assert found.finding().figure.startswith("75.0% balanced accuracy (")
    assert found.finding().figure.endswith("chance 50.0%")


def test_columns_that_name_no_places() -> None:
    def films(n: int, **columns: Callable[[int], str]):  # type: ignore[no-untyped-def]
        return films_of([example(str(i), **{k: of(i) for k, of in columns.items()}) for i in range(n)])

    assert provenances(films(9, origin=lambda i: str(i % 2), source=lambda i: str(i % 3))) == ["origin", "source"]
    assert provenances(films(9, origin=lambda i: str(i % 2), source=lambda i: "xy"[i % 2])) == ["origin"]
    assert provenances(films(9, origin=lambda _: "one")) == []
    assert provenances(films(60, source=str)) == []  # a name for each picture


def test_too_few_groups_are_a_note() -> None:
    films = films_of([example(str(i), "ab"[i % 2]) for i in range(12)])
    found, (note,) = probe(films, np.arange(12), 0, lambda *_: None)
    assert found == []
    assert (note.severity, note.values) == ("note", {"pictures": {"a": 6, "b": 6}})


def test_an_origin_of_few_pictures_each_is_a_note_and_no_probe(tmp_path: Path) -> None:
    """Five places of five films each: no place is told apart by a number of films worth counting."""
    examples = []
    for number in range(25):
        path = save(tmp_path / f"{number:02}.png", film(number, SMALL))
        examples.append(example(path.name, "ab"[number % 2], folder=tmp_path, origin=f"place {number // 5}"))
    found, notes = probe(read_films(examples, 2), np.arange(25), 0, lambda *_: None)
    assert [p.source for p in found] == [*COLUMNS, ALL, THUMBNAIL, FRAME]
    said = {note.id: (note.severity, note.action) for note in notes}
    assert said["label:not-told:origin"] == ("note", "Nothing can be said: no origin has 10 pictures or more.")
    assert set(said) == {"label:not-told:origin", "origin:not-asked"}
