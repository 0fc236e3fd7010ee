"""What a run scores is listed once, in the order of `infer`, and cut into parts that don't move."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.cluster import listing
from edgecxr.cluster.store import Listed, Store, is_address, shown
from edgecxr.errors import PictureRejected, UsageError
from edgecxr.pictures import files


def tree(folder: Path) -> Path:
    """Names whose order differs by path and by folder, companions, a name that isn't UTF-8."""
    for name in ("b/1.png", "b.png", "b/a/2.png", "a", "b-c/3.png", "manifest.csv", "b/SHA256SUMS", "\udce9.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return folder


def test_local_files_are_those_of_infer_in_its_order(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    found = list(listing.find([str(folder)]))
    assert [item.path for item in found if item] == [str(path) for path in files.find([folder]).paths]
    assert found.count(None) == files.find([folder]).skipped == 2
    assert [item.path for item in listing.find([str(folder)], recursive=False) if item] == [
        str(path) for path in files.find([folder], recursive=False).paths
    ]


@pytest.mark.parametrize("recursive", [True, False])
def test_a_store_has_the_same_files_in_the_same_order(tmp_path: Path, recursive: bool) -> None:
    pytest.importorskip("pyarrow")
    folder = tree(tmp_path / "in")
    (folder / os.fsdecode(b"\xe9.png")).unlink()  # pyarrow's names are UTF-8
    found = list(listing.find([f"file://{folder}"], recursive=recursive))
    expected = files.find([folder], recursive=recursive)
    assert [item.path for item in found if item] == [f"file://{path}" for path in expected.paths]
    assert found.count(None) == expected.skipped
    for item, path in zip([item for item in found if item], expected.paths, strict=True):
        assert (item.bytes, item.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_a_file_of_a_store_is_read_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a b.png"
    path.write_bytes(b"before")
    store = Store(f"file://{tmp_path}".replace(" ", "%20"))
    (listed,) = (item for item in store.list() if item)
    assert store.read(listed) == files.Content(b"before", path.stat().st_mtime_ns)
    path.write_bytes(b"and after")  # another length than the listing's: its time is looked at again
    os.utime(path, ns=(1, 1_000_000_001))
    assert store.read(listed) == files.Content(b"and after", 1_000_000_001)
    rejected = []
    path.write_bytes(b"")
    rejected.append(store.read(listed))
    monkeypatch.setattr(files, "MAX_BYTES", 3)
    path.write_bytes(b"four")
    rejected.append(store.read(listed))
    path.unlink()
    rejected.append(store.read(listed))
    assert [item.code for item in rejected if isinstance(item, PictureRejected)] == ["empty", "too_large", "unreadable"]
    assert all("a b" not in item.message for item in rejected if isinstance(item, PictureRejected))


def test_reads_are_begun_ahead_and_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    for number in range(20):
        (tmp_path / f"{number:02}").write_bytes(str(number).encode())
    store = Store(f"file://{tmp_path}")
    begun: list[str] = []
    real = store.read
    monkeypatch.setattr(store, "read", lambda listed: begun.append(listed.path) or real(listed))
    readings = store.readings(item for item in store.list() if item)
    assert next(readings).content().data == b"0"
    assert [reading.content().data for reading in readings] == [str(n).encode() for n in range(1, 20)]
    assert len(begun) == 20


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/x", True),
        ("gs://b", True),
        ("file:///x", True),
        ("in/x.png", False),
        ("s3:/x", False),
        ("", False),
    ],
)
def test_an_address_is_told_from_a_path(text: str, address: bool) -> None:
    assert is_address(text) == address


def test_no_secret_of_an_address_is_shown() -> None:
    assert shown("s3://key:secret@bucket/a/b?endpoint_override=host&scheme=http") == "s3://bucket/a/b"


@pytest.mark.parametrize("address", ["nonsense://bucket/x", "file:///no/such/folder", "file://relative"])
def test_what_cannot_be_listed_is_one_sentence(address: str) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(UsageError) as raised:
        list(listing.find([address]))
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(address)


def test_parts_are_the_listing_cut_by_number(tmp_path: Path) -> None:
    inputs = [Listed(f"\udce9{number}.png", number, None) for number in range(10)]
    count, skipped, sha256 = listing.write(tmp_path, [None, *inputs, None, Listed("beyond")], limit=10)
    assert (count, skipped) == (10, 1)  # nothing behind the last one is looked at
    assert listing.count_parts(count, 4) == 3
    found = dict(listing.parts(tmp_path, 4, {0, 2}, sha256))
    assert {number: listing.inputs_of(lines) for number, lines in found.items()} == {0: inputs[:4], 2: inputs[8:]}
    assert [path.name for path in tmp_path.iterdir()] == [listing.NAME]


def test_the_same_inputs_are_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        listing.write(folder, [Listed("x", 1, 2)])
    a, b = ((folder / listing.NAME).read_bytes() for folder in folders)
    assert a == b


def test_a_listing_that_was_changed_is_refused(tmp_path: Path) -> None:
    _, _, sha256 = listing.write(tmp_path, [Listed("x")])
    listing.write(tmp_path, [Listed("y")])
    with pytest.raises(UsageError, match="was changed"):
        list(listing.parts(tmp_path, 4, {0}, sha256))
    data = (tmp_path / listing.NAME).read_bytes()
    (tmp_path / listing.NAME).write_bytes(data[:-9])
    with pytest.raises(UsageError, match="can't be read"):
        list(listing.parts(tmp_path, 4, {0}, sha256))


def test_nothing_to_score_is_told(tmp_path: Path, picture: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="no files"):
        listing.write(tmp_path, [None])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="no such file or folder"):
        list(listing.find([str(tmp_path / "absent")]))


@pytest.mark.parametrize(
    ("inputs", "workers", "size"),
    [(1, 2, 16), (600, 2, 19), (10_000, 2, 256), (10_000, 64, 16), (1_000_000, 2, 977), (10_000_000, 2000, 313)],
)
def test_parts_are_small_and_not_too_many(inputs: int, workers: int, size: int) -> None:
    # 600 / (16 * 2) = 18.75; 1,000,000 / 1,024 = 976.6; 10,000,000 / (16 * 2,000) = 312.5
    assert listing.part_size(inputs, workers) == size
    assert listing.count_parts(inputs, size) <= max(listing.MAX_PARTS, listing.PARTS_A_WORKER * workers)
