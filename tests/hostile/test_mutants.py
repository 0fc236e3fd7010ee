"""A thousand mutants and the bombs, with ten good pictures among them: nothing lost, nothing let in."""

import json
import logging
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import noisy
from edgecxr.errors import PictureRejected
from edgecxr.pictures import decode as images
from edgecxr.pictures.preprocess import Contract
from hostile import measure, pictures

MEMORY_MB = 64  # the bound on growth over a clean run

# What a mutant may become, beside `scored`. Not decoder_failed: then DECODER_ERRORS lacks an exception of Pillow's.
CODES = {
    "not_an_image", "corrupt", "too_small", "too_large", "implausible", "too_many_parts", "blank",
    "unsupported_samples", "unsupported_format", "several_frames",
}  # fmt: skip


def records(path: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "time_utc"} for row in rows]


def write_good(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{100 * number:05}-good.{kind}" for number, kind in enumerate(["png", "jpg"] * 5)]
    for number, path in enumerate(paths):
        Image.fromarray(noisy((300, 260), number)).save(path)
    return paths


@pytest.mark.parametrize("options", [[], pytest.param(["-j", 4, "-b", 7], marks=pytest.mark.long)])
def test_a_thousand_mutants_and_bombs_change_nothing_for_ten_good_pictures(
    tmp_path: Path, tiny_bundle: Path, options: list[object]
) -> None:
    folder = tmp_path / "in"
    good = write_good(folder)
    clean = measure.edgecxr(tmp_path, "infer", folder, "-m", tiny_bundle, "-o", tmp_path / "clean.jsonl", *options)
    assert clean.code == 0, clean.stderr
    for name, data in [*pictures.mutants(1000), *pictures.bombs().items()]:
        (folder / name).write_bytes(data)
    files = sorted(path.name for path in folder.iterdir())
    assert len(files) == 1000 + len(pictures.bombs()) + 10

    run = measure.edgecxr(tmp_path, "infer", folder, "-m", tiny_bundle, "-o", tmp_path / "all.jsonl", *options)
    assert run.code == 1, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert len(run.stderr.splitlines()) <= 3 + 10 + 1  # three of summary, ten rejections, and how many more
    rows = records(tmp_path / "all.jsonl")
    assert [Path(str(row["path"])).name for row in rows] == files
    by_name = {Path(str(row["path"])): row for row in rows}
    assert [by_name[path] for path in good] == records(tmp_path / "clean.jsonl")
    codes = Counter(row["error"]["code"] for row in rows if row["error"])  # type: ignore[index]
    assert set(codes) <= CODES, codes
    assert {by_name[folder / name]["error"]["code"] for name in pictures.bombs()} == {"too_large"}  # type: ignore[index]
    growth = run.peak_mb - clean.peak_mb
    print(f"{len(rows)} records in {run.seconds:.1f} s, {growth:.1f} MB above the clean run; {dict(codes)}")
    assert growth < MEMORY_MB


def test_an_exception_that_no_decoder_is_known_to_raise_is_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    class NovelError(Exception):
        pass

    def fail(*arguments: object, **options: object) -> None:
        raise NovelError("CANARY")

    data = pictures.seeds()["grey.png"]
    for owner, name in ((images.Image, "open"), (images.ImageOps, "exif_transpose")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(PictureRejected) as caught:
                images.decode(data, Contract())
        assert caught.value.code == "decoder_failed"
        assert "NovelError" in caught.value.message
        assert "CANARY" not in caught.value.message


# Seen from Pillow's decoders on hostile files, by its own tests and this project's: a list apart from the program's.
KNOWN = (
    OSError, EOFError, SyntaxError, ValueError, UnicodeDecodeError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, MemoryError, RuntimeError, RecursionError, AssertionError, ZeroDivisionError, NotImplementedError,
    struct.error, zlib.error, UserWarning,
)  # fmt: skip


@pytest.mark.parametrize("kind", KNOWN)
def test_every_error_that_a_decoder_is_known_to_raise_is_corrupt(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = kind("utf-8", b"CANARY", 0, 1, "CANARY") if kind is UnicodeDecodeError else kind("CANARY")

    def fail(*arguments: object, **options: object) -> None:
        raise error

    data = pictures.seeds()["grey.png"]
    for owner, name, code in ((images.Image, "open", "not_an_image"), (images.ImageOps, "exif_transpose", "corrupt")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(PictureRejected) as caught:
                images.decode(data, Contract())
        assert (caught.value.code, "CANARY" in caught.value.message) == (code, False)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
def test_ten_thousand_more_mutants_are_a_picture_or_a_known_rejection(seed: int) -> None:
    codes: Counter[str] = Counter()
    for _, data in pictures.mutants(1000, seed):
        try:
            image = images.prepare(images.decode(data, Contract()), Contract())
        except PictureRejected as rejected:
            codes[rejected.code] += 1
        else:
            assert (image.shape, image.dtype) == ((299, 299), np.uint8)
            codes["scored"] += 1
    assert set(codes) <= {*CODES, "scored"}, codes


def test_pillows_log_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    seeds = pictures.seeds()
    caplog.set_level(logging.DEBUG)  # as a host application may have it
    for name in ("raw.tif", "alpha.png"):
        images.decode(seeds[name], Contract())
    many = pictures.plain_tags(100, 100, 10_000) | {277: (3, 1, 200)}  # "More samples per pixel than can be decoded"
    with pytest.raises(PictureRejected):
        images.decode(pictures.tiff(many, bytes(10_000)), Contract())
    assert not caplog.records
