"""SHA256SUMS beside pictures: what coreutils writes is understood, and what differs from it is never scored."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.errors import PictureRejected
from edgecxr.pictures import checksums

Picture = Callable[..., Path]


def sums(folder: Path, *options: str) -> None:
    """What sha256sum itself writes for every file under `folder`."""
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    done = subprocess.run(["sha256sum", *options, "--", *names], cwd=folder, capture_output=True, check=True)
    (folder / "SHA256SUMS").write_bytes(done.stdout)


def verdict(path: Path) -> str:
    try:
        checksums.check(path, hashlib.sha256(path.read_bytes()).hexdigest())
    except PictureRejected as rejected:
        return rejected.code
    return "right"


@pytest.mark.parametrize("options", [[], ["--binary"], ["--tag"]])
def test_what_sha256sum_writes_is_understood(tmp_path: Path, picture: Picture, options: list[str]) -> None:
    names = ["a.png", "with space.png", "new\nline.png", "back\\slash.png", os.fsdecode(b"latin\xe9.png"), "sub/b.png"]
    paths = [picture(f"in/{name}", seed=number) for number, name in enumerate(names)]
    sums(tmp_path / "in", *options)
    assert [verdict(path) for path in paths] == ["right"] * len(paths)
    for path in paths:
        path.write_bytes(path.read_bytes() + b"x")
    assert [verdict(path) for path in paths] == ["checksum_mismatch"] * len(paths)


def test_a_flipped_bit_that_a_jpeg_decoder_does_not_notice_is_found(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], tiny_bundle: Path, tmp_path: Path, picture: Picture
) -> None:
    paths = [picture(f"in/{number}.jpg", size=(300, 260), seed=number, quality=90) for number in range(3)]
    sums(tmp_path / "in")
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 2] ^= 1
    paths[1].write_bytes(data)
    unlisted = picture("in/new.jpg", size=(300, 260))
    run = edgecxr("infer", tmp_path / "in", "-m", tiny_bundle, "-o", tmp_path / "o.jsonl")
    assert run.returncode == 1, run.stderr
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(r["error"] or {"code": r["status"]})["code"] for r in rows] == [
        "scored", "checksum_mismatch", "scored", "scored",
    ]  # fmt: skip
    assert rows[1]["sha256"] == hashlib.sha256(data).hexdigest()  # of what was read
    assert rows[1]["label"] is None
    assert Path(rows[3]["path"]) == unlisted
    (tmp_path / "in" / "SHA256SUMS").unlink()  # and without it the damage passes, as JPEGs do
    run = edgecxr("infer", paths[1], "-m", tiny_bundle, "-o", tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text())["status"] == "scored"


@pytest.mark.parametrize(
    "content",
    [b"not a hash\n", b"0" * 63 + b"  a.png\n", b"0" * 64 + b"  a.png\n" + b"1" * 64 + b"  a.png\n", b"\xff\xfe\0"],
)
def test_one_that_is_not_understood_rejects_what_it_stands_beside(
    tmp_path: Path, picture: Picture, content: bytes
) -> None:
    path = picture("in/a.png")
    (tmp_path / "in" / "SHA256SUMS").write_bytes(content)
    assert verdict(path) == "checksums_unusable"


def test_an_empty_one_a_comment_and_other_files_change_nothing(tmp_path: Path, picture: Picture) -> None:
    path = picture("in/a.png")
    for content in (b"", b"# made by hand\r\n\r\n" + b"0" * 64 + b"  other.png\r\n"):
        (tmp_path / "in" / "SHA256SUMS").write_bytes(content)
        assert verdict(path) == "right"


def test_a_changed_one_is_read_again(tmp_path: Path, picture: Picture) -> None:
    path = picture("in/a.png")
    sums(tmp_path / "in")
    assert verdict(path) == "right"
    (tmp_path / "in" / "SHA256SUMS").write_text("0" * 64 + "  ./a.png\n")
    assert verdict(path) == "checksum_mismatch"


def test_a_link_is_checked_under_its_own_name(tmp_path: Path, picture: Picture) -> None:
    target = picture("there/a.png")
    link = tmp_path / "in" / "b.png"
    link.parent.mkdir()
    link.symlink_to(target)
    (link.parent / "SHA256SUMS").write_text("0" * 64 + "  b.png\n")
    assert verdict(link) == "checksum_mismatch"
    assert verdict(target) == "right"
