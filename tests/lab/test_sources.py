"""Several data folders as one data set, and the choice of films among them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgecxr.errors import DataError, UsageError
from edgecxr.lab.dataset import Dataset
from edgecxr.lab.selection import Selection, check_told_apart, read_left_out
from edgecxr.lab.sources import Twins, read_datasets

Rows = Sequence[dict[str, str]]


def write(folder: Path, rows: Rows) -> Path:
    """A manifest alone: nothing here opens a film."""
    folder.mkdir(parents=True)
    columns = {name: "" for row in rows for name in row}
    with (folder / "manifest.csv").open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(columns))
        writer.writeheader()
        writer.writerows({**columns, **row} for row in rows)
    return folder


def rows(labels: Sequence[str] = ("a", "b"), count: int = 10, **columns: str) -> list[dict[str, str]]:
    return [{"file": f"{label}{i}.png", "label": label, **columns} for label in labels for i in range(count)]


def split_rows(labels: Sequence[str] = ("a", "b"), **columns: str) -> list[dict[str, str]]:
    splits = ("train", "dev", "test")
    return [{"file": f"{label}-{s}.png", "label": label, "split": s, **columns} for label in labels for s in splits]


def test_films_of_several_folders_are_named_after_them_and_have_a_source(tmp_path: Path) -> None:
    one = write(tmp_path / "one", rows(("a", "b"), 1))
    two = write(tmp_path / "two", [{"file": "x.png", "label": "a", "source": "siim"}])
    data = read_datasets([one, two])
    assert [(e.file, e.source, e.folder) for e in data.examples] == [
        ("one/a0.png", "one", "one"),
        ("one/b0.png", "one", "one"),
        ("two/x.png", "siim", "two"),
    ]
    assert [e.path for e in data.examples] == [one / "a0.png", one / "b0.png", two / "x.png"]
    assert (data.name, data.folders) == ("one + two", (one, two))
    assert [e.file for e in data.where({"source": "one"}).examples] == ["one/a0.png", "one/b0.png"]
    assert read_datasets([one]).examples[0].file == "a0.png"


def test_a_folder_per_class_beside_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "plain" / "a").mkdir(parents=True)
    (tmp_path / "plain" / "a" / "0.png").write_bytes(b"x")
    data = read_datasets([tmp_path / "plain", write(tmp_path / "two", rows(("a",), 1))])
    assert [(e.file, e.source, e.group) for e in data.examples] == [
        ("plain/a/0.png", "plain", "plain/a/0.png"),
        ("two/a0.png", "two", "two/a0.png"),
    ]


def test_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "x" / "films", rows()), write(tmp_path / "y" / "films", rows())
    with pytest.raises(UsageError, match=r"several data folders must have different names, got twice: films$"):
        read_datasets([one, other])


@pytest.mark.parametrize("column", ["group", "patient"])
def test_a_group_in_the_splits_of_two_folders_is_refused(tmp_path: Path, column: str) -> None:
    mine = [*split_rows(), {"file": "g.png", "label": "a", "split": "train", column: "P1"}]
    theirs = [*split_rows(), {"file": "g.png", "label": "b", "split": "test", column: "P1"}]
    folders = [write(tmp_path / "one", mine), write(tmp_path / "two", theirs)]
    with pytest.raises(DataError, match="1 groups stand in more than one split, the first is 'P1'"):
        Selection().of(read_datasets(folders), 0)
    theirs[-1]["split"] = "train"
    folders[1] = write(tmp_path / "x" / "two", theirs)
    assert Selection().of(read_datasets(folders), 0)


def test_one_folder_brings_splits_and_another_gets_its_own(tmp_path: Path) -> None:
    given = write(tmp_path / "given", split_rows())
    data = Selection().of(read_datasets([given, write(tmp_path / "free", rows(count=20))]), 0)
    assert {e.file: e.split for e in data.examples if e.folder == "given"} == {
        f"given/{row['file']}": row["split"] for row in split_rows()
    }
    free = [e.split for e in data.examples if e.folder == "free"]
    assert {split: free.count(split) for split in free} == {"train": 24, "dev": 6, "test": 10}


def test_labels_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", split_rows(("a", "b"))), write(tmp_path / "two", split_rows(("c", "d")))
    with pytest.raises(DataError, match=r"must share a label with another, c, d elsewhere, got one with a, b$"):
        Selection().of(read_datasets([one, two]), 0)
    three = write(tmp_path / "three", split_rows(("b", "c")))
    data = Selection().of(read_datasets([one, three]), 0)
    assert data.labels == ("a", "b", "c")  # a label that one source alone has is fine
    with pytest.raises(DataError, match=r"must have films to learn from, none is left of three$"):
        Selection(ignored_labels=("b", "c")).of(read_datasets([one, three]), 0)
    empty = write(tmp_path / "empty", [])
    with pytest.raises(DataError, match="no labelled pictures"):
        read_datasets([one, empty])


def test_an_ignored_label_is_no_class(tmp_path: Path) -> None:
    data = read_datasets([write(tmp_path / "one", split_rows(("a", "b", "c")))])
    assert Selection(ignored_labels=("c",)).of(data, 0).labels == ("a", "b")
    with pytest.raises(UsageError, match=r"--ignore-label expects one of a, b, c, got 'd'$"):
        Selection(ignored_labels=("d",)).of(data, 0)
    with pytest.raises(DataError, match=r"no film is left once a, b, c is ignored$"):
        Selection(ignored_labels=("a", "b", "c")).of(data, 0)


def doubts(folder: Path, *names: str, name: str = "doubts.csv") -> Path:
    (folder / name).write_text("\n".join(["file,why", *(f"{n},because" for n in names)]) + "\n")
    return folder / name


def test_films_that_are_left_out_are_tested_and_nothing_else(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", rows(count=30)), write(tmp_path / "two", rows(count=30))
    data = read_datasets([one, two])
    listed = doubts(one, *(row["file"] for row in rows(count=4)))
    selection = Selection(left_out=read_left_out([listed], [one, two]))
    assert selection.left_out == tuple(sorted(f"one/{row['file']}" for row in rows(count=4)))
    whole, part = Selection().of(data, 0), selection.of(data, 0)
    assert part.split("test") == whole.split("test")
    gone = {e.file for e in whole.examples} - {e.file for e in part.examples}
    assert gone == {e.file for e in whole.examples if e.file in selection.left_out and e.split != "test"} != set()
    folds = [replace(selection, fold=(number, 3)).of(data, 0) for number in (1, 2, 3)]
    tested = sorted(e.file for fold in folds for e in fold.split("test"))
    assert tested == sorted(e.file for e in data.examples)


def test_names_to_leave_out_are_the_lists_own_or_the_data_sets(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", rows()), write(tmp_path / "two", rows())
    assert read_left_out([doubts(tmp_path, "two/a0.png")], [one, two]) == ("two/a0.png",)
    assert read_left_out([doubts(one, "a0.png")], [one]) == ("a0.png",)
    # A manifest over linked folders, and the list that one of them brings.
    merged = write(tmp_path / "merged", [{"file": "one/a0.png", "label": "a"}, {"file": "two/a0.png", "label": "a"}])
    for folder in (one, two):
        (merged / folder.name).symlink_to(folder)
    assert read_left_out([doubts(two, "a0.png")], [merged]) == ("two/a0.png",)
    assert read_left_out([doubts(one, "a0.png", "a99.png")], [one]) == ("a0.png",)
    with pytest.raises(DataError, match=r"must name some of the data's, none of 1 is: \S+doubts\.csv$"):
        read_left_out([doubts(one, "a99.png")], [one])
    (one / "bad.csv").write_text("name\nx\n")
    with pytest.raises(DataError, match="needs a column file, filled in each row"):
        read_left_out([one / "bad.csv"], [one])
    with pytest.raises(DataError, match=r"can't be read \(FileNotFoundError\)"):
        read_left_out([one / "absent.csv"], [one])


def test_a_class_that_vanishes_with_what_is_left_out_is_refused(tmp_path: Path) -> None:
    data = read_datasets([write(tmp_path / "one", split_rows())])
    with pytest.raises(DataError, match="the dev split has no picture of a"):
        Selection(left_out=("a-dev.png",)).of(data, 0)


def test_a_source_is_held_out_by_the_name_of_its_folder(tmp_path: Path) -> None:
    data = read_datasets([write(tmp_path / "one", rows()), write(tmp_path / "two", split_rows())])
    held = Selection(held_out=("source", "two")).of(data, 0)
    assert {e.file for e in held.split("test")} == {f"two/{row['file']}" for row in split_rows()}
    assert {e.folder for e in (*held.split("train"), *held.split("dev"))} == {"one"}
    check_told_apart(held)
    held = Selection(held_out=("source", "one")).of(data, 0)
    assert len(held.split("train")) == len(held.split("dev")) == 2  # the manifest's, without its test films


def test_a_test_of_one_class_tells_nothing_apart(tmp_path: Path) -> None:
    data = read_datasets([write(tmp_path / "one", rows()), write(tmp_path / "two", rows(("a",)))])
    with pytest.raises(DataError, match=r"needs films of two classes or more, there are only films of a$"):
        check_told_apart(Selection(held_out=("source", "two")).of(data, 0))


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection({"age": "adult"}, ("c",), ("x.png",), fold=(2, 5)),
        Selection(held_out=("source", "siim")),
    ],
)
def test_a_selection_survives_json(selection: Selection) -> None:
    assert Selection.from_json(selection.to_json()) == selection


def test_a_description_of_before_is_understood() -> None:
    assert Selection.from_json({"where": {}, "hold_out_origin": None, "folder": "x"}) == Selection()
    assert Selection.from_json({"hold_out_origin": "A"}) == Selection(held_out=("origin", "A"))


def test_the_same_film_in_two_sources_is_refused(tmp_path: Path) -> None:
    data: Dataset = read_datasets([write(tmp_path / "one", split_rows()), write(tmp_path / "two", split_rows())])
    own, other = data.examples[0], data.examples[-1]
    twins = Twins()
    twins.add(own, "content")
    twins.add(data.examples[1], "content")  # within a source, it is the audit's to say
    said = r"may not be in two sources, got one/a-train\.png \(one, train\) and two/b-test\.png \(two, test\)$"
    with pytest.raises(DataError, match=said):
        twins.add(other, "content")
