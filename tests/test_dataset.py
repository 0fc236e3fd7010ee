"""Labelled data: manifests, folders per class, and splits that never divide a group."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.dataset import read_dataset, with_splits
from edgecxr.errors import DataError

HEADER = "file,label,split,group,origin\n"


def manifest(folder: Path, rows: str, header: str = HEADER) -> Path:
    (folder / "manifest.csv").write_text(header + rows)
    return folder


def test_a_manifest_is_read_in_its_order(tmp_path: Path) -> None:
    data = read_dataset(manifest(tmp_path, "b.png,normal,train,p1,here\na.png,covid,dev,p2,there\n"))
    assert data.labels == ("covid", "normal")
    assert [(e.file, e.label, e.split, e.group, e.origin) for e in data.examples] == [
        ("b.png", "normal", "train", "p1", "here"),
        ("a.png", "covid", "dev", "p2", "there"),
    ]
    assert [e.file for e in data.where({"origin": "there"}).examples] == ["a.png"]


def test_a_folder_per_class_is_sorted_and_other_files_are_left_out(
    picture: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("normal/b.png", "normal/a.png", "covid/deep/c.jpg"):
        picture(name)
    (tmp_path / "normal" / "notes.txt").write_text("x")
    data = read_dataset(tmp_path)
    assert [(e.file, e.label) for e in data.examples] == [
        ("covid/deep/c.jpg", "covid"),
        ("normal/a.png", "normal"),
        ("normal/b.png", "normal"),
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a.png,covid,training,g,o\n", "split must be one of"),
        ("a.png,,train,g,o\n", "needs a file and a label"),
        ("a.png,covid,train\n", "as many fields"),
        ("a.png,covid,train,g,o,extra\n", "as many fields"),
        ("../a.png,covid,train,g,o\n", "outside the folder"),
        ("/a.png,covid,train,g,o\n", "outside the folder"),
        ("a.png,covid,train,g,o\na.png,normal,train,g,o\n", "a second time"),
        ("", "no labelled pictures"),
    ],
)
def test_a_garbled_manifest_is_one_sentence(tmp_path: Path, rows: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_dataset(manifest(tmp_path, rows))


def test_a_manifest_saved_by_a_spreadsheet_is_read_and_a_lacking_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbffile,label\r\na.png,covid\r\n")
    assert read_dataset(tmp_path).labels == ("covid",)
    with pytest.raises(DataError, match="needs the columns file and label"):
        read_dataset(manifest(tmp_path, "a.png,covid\n", header="path,label\n"))


def test_folders_of_splits_are_not_taken_for_classes(picture: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("train/covid/a.png", "test/normal/b.png"):
        picture(name)
    with pytest.raises(DataError, match="splits and not classes"):
        read_dataset(tmp_path)


def test_splits_are_made_by_group_stratified_and_repeatable(tmp_path: Path) -> None:
    rows = "".join(
        f"{label}{g}-{i}.png,{label},,{label}-g{g},o\n"
        for label in ("covid", "normal")
        for g in range(40)
        for i in range(3)
    )
    data = with_splits(read_dataset(manifest(tmp_path, rows)), seed=1)
    groups: dict[str, set[str | None]] = {}
    for example in data.examples:
        groups.setdefault(example.group, set()).add(example.split)
    assert all(len(splits) == 1 for splits in groups.values())
    counts = Counter((e.label, e.split) for e in data.examples)
    for label in data.labels:
        assert (counts[label, "train"], counts[label, "dev"], counts[label, "test"]) == (72, 18, 30)  # 60, 15, 25 %
    assert with_splits(read_dataset(tmp_path), seed=1) == data
    assert with_splits(read_dataset(tmp_path), seed=2) != data


def test_a_divided_group_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{s}{label}.png,{label},{s},p,o\n" for s in ("train", "dev", "test") for label in ("a", "b"))
    with pytest.raises(DataError, match="more than one split"):
        with_splits(read_dataset(manifest(tmp_path, rows)), seed=0)


def test_a_split_without_a_class_is_refused(tmp_path: Path) -> None:
    rows = "".join(
        f"{s}{label}.png,{label},{s},{s}{label},o\n"
        for s in ("train", "dev", "test")
        for label in ("a", "b")
        if (s, label) != ("dev", "b")
    )
    with pytest.raises(DataError, match="dev split has no picture of b"):
        with_splits(read_dataset(manifest(tmp_path, rows)), seed=0)


def test_half_a_split_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="some pictures"):
        with_splits(read_dataset(manifest(tmp_path, "a.png,a,train,1,o\nb.png,b,,2,o\n")), seed=0)


def test_unknown_columns_and_empty_selections_are_refused(tmp_path: Path) -> None:
    data = read_dataset(manifest(tmp_path, "a.png,a,train,1,o\n"))
    with pytest.raises(DataError, match="no column"):
        data.where({"age": "3"})
    with pytest.raises(DataError, match="no picture has"):
        data.where({"origin": "elsewhere"})


def test_the_real_manifest_has_the_splits_its_readme_promises(real_data: Path) -> None:
    data = with_splits(read_dataset(real_data / "radiography"), seed=0)
    assert data.labels == ("covid", "normal", "viral_pneumonia")
    assert Counter(e.label for e in data.examples) == {"covid": 3616, "normal": 3183, "viral_pneumonia": 1493}
    assert len(data.split("test")) == 2106
