"""The contact sheet: which pictures it draws, where they stand, and what it does with those it can't read."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import noisy
from edgecxr.errors import DataError, UnavailableError
from edgecxr.lab.data import sheet as sheets
from edgecxr.lab.data.sheet import CAPTION, CELL, DPI, GAP, HEADING, MARGIN, TITLE
from edgecxr.lab.dataset import read_dataset
from edgecxr.pictures.decode import network_input
from edgecxr.pictures.preprocess import Contract

pytest.importorskip("matplotlib")

Run = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[..., Path]


@pytest.fixture
def data(picture: Write, tmp_path: Path) -> Path:
    """Two classes of 6 and 3 pictures, with a letter that divides the first in two."""
    rows = ["file,label,view"]
    for i in range(6):
        picture(f"data/normal/n{i}.png", seed=i)
        rows.append(f"normal/n{i}.png,normal,{'ap' if i % 2 else 'pa'}")
    for i in range(3):
        picture(f"data/covid/c{i}.png", seed=10 + i)
        rows.append(f"covid/c{i}.png,covid,ap")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "data"


def files(sheet: sheets.Sheet) -> dict[str, list[str]]:
    return {label: [shown.file for shown in row] for label, row in sheet.rows.items()}


def test_a_seed_decides_which_pictures_are_drawn(data: Path) -> None:
    dataset = read_dataset(data)
    first = files(sheets.draw(dataset, 4, 0))
    assert {label: len(set(row)) for label, row in first.items()} == {"covid": 3, "normal": 4}
    assert all(file.startswith(f"{label}/") for label, row in first.items() for file in row)
    assert files(sheets.draw(dataset, 4, 0)) == first
    assert any(files(sheets.draw(dataset, 4, seed)) != first for seed in range(1, 4))


def test_a_classs_pictures_do_not_depend_on_the_other_classes(data: Path) -> None:
    dataset = read_dataset(data)
    alone = sheets.draw(dataset.where({"label": "normal"}), 4, 0)
    assert files(alone)["normal"] == files(sheets.draw(dataset, 4, 0))["normal"]


def test_a_picture_that_cannot_be_read_gives_its_place_to_another(data: Path) -> None:
    for i in (0, 1, 2, 3):
        (data / "normal" / f"n{i}.png").write_bytes(b"not a picture")
    sheet = sheets.draw(read_dataset(data), 5, 0)
    assert sorted(files(sheet)["normal"]) == ["normal/n4.png", "normal/n5.png"]
    assert sorted(file for file, _ in sheet.unreadable) == [f"normal/n{i}.png" for i in range(4)]
    assert all("not a picture, it is text" in reason for _, reason in sheet.unreadable)
    assert sheet.counts == {"covid": 3, "normal": 6}


def test_a_class_without_a_readable_picture_keeps_its_heading(data: Path) -> None:
    for path in (data / "covid").iterdir():
        path.write_bytes(b"not a picture")
    sheet = sheets.draw(read_dataset(data), 5, 0)
    assert sheet.rows["covid"] == ()
    with Image.open(io.BytesIO(sheets.render(sheet, "data"))) as page:
        heading = place(page, 0, 0, above=HEADING)
    assert heading.min() < 100


def test_a_sheet_of_nothing_is_refused(data: Path) -> None:
    for path in data.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no picture can be read, of 9"):
        sheets.draw(read_dataset(data), 5, 0)


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,class {i}\n" for i in range(31))
    (tmp_path / "manifest.csv").write_text(f"file,label\n{rows}")
    with pytest.raises(DataError, match="room for 30 classes, the data has 31"):
        sheets.draw(read_dataset(tmp_path), 5, 0)


def place(page: Image.Image, row: int, column: int, above: float = 0.0) -> np.ndarray:
    """The pixels of one cell (or of the heading above it) of a rendered sheet, less a rim of two for rounding."""
    left = MARGIN + column * (CELL + GAP)
    top = MARGIN + TITLE + row * (HEADING + CELL + CAPTION) + HEADING
    box = (left, top - above, left + CELL, top if above else top + CELL)
    left, top, right, bottom = (round(inches * DPI) for inches in box)
    return np.asarray(page.convert("L"))[top + 2 : bottom - 2, left + 2 : right - 2]


def test_pictures_stand_in_the_rows_of_their_labels(data: Path) -> None:
    sheet = sheets.draw(read_dataset(data), 4, 0)
    with Image.open(io.BytesIO(sheets.render(sheet, "data"))) as page:
        width, height = 2 * MARGIN + 4 * CELL + 3 * GAP, 2 * MARGIN + TITLE + 2 * (HEADING + CELL + CAPTION)
        assert page.size == pytest.approx((width * DPI, height * DPI), abs=1)
        for row, label in enumerate(("covid", "normal")):
            for column, shown in enumerate(sheet.rows[label]):
                drawn = place(page, row, column).astype(float)
                # A picture of 96 x 80 keeps its shape: grey above and below it.
                assert drawn[:10].std() < 1
                height = drawn.shape[0]
                film = drawn[round(height * 0.1) : round(height * 0.9)]
                expected = Image.fromarray(shown.pixels).resize(film.shape[::-1], Image.Resampling.NEAREST)
                assert np.corrcoef(film.ravel(), np.asarray(expected, float).ravel())[0, 1] > 0.5
        assert place(page, 0, 3).min() == 255  # covid has three


@pytest.mark.parametrize(
    "size", [(3000, 2000), (64, 6400), (100, 64)], ids=["landscape film", "strip", "smaller than its place"]
)
def test_a_picture_keeps_its_shape_within_its_place(picture: Write, tmp_path: Path, size: tuple[int, int]) -> None:
    picture("data/normal/a.png", size)
    ((shown,),) = sheets.draw(read_dataset(tmp_path / "data"), 1, 0).rows.values()
    height, width = shown.pixels.shape
    limit = round(CELL * DPI)
    assert max(height, width) == min(max(size), limit)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.2)


def test_twelve_bits_are_not_drawn_black(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    Image.fromarray(noisy((96, 80)).astype(np.uint16) * 16).save(tmp_path / "normal" / "a.png")
    ((shown,),) = sheets.draw(read_dataset(tmp_path), 1, 0).rows.values()
    assert shown.pixels.mean() == pytest.approx(noisy((96, 80)).mean(), abs=2)


def test_the_network_input_is_the_runtimes(data: Path) -> None:
    contract = Contract(source_size=64)
    sheet = sheets.draw(read_dataset(data), 2, 0, contract)
    for row in sheet.rows.values():
        for shown in row:
            assert (shown.pixels == network_input(data / shown.file, contract)).all()


def test_names_that_would_break_the_page_are_drawn(picture: Write, tmp_path: Path) -> None:
    names = ["$x^2", "$\\frac{$", "影像", "a\nb", "n" * 200, "\udcff"]
    for i, name in enumerate(names):
        picture(f"data/{name}/{name}.png", seed=i)
    sheet = sheets.draw(read_dataset(tmp_path / "data"), 1, 0)
    assert set(sheet.rows) == set(names)
    assert sheets.render(sheet, "$").startswith(b"\x89PNG")


def test_what_is_too_long_gives_way_in_the_middle() -> None:
    assert sheets.shortened("abcdefghij", 10) == "abcdefghij"
    assert sheets.shortened("abcdefghij", 6) == "abc…ij"
    assert sheets.shortened("a\n\udcff", 20) == "a\\n\\udcff"


def test_without_matplotlib_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnavailableError, match=r"pip install 'edgecxr\[eval\]'"):
        sheets.matplotlib_figure()


def test_the_command_writes_a_sheet_and_mentions_what_it_passed_over(data: Path, tmp_path: Path, edgecxr: Run) -> None:
    (data / "normal" / "n1.png").write_bytes(b"")
    output = tmp_path / "sheet.png"
    result = edgecxr("data", "show", data, "-o", output, "--where", "view=ap")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"5 of 6 pictures on {output}\n"
    assert result.stderr == "passed over: normal/n1.png: the file is empty\n"
    before = output.read_bytes()
    assert before.startswith(b"\x89PNG")
    again = edgecxr("data", "show", data, "-o", output)
    assert again.returncode == 2
    assert again.stderr.startswith("edgecxr: the output exists")
    assert output.read_bytes() == before
    shown = edgecxr("data", "show", data, "-o", output, "--overwrite", "--per-class", 2, "--network-input")
    assert shown.stdout == f"4 of 9 pictures on {output}\n", shown.stderr
    assert output.read_bytes() != before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "sheet.png"]


def test_the_command_says_what_it_leaves_out(picture: Write, tmp_path: Path, edgecxr: Run) -> None:
    for name in ("in/covid/1.png", "in/covid/masks/1.png", "in/normal/2.png"):
        picture(name)
    (tmp_path / "in" / "normal" / "\x1b[2J.dcm").touch()
    result = edgecxr("data", "show", tmp_path / "in", "-o", tmp_path / "sheet.png")
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"{tmp_path / 'in'}: left out: 1 .dcm, 1 masks; the first is covid/masks/1.png\n"


def test_a_place_that_cannot_be_written_is_one_sentence(data: Path, tmp_path: Path, edgecxr: Run) -> None:
    for output, words in ((tmp_path / "sheet.jpg", "ends in .png"), (tmp_path / "no" / "sheet.png", "no such folder")):
        result = edgecxr("data", "show", data, "-o", output)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert words in line


def test_a_real_sheet_shows_every_class(real_data: Path) -> None:
    sheet = sheets.draw(read_dataset(real_data / "fullres"), 2, 0)
    assert {label: len(row) for label, row in sheet.rows.items()} == {"covid": 2, "normal": 2, "viral_pneumonia": 2}
    assert not sheet.unreadable
    assert sheets.render(sheet, "fullres").startswith(b"\x89PNG")
