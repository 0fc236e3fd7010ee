"""A manifest from any program: read where there is one reading, else one sentence that says what to change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.errors import DataError
from edgecxr.lab.dataset import read_dataset
from edgecxr.lab.manifest import read_rows

TABLE = "file,label,note\ncovid/1.png,covid,\nnormal/2.png,normal,\n"


def rows(folder: Path, data: bytes) -> list[dict[str, str]]:
    (folder / "manifest.csv").write_bytes(data)
    return [row for _, row in read_rows(folder / "manifest.csv")]


EXPECTED = [
    {"file": "covid/1.png", "label": "covid", "note": ""},
    {"file": "normal/2.png", "label": "normal", "note": ""},
]


@pytest.mark.parametrize(
    "data",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),  # with its mark
        b"\xfe\xff" + TABLE.encode("utf-16-be"),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("\n", "\r").encode(),
        TABLE.replace(",", ";").encode(),
        TABLE.replace(",", "\t").encode(),
        TABLE.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),  # Excel's "Unicode text"
        ("sep=;\r\n" + TABLE.replace(",", ";")).encode("utf-8-sig"),
        TABLE.replace("file,label,note", "File, Label ,note").encode(),
        TABLE.replace("file,label,note", '"file","label","note"').encode(),
        TABLE.replace("note", "note,,").replace("covid,\n", "covid,,,\n").encode(),  # a wider used range
        (TABLE + "\n,,\n ,,\n\n").encode(),  # rows that were emptied
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, data: bytes) -> None:
    assert rows(tmp_path, data) == EXPECTED


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("file,label\n1.png,é\n".encode("cp1252"), "isn't UTF-8 from line 2 on, save it as CSV UTF-8"),
        ("file,label\n1.png,肺炎\n".encode("gb18030"), "isn't UTF-8 from line 2 on, save it as CSV UTF-8"),
        (b"\xef\xbb\xbffile,label\n1.png,\xe9\n", "isn't UTF-8 from line 2 on, save it as CSV UTF-8"),
        (TABLE.encode("utf-16-le"), "holds NULs, as UTF-16 without its mark does, save it as CSV UTF-8"),
        (TABLE.encode("utf-16")[:-1], "isn't UTF-16 throughout, as it says, save it as CSV UTF-8"),
        (b"file,label,Label\n1.png,a,b\n", "names a column twice, 'label'"),
        (b"file|label\n1.png|a\n", r"needs the columns file and label, it has file\|label"),
        (b"file,label\n1.png,a\n2.png,a,b\n", "line 3 doesn't have as many fields as the header"),
        (b'file,label\n1.png,"a\n2.png,b\n3.png,b\n', "can't be read at line 4"),  # and not a class of three lines
        (b"file,label\n1.png, \n", "line 2 needs a file and a label"),
        (b"sep=;\nfile;label\n;a\n", "line 3 needs a file and a label"),
        (rb"file,label" b"\n" rb"..\1.png,a" b"\n", "outside the folder"),
        (rb"file,label" b"\n" rb"C:\films\1.png,a" b"\n", "outside the folder"),
        (rb"file,label" b"\n" rb"\\server\films\1.png,a" b"\n", "outside the folder"),
        (b"file,label\na/1.png,a\na\\1.png,b\n", "names a file a second time: a/1.png"),
    ],
)
def test_what_has_no_one_reading_is_a_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "manifest.csv").write_bytes(data)
    with pytest.raises(DataError, match=words) as caught:
        read_dataset(tmp_path)
    assert "manifest" in str(caught.value)


def test_backslashes_are_windows_unless_a_name_has_them(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture("covid/1.png")
    picture("odd\\2.png")
    (tmp_path / "manifest.csv").write_text("file,label\ncovid\\1.png,covid\nodd\\2.png,odd\n")
    data = read_dataset(tmp_path)
    assert [example.file for example in data.examples] == ["covid/1.png", "odd\\2.png"]
    assert all(example.path.is_file() for example in data.examples)
    assert data.left_out == ()


def test_pictures_that_the_manifest_lacks_are_named(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name in ("a/1.png", "a/2.png", "3.JPG", "a/._1.png", ".cache/4.png", "masks/1.png"):
        picture(name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "manifest.csv").write_text("file,label\n./a/1.png,covid\n")
    account = read_dataset(tmp_path).account
    assert account == f"{tmp_path}: left out: 2 pictures that manifest.csv doesn't list; the first is 3.JPG"
