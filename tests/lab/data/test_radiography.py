"""The importer of the Radiography Database: every release's layout, all pictures or none, nothing overwritten."""

import errno
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from radiography_trees import contents, first_release, fourth_release, write
from typer.testing import CliRunner

from edgecxr.cli import data as cli_data
from edgecxr.errors import DataError, UsageError
from edgecxr.lab.data import radiography
from edgecxr.lab.data.radiography import import_radiography
from edgecxr.lab.dataset import read_dataset

Run = Callable[..., subprocess.CompletedProcess[str]]

FIRST_IMPORTED = {
    "covid/COVID-19 (1).png": "content of COVID-19/COVID-19 (1).png",
    "covid/COVID-19 (12).png": "content of COVID-19/COVID-19 (12).png",
    "covid/COVID-19(3).png": "content of COVID-19/COVID-19(3).png",
    "normal/NORMAL (1).png": "content of NORMAL/NORMAL (1).png",
    "normal/NORMAL (2).png": "content of NORMAL/NORMAL (2).png",
    "viral_pneumonia/Viral Pneumonia (1).png": "content of Viral Pneumonia/Viral Pneumonia (1).png",
}
FOURTH_IMPORTED = {  # "images" and never "masks"
    "covid/COVID-1.png": "content of images/COVID-1.png",
    "covid/COVID-10.png": "content of images/COVID-10.png",
    "covid/COVID-2.png": "content of images/COVID-2.png",
    "normal/Normal-1.png": "content of images/Normal-1.png",
    "normal/Normal-2.png": "content of images/Normal-2.png",
    "viral_pneumonia/Viral Pneumonia-1.png": "content of images/Viral Pneumonia-1.png",
}


def test_the_first_release_becomes_label_folders(tmp_path: Path) -> None:
    root = first_release(tmp_path / "in")
    before = contents(root)
    result = import_radiography(root, tmp_path / "out")
    assert contents(tmp_path / "out") == FIRST_IMPORTED
    assert result.counts == {"covid": 3, "normal": 2, "viral_pneumonia": 1}
    assert (result.masks, result.sheets, result.dropped, result.links) == (0, 4, 0, 0)
    assert contents(root) == before
    assert read_dataset(tmp_path / "out").labels == ("covid", "normal", "viral_pneumonia")


def test_the_fourth_release_loses_masks_sheets_and_the_extra_class(tmp_path: Path) -> None:
    root = fourth_release(tmp_path / "in")
    result = import_radiography(root, tmp_path / "out")
    assert contents(tmp_path / "out") == FOURTH_IMPORTED
    assert (result.masks, result.sheets, result.dropped) == (8, 5, 2)


def test_the_extra_class_is_kept_on_demand(tmp_path: Path) -> None:
    result = import_radiography(fourth_release(tmp_path / "in"), tmp_path / "out", lung_opacity=True)
    assert contents(tmp_path / "out") == FOURTH_IMPORTED | {
        "lung_opacity/Lung_Opacity-1.png": "content of images/Lung_Opacity-1.png",
        "lung_opacity/Lung_Opacity-2.png": "content of images/Lung_Opacity-2.png",
    }
    assert (result.counts["lung_opacity"], result.dropped) == (2, 0)


