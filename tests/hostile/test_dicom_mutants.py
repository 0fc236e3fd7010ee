"""Mutants of DICOM files, and files built to exhaust whoever reads them: each a picture or a known rejection."""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dicoms
from common import REAL
from edgecxr.errors import PictureRejected
from edgecxr.pictures import decode as images
from edgecxr.pictures.preprocess import Contract
from hostile import measure, pictures

MEMORY_MB = 64  # above a clean run

CODES = {
    "not_an_image", "corrupt", "too_small", "too_large", "implausible", "too_many_parts", "blank", "empty",
    "unsupported_samples", "several_frames", "not_a_film", "for_processing", "other_body_part", "not_frontal",
    "no_pixels", "transfer_syntax", "decoder_failed",
}  # fmt: skip


def seeds() -> Iterator[tuple[str, bytes]]:
    """A good film of each kind, by its name."""
    values = dicoms.values()
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    yield "plain.dcm", dicoms.film(values, **window)
    yield "bare.dcm", dicoms.film(values, meta=False, syntax=dicoms.IMPLICIT, **window)
    yield "big.dcm", dicoms.film(values, syntax=dicoms.BIG_ENDIAN, **window)
    yield "deflated.dcm", dicoms.film(values, syntax=dicoms.DEFLATED, **window)
    yield "table.dcm", dicoms.film(values, VOILUTSequence=dicoms.lut(np.arange(4096), bits=12))
    yield "modality.dcm", dicoms.film(values, ModalityLUTSequence=dicoms.lut(np.arange(4096)), PixelPaddingValue=0)
    for syntax, frame in dicoms.compressed(values).items():
        yield f"{syntax}.dcm", dicoms.film(frame, syntax=syntax, fragments=3, **window)


def outcome(data: bytes) -> str:
    try:
        images.prepare(images.decode(data, Contract()), Contract())
    except PictureRejected as rejected:
        assert "unforeseen" not in rejected.message, rejected.message
        return rejected.code
    return "scored"


def test_two_hundred_mutants_are_a_picture_or_a_known_rejection() -> None:
    files = list(seeds())
    assert {outcome(data) for _, data in files} == {"scored"}
    found = Counter(outcome(data) for _, data in pictures.mutants(200, 1, files))
    assert set(found) <= {*CODES, "scored"}, found
    assert found["scored"] < 200


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that promise much, by the code that they get."""
    head = bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", 22) + b"1.2.840.10008.1.2.1.99"
    element = struct.pack("<HH2sH", 0x0009, 0x1001, b"CS", 0)
    for content in (bytes(30_000_000), element * 500_000):
        stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        yield "implausible", head + stream.compress(content) + stream.flush()
    yield "too_many_parts", bytes(128) + b"DICM" + element * 100_000
    yield "too_large", dicoms.film(Rows=65535, Columns=65535)
    nested = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    yield "too_many_parts", bytes(128) + b"DICM" + nested * 10_000
    frame = b"\xff\x4f\xff\x51" + struct.pack(">HH8IHBBB", 41, 0, 8000, 8000, 0, 0, 8000, 8000, 0, 0, 1, 11, 1, 1)
    yield "implausible", dicoms.film(frame, size=(8000, 8000), syntax=dicoms.JPEG_2000)


def test_bombs_are_rejected_in_little_memory(tmp_path: Path, tiny_bundle: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, (_, data) in enumerate(seeds()):
        (folder / f"good-{number}.dcm").write_bytes(data)
    clean = measure.edgecxr(tmp_path, "infer", folder, "-m", tiny_bundle, "-o", tmp_path / "clean.jsonl")
    assert clean.code == 0, clean.stderr
    codes = []
    for number, (code, data) in enumerate(bombs()):
        (folder / f"bomb-{number}").write_bytes(data)
        codes.append(code)
    run = measure.edgecxr(tmp_path, "infer", folder, "-m", tiny_bundle, "-o", tmp_path / "all.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [row["error"]["code"] for row in rows if row["error"]] == codes
    assert "Traceback" not in run.stderr
    assert run.peak_mb - clean.peak_mb < MEMORY_MB
    # One element more than a film's hundreds costs what it costs; nothing is walked for seconds.
    assert run.seconds - clean.seconds < 5


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_mutants_of_real_files(tmp_path: Path, tiny_bundle: Path, seed: int) -> None:
    """A record each, through the command; a thousand a time."""
    if not (REAL / "dicom").is_dir():
        pytest.skip(f"no real pictures at {REAL} (set EDGECXR_DATA)")
    paths = [path for kind in ("real", "derived") for path in sorted((REAL / "dicom" / kind).iterdir())]
    files = [(path.name, path.read_bytes()) for path in paths if path.stat().st_size < 1_000_000]
    folder = tmp_path / "in"
    folder.mkdir()
    good = measure.edgecxr(tmp_path, "infer", *paths, "-m", tiny_bundle, "-o", tmp_path / "good.jsonl")
    assert good.code == 1, good.stderr
    for name, data in pictures.mutants(1000, seed, files):
        (folder / name).write_bytes(data)
    run = measure.edgecxr(tmp_path, "infer", folder, "-m", tiny_bundle, "-o", tmp_path / "all.jsonl")
    assert run.code == 1, run.stderr
    assert "Traceback" not in run.stderr
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert len(rows) == 1000
    codes = Counter(row["error"]["code"] if row["error"] else "scored" for row in rows)
    assert set(codes) <= {*CODES, "scored"}, codes
    assert not [row for row in rows if row["error"] and "unforeseen" in row["error"]["message"]]
    print(f"{codes} in {run.seconds:.0f} s, peak {run.peak_mb:.0f} MB, whole files' {good.peak_mb:.0f}")
    assert run.peak_mb - good.peak_mb < MEMORY_MB
