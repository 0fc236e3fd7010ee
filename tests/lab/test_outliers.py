"""Pictures that are no films: how a folder of them is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.errors import DataError
from edgecxr.lab.dataset import Example
from edgecxr.lab.outliers import Outlier, check_apart, read_outliers

Picture = Callable[..., Path]


def manifest(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.csv").write_text(text)
    return folder


def film(path: Path) -> Example:
    return Example(path, path.name, "covid", None, path.name, {})


def test_a_manifest_says_kind_nearness_use_source_and_licence(tmp_path: Path) -> None:
    header = "File,kind,near,use,source,licence\n"
    text = f"{header}ct/1.jpg,chest_ct,1,fit,A,CC0\nb.png,hand,0,report,,\nc.png,film,0,control,,\n"
    assert read_outliers(manifest(tmp_path, text)) == (
        Outlier(tmp_path / "ct/1.jpg", "ct/1.jpg", "chest_ct", True, "fit", "A", "CC0"),
        Outlier(tmp_path / "b.png", "b.png", "hand", False, "report"),
        Outlier(tmp_path / "c.png", "c.png", "film", False, "control"),
    )
    bare = manifest(tmp_path / "bare", "file;kind\na.png;hand\n")  # as a spreadsheet writes it, and no more columns
    assert read_outliers(bare) == (Outlier(bare / "a.png", "a.png", "hand"),)


def test_without_one_each_folder_is_a_kind(tmp_path: Path, picture: Picture) -> None:
    for name in ("in/hand/b.png", "in/hand/deep/a.png", "in/ct/a.png", "in/.hidden/a.png"):
        picture(name)
    (tmp_path / "in/hand/notes.txt").write_text("no picture")
    found = read_outliers(tmp_path / "in")
    assert [(o.file, o.kind, o.near, o.use) for o in found] == [
        ("ct/a.png", "ct", False, ""),
        ("hand/b.png", "hand", False, ""),
        ("hand/deep/a.png", "hand", False, ""),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is none in"),
        ("file,kind\n", "there is none in"),
        ("file,kind,use\na.png,film,control\n", "there is none in"),  # nothing there that should be turned away
        ("file,label\na.png,hand\n", "needs the columns file and kind, it has file, label"),
        ("file,kind\n,hand\n", "line 2 must name a file in the folder and its kind, got '' 'hand'"),
        ("file,kind\na.png, \n", "line 2 must name a file"),
        ("file,kind\n../a.png,hand\n", "line 2 must name a file in the folder"),
        ("file,kind\na.png,hand\n./a.png,ct\n", "line 3 names a file a second time: a.png"),
        ("file,kind,near\na.png,hand,2\n", "near 0 or 1, and as use fit, report, control or none, got '2' ''"),
        ("file,kind,use\na.png,hand,train\n", "got '0' 'train'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_outliers(manifest(tmp_path, text))


def test_no_folder_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected in a folder, there is none"):
        read_outliers(tmp_path / "absent")
    with pytest.raises(DataError, match="there is none in"):
        read_outliers(tmp_path)


def test_an_outlier_is_no_labelled_film(tmp_path: Path, picture: Picture) -> None:
    film_file, other = picture("films/a.png", seed=1), picture("films/b.png", seed=2)
    twin = tmp_path / "twin.png"
    twin.write_bytes(film_file.read_bytes())
    like = tmp_path / "like.png"  # as long, and another
    like.write_bytes(bytes(reversed(film_file.read_bytes())))
    films = [film(film_file), film(other), film(tmp_path / "gone.png")]
    check_apart([Outlier(like, "like.png", "hand"), Outlier(tmp_path / "gone2.png", "gone2.png", "hand")], films)
    check_apart([Outlier(twin, "twin.png", "films", use="control")], films)
    with pytest.raises(DataError, match=r"may not be one of the labelled films, 1 are, the first is twin\.png"):
        check_apart([Outlier(like, "like.png", "hand"), Outlier(twin, "twin.png", "hand")], films)
