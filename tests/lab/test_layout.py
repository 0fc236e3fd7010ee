"""Folders of classes: every file is an example or accounted for, and an unpacked database is refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.errors import DataError
from edgecxr.lab import layout
from edgecxr.lab.dataset import read_dataset
from edgecxr.lab.sources import read_datasets


def test_every_file_is_used_or_left_out_with_a_reason(tmp_path: Path, picture: Callable[..., Path]) -> None:
    used = ["covid/1.png", "covid/2.jfif", "covid/3.JPE", "covid/deep/4.tiff", "normal/5.dib", "normal/lone_mask.png"]
    left_out = {
        "covid/6.dcm": ".dcm",
        "covid/7": "without a suffix",
        "covid/8.png.txt": ".txt",
        "covid/._1.png": layout.HIDDEN,
        "covid/Thumbs.db": layout.HIDDEN,
        "covid/Lung Masks/1.png": layout.MASK,
        "covid/deep/4_mask.png": layout.MASK,
        "masks/1.png": layout.MASK,
        "normal/elsewhere": layout.LINK,
        "normal/.ipynb_checkpoints": layout.HIDDEN,  # one entry: a hidden folder isn't entered
        "README.md": layout.BESIDE,
        "9.png": layout.BESIDE,
        ".DS_Store": layout.HIDDEN,
    }
    for name in (*used, *left_out):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if Path(name).suffix in (".png", ".jfif", ".tiff", ".dib"):
            picture(name)
        elif name.endswith("elsewhere"):
            path.symlink_to(tmp_path / "covid")
        elif name.endswith("checkpoints"):
            picture(f"{name}/1.png")
        else:
            path.touch()
    data = read_dataset(tmp_path)
    assert sorted(example.file for example in data.examples) == sorted(used)
    assert dict(data.left_out) == left_out
    assert data.account.startswith(
        f"{tmp_path}: left out: 4 hidden, or companions of pictures, 3 masks, 2 beside the class folders, "
    )
    assert data.account.endswith("1 .dcm, 1 .txt, 1 links to folders, 1 without a suffix; the first is .DS_Store")


def test_where_all_is_used_nothing_is_said(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture("covid/1.png")
    assert (read_dataset(tmp_path).left_out, read_dataset(tmp_path).account) == ((), "")


def test_many_reasons_make_one_line() -> None:
    line = layout.account([(f"{number}.s{number}", f".s{number}") for number in range(20)])
    assert (
        line
        == f"left out: {', '.join(f'1 .s{number}' for number in (0, 1, *range(10, 16)))}, 12 others; the first is 0.s0"
    )


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("covid/images/1.png", "covid/masks/1.png"),
        ("covid/Images/1.png", "covid/lung_mask/1.png"),
        ("images/covid/1.png", "masks/covid/1.png"),
        ("COVID-19_Radiography_Dataset/COVID/images/1.png", "COVID-19_Radiography_Dataset/COVID/masks/1.png"),
    ],
)
def test_an_unpacked_database_is_refused_and_the_import_named(
    tmp_path: Path, picture: Callable[..., Path], images: str, masks: str
) -> None:
    for name in (images, masks, "normal/1.png"):
        picture(name)
    with pytest.raises(DataError, match=r"masks are no films, and .* edgecxr data import"):
        read_dataset(tmp_path)


def test_a_class_that_holds_nothing_readable_says_what_it_holds(tmp_path: Path, picture: Callable[..., Path]) -> None:
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "1.dcm").touch()
    with pytest.raises(DataError, match=r"nor a folder per class \(left out: 1 \.dcm; the first is normal/1\.dcm\)$"):
        read_dataset(tmp_path)
    picture("covid/1.png")
    with pytest.raises(
        DataError, match=r"normal holds no picture; .*\(left out: 1 \.dcm; the first is normal/1\.dcm\)$"
    ):
        read_dataset(tmp_path)


def test_a_folder_that_cannot_be_listed_is_no_folder_of_nothing(
    tmp_path: Path, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("covid/1.png")
    picture("covid/closed/2.png")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"the folder can't be listed \(Permission denied\): .*closed$"):
        read_dataset(tmp_path)


ALIKE = [
    ("covid", "covid "),
    ("covid", " Covid"),
    ("Normal", "normal"),
    ("viral pneumonia", "viral  pneumonia"),
    ("viral pneumonia", "viralpneumonia"),
    ("viral pneumonia", "viral\N{NO-BREAK SPACE}pneumonia"),
    ("covid", "\N{ZERO WIDTH SPACE}covid"),
    ("é", "e\N{COMBINING ACUTE ACCENT}"),
    ("STRASSE", "straße"),
    ("covid", "\N{FULLWIDTH LATIN SMALL LETTER C}ovid"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_labels_that_look_alike_are_refused_in_manifests_and_folders(
    tmp_path: Path, picture: Callable[..., Path], one: str, other: str
) -> None:
    words = "labels differ only by case, space or Unicode form"
    by_manifest, by_folder = tmp_path / "manifest", tmp_path / "folders"
    by_manifest.mkdir()
    (by_manifest / "manifest.csv").write_text(f"file,label\n1.png,{one}\n2.png,{other}\n3.png,else\n", encoding="utf-8")
    with pytest.raises(DataError, match=words) as caught:
        read_dataset(by_manifest)
    assert repr(one) in str(caught.value)
    assert repr(other) in str(caught.value)
    for label in (one, other):
        picture(f"folders/{label}/1.png")
    if len(list(by_folder.iterdir())) == 2:  # some file systems take the two for one name
        with pytest.raises(DataError, match=words):
            read_dataset(by_folder)


def test_labels_that_differ_by_more_are_classes(tmp_path: Path) -> None:
    layout.check_labels(
        ["covid", "covid-19", "covid_19", "non covid", "1", "-1", "", os.fsdecode(b"caf\xe9")], tmp_path
    )


def test_of_several_folders_each_is_accounted_for_and_their_labels_are_one_list(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    for name in ("one/covid/1.png", "one/normal/1.png", "two/covid/1.png", "three/Covid/1.png"):
        picture(name)
    (tmp_path / "two" / "covid" / "2.dcm").touch()
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert read_datasets([one, two]).account == f"{one} + {two}: left out: 1 .dcm; the first is two/covid/2.dcm"
    with pytest.raises(DataError, match="labels differ only by case"):
        read_datasets([one, three])