def test_a_release_between_them_is_flat_under_the_later_names(tmp_path: Path) -> None:
    for file in ("COVID/COVID (1).png", "NORMAL/NORMAL (1).png", "Viral Pneumonia/Viral Pneumonia (1).png"):
        write(tmp_path / "in" / file)
    import_radiography(tmp_path / "in", tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == [
        "covid/COVID (1).png",
        "normal/NORMAL (1).png",
        "viral_pneumonia/Viral Pneumonia (1).png",
    ]


@pytest.mark.parametrize("between", ["", "versions", "versions/5"])
def test_the_class_folders_are_found_below_the_folder_that_is_named(tmp_path: Path, between: str) -> None:
    fourth_release(tmp_path / "in" / between)
    if between == "versions/5":  # too deep
        with pytest.raises(DataError, match="found the folders versions and 0 files"):
            import_radiography(tmp_path / "in", tmp_path / "out")
    else:
        assert sum(import_radiography(tmp_path / "in", tmp_path / "out").counts.values()) == 6


def test_what_unpackers_leave_behind_is_no_picture(tmp_path: Path) -> None:
    root = first_release(tmp_path / "in")
    write(root / "__MACOSX" / "COVID-19" / "._COVID-19 (1).png")
    write(root / "COVID-19" / "._COVID-19 (1).png")
    write(root / ".complete" / "bundle.complete")
    import_radiography(root, tmp_path / "out")
    assert contents(tmp_path / "out") == FIRST_IMPORTED


def test_no_link_is_followed(tmp_path: Path) -> None:
    root = first_release(tmp_path / "in")
    secret = write(tmp_path / "secret.png", "not of this tree")
    (root / "NORMAL" / "NORMAL (3).png").symlink_to(secret)
    (root / "NORMAL" / "images").symlink_to(tmp_path)
    (root / "Lung_Opacity").symlink_to(tmp_path)
    result = import_radiography(root, tmp_path / "out", lung_opacity=True)
    assert contents(tmp_path / "out") == FIRST_IMPORTED
    assert result.links == 3


def test_pictures_are_hard_links_or_copies_as_asked(tmp_path: Path) -> None:
    root = first_release(tmp_path / "in")
    original = root / "NORMAL" / "NORMAL (1).png"
    assert import_radiography(root, tmp_path / "linked").hard_links == 6
    assert (tmp_path / "linked" / "normal" / original.name).samefile(original)
    assert import_radiography(root, tmp_path / "copied", copy=True).hard_links == 0
    assert not (tmp_path / "copied" / "normal" / original.name).samefile(original)
    assert contents(tmp_path / "copied") == FIRST_IMPORTED


def test_pictures_are_copied_where_links_cannot_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", elsewhere)
    assert import_radiography(first_release(tmp_path / "in"), tmp_path / "out").hard_links == 0
    assert contents(tmp_path / "out") == FIRST_IMPORTED


def break_layout(root: Path, how: str) -> None:
    if how == "a class is missing":
        shutil.rmtree(root / "COVID-19")
    elif how == "a folder it doesn't know":
        write(root / "Tuberculosis" / "a.png")
    elif how == "a folder within a class":
        write(root / "NORMAL" / "adults" / "a.png")
    elif how == "a folder within images":
        for picture in (root / "NORMAL").glob("*.png"):
            picture.unlink()
        write(root / "NORMAL" / "images" / "adults" / "a.png")
    elif how == "an empty class":
        for picture in (root / "NORMAL").glob("*.png"):
            picture.unlink()
    elif how == "a class in two spellings":
        write(root / "COVID" / "a.png")
    elif how == "pictures beside images":
        write(root / "NORMAL" / "images" / "a.png")
    elif how == "two releases":
        first_release(root)
        fourth_release(root)
        shutil.rmtree(root / "NORMAL")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("a class is missing", r"expected the folders COVID or COVID-19, .* found the folders NORMAL, Viral Pneumonia"),
        ("a folder it doesn't know", r"no folder of this name: .*Tuberculosis$"),
        ("a folder within a class", r"a class holds images and masks: .*adults$"),
        ("a folder within images", r"a class holds images and masks: .*adults$"),
        ("an empty class", r"holds no picture: .*NORMAL$"),
        ("a class in two spellings", r"two folders hold the class covid, the second is .*COVID-19$"),
        ("pictures beside images", r"both beside and within the folder images: .*NORMAL$"),
        ("two releases", r"more than one folder .* name one: .*Database and .*Dataset$"),
    ],
)
def test_an_unknown_layout_is_one_sentence_and_nothing_is_written(tmp_path: Path, how: str, words: str) -> None:
    root = first_release(tmp_path / "in")
    break_layout(root, how)
    with pytest.raises(DataError, match=words):
        import_radiography(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_second_release_at_another_depth_is_not_passed_over(tmp_path: Path) -> None:
    first_release(tmp_path / "in")
    first_release(tmp_path / "in" / "archive")
    with pytest.raises(DataError, match="more than one folder holds the Radiography Database's classes, name one"):
        import_radiography(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_output_is_absent_or_empty_and_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = first_release(tmp_path / "in")
    mine = write(tmp_path / "full" / "mine.txt")
    with pytest.raises(UsageError, match="absent or empty"):
        import_radiography(root, mine.parent)
    with pytest.raises(UsageError, match="absent or empty"):
        import_radiography(root, mine)
    with pytest.raises(UsageError, match="within the folder that is imported"):
        import_radiography(tmp_path / "in", root / "out")
    assert contents(mine.parent) == {"mine.txt": "content of full/mine.txt"}
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(UsageError, match="current folder"):
        import_radiography(root, Path())
    monkeypatch.chdir(tmp_path)
    import_radiography(root, empty)
    assert contents(empty) == FIRST_IMPORTED


def test_an_import_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    root = first_release(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        import_radiography(root, tmp_path / "out", advance=interrupt)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert len(contents(root)) == 10  # 6 pictures, 4 sheets: clearing links away doesn't touch what they link to


def test_a_signal_ends_the_command_with_the_shells_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = radiography._place

    def place_and_be_told_to_stop(*arguments: object) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return place(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(radiography, "_place", place_and_be_told_to_stop)
    root = first_release(tmp_path / "in")
    result = CliRunner().invoke(cli_data.app, ["import", str(root), "-o", str(tmp_path / "out")])
    assert result.exit_code == 128 + signal.SIGTERM
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_a_disk_that_fills_is_one_sentence_and_leaves_nothing(tmp_path: Path, edgecxr: Run) -> None:
    root = first_release(tmp_path / "in")
    write(root / "NORMAL" / "NORMAL (2).png", "x" * 100_000)
    result = edgecxr(
        *("data", "import", root, "-o", tmp_path / "out", "--copy"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("edgecxr: the import stopped after 4 of 6 pictures, nothing is left of it (File too large)")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_a_folder_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't be read \(No such file or directory\): .*absent$"):
        import_radiography(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(UsageError, match=r"can't be read \(Not a directory\)"):
        import_radiography(write(tmp_path / "file.zip"), tmp_path / "out")


def test_the_command_counts_and_names_the_next_ones(tmp_path: Path, edgecxr: Run) -> None:
    root = fourth_release(tmp_path / "in")
    (root / "Normal" / "images" / "linked.png").symlink_to(root / "README.md.txt")
    result = edgecxr("data", "import", root, "-o", tmp_path / "my data")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"6 pictures in {tmp_path / 'my data'} (hard links)",
        "  covid 3",
        "  normal 2",
        "  viral_pneumonia 1",
        "left aside: 2 pictures of lung_opacity (--lung-opacity keeps them), 8 masks, 5 sheets and notes, "
        "1 links, which are not followed",
    ]
    assert result.stderr.split("\n") == [
        f"next: edgecxr audit '{tmp_path / 'my data'}'",
        f"      edgecxr data show '{tmp_path / 'my data'}' -o sheet.png",
        "",
    ]
