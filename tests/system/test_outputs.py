"""Reports are checked before the work and written whole or not at all, whichever command writes them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgecxr.errors import StorageError, UsageError
from edgecxr.system import storage


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    old, new = tmp_path / "a.json", tmp_path / "made" / "b.png"
    old.write_text("mine")
    storage.write_reports([(old, storage.json_text({"a": 1})), (new, b"\x89PNG\r\n")])
    assert old.read_bytes() == b'{\n  "a": 1\n}\n'
    assert new.read_bytes() == b"\x89PNG\r\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "b.png", "made"]


def test_on_a_full_disk_the_old_file_stays_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("mine")
    monkeypatch.setattr(storage, "_sync", full_disk)
    with pytest.raises(StorageError, match=r"No space left on device\): .*a\.json; .*: .*b\.html"):
        storage.write_reports([(tmp_path / name, "x") for name in ("a.json", "b.html")])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "mine")]


def test_a_file_that_has_a_scratch_files_name_is_left_alone(tmp_path: Path) -> None:
    for ending in (".tmp", ".partial", ".part"):
        (tmp_path / f"a.json{ending}").write_text("mine")
    storage.write_reports([(tmp_path / "a.json", "x")])
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.json": "x", "a.json.tmp": "mine", "a.json.partial": "mine", "a.json.part": "mine"}


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_replaced_file_keeps_its_mode_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.write_text("")
    for mode in (0o600, 0o664):
        (tmp_path / "a.json").write_text("mine")
        (tmp_path / "a.json").chmod(mode)
        storage.write_reports([(tmp_path / name, "x") for name in ("a.json", "b.html")])
        assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode
        assert (tmp_path / "b.html").stat().st_mode == usual.stat().st_mode


def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for overwrite in (True, False):
        place.mkdir(exist_ok=True)
        (place / "old").touch()
        with pytest.raises(ZeroDivisionError), storage.replacing_folder(place, overwrite=overwrite) as folder:
            raise ZeroDivisionError
        assert [path.name for path in tmp_path.rglob("*")] == ["place", "old"]
    with pytest.raises(OSError, match="not empty"), storage.replacing_folder(place, overwrite=False):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "old"]
    with storage.replacing_folder(place, overwrite=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "new"]


def test_one_file_that_cant_be_written_keeps_none_of_the_others_back(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(UsageError, match=r"a\.json"):
        storage.write_reports([(tmp_path / name, name) for name in ("a.json", "b.html")])
    assert (tmp_path / "b.html").read_text() == "b.html"


def test_what_utf_8_does_not_have_is_written_as_on_a_terminal(tmp_path: Path) -> None:
    name = b"latin\xe9.png".decode("utf-8", "surrogateescape")
    storage.write_reports(
        [(tmp_path / "a.html", f"<p>é {name}</p>\r\n"), (tmp_path / "a.json", storage.json_text(name))]
    )
    assert (tmp_path / "a.html").read_bytes() == "<p>é latin\\udce9.png</p>\r\n".encode()
    assert (tmp_path / "a.json").read_bytes() == b'"latin\\udce9.png"\n'


@pytest.mark.parametrize("again", ["a.html", "./a.html", "sub/../a.html", "link.html"])
def test_one_file_given_twice_is_refused(tmp_path: Path, again: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.html").symlink_to("a.html")
    with pytest.raises(UsageError, match="a name of its own"):
        storage.check_reports([tmp_path / "a.html", Path(f"{tmp_path}/{again}")], (".html",), overwrite=True)
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize("length", [300, 252])  # too long a name, and one that is with its ending .tmp
@pytest.mark.skipif(os.name != "posix", reason="names of 255 bytes")
def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path, length: int) -> None:
    path = tmp_path / f"{'x' * (length - 5)}.html"
    with pytest.raises(UsageError, match=r"the output can't be written \(File name too long\)"):
        storage.check_reports([path], (".html",), overwrite=False)


def test_a_full_disk_is_noticed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full_disk())
    with pytest.raises(StorageError, match="the output can't be written"):
        storage.check_reports([tmp_path / "a.html"], (".html",), overwrite=False)
