"""Finding, reading and decoding files: each kind of picture has one defined reading or a named rejection."""

import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import noisy
from edgecxr.errors import PictureRejected, UsageError
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract
from hostile.pictures import plain_tags
from hostile.pictures import tiff as hand_made_tiff

CONTRACT = Contract()


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rejection(data: bytes) -> str:
    with pytest.raises(PictureRejected) as caught:
        images.prepare(images.decode(data, CONTRACT), CONTRACT)
    return caught.value.code


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_eight_bit_grey_is_read_as_it_is(kind: str) -> None:
    grey = noisy((80, 100))
    picture = images.decode(encode(Image.fromarray(grey), kind), CONTRACT)
    assert np.array_equal(picture.pixels, grey)
    assert (picture.width, picture.height, picture.bits) == (80, 100, 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("shift", "bits"), [(8, 16), (4, 12)])
def test_sixteen_bit_grey_keeps_its_samples(kind: str, shift: int, bits: int) -> None:
    grey = (noisy((80, 100)).astype(np.uint16) << shift) + 1
    picture = images.decode(encode(Image.fromarray(grey), kind), CONTRACT)
    assert np.array_equal(picture.pixels, grey)
    assert picture.bits == bits
    # What the network sees is the 8-bit picture within rounding, not the white square of a clipping conversion.
    eight = images.prepare(images.decode(encode(Image.fromarray(noisy((80, 100))), "PNG"), CONTRACT), CONTRACT)
    if bits == 16:
        assert np.abs(images.prepare(picture, CONTRACT).astype(int) - eight).max() <= 2


def tiff(samples: np.ndarray, *, white_is_zero: bool, bits: int) -> bytes:
    """A little-endian, uncompressed, one-strip TIFF 6.0 by hand: no library is tested with itself."""
    height, width = samples.shape
    data = samples.astype("<u2" if bits > 8 else "u1").tobytes()
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return header + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize(("bits", "full"), [(8, 255), (16, 65535)])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_white_is_zero_is_inverted(bits: int, full: int, white_is_zero: bool) -> None:
    grey = noisy((80, 100)).astype(np.uint16) * (full // 255)
    picture = images.decode(
        tiff(full - grey if white_is_zero else grey, white_is_zero=white_is_zero, bits=bits), CONTRACT
    )
    assert np.array_equal(picture.pixels, grey)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_white_is_zero_of_fewer_bits_is_inverted_about_its_own_depth(bits: int) -> None:
    grey = noisy((80, 100)).astype(np.uint16) << (bits - 8)
    grey[0, 0] = 0  # so that the depth shows in the inverted samples, as in a film with a black border
    picture = images.decode(tiff((1 << bits) - 1 - grey, white_is_zero=True, bits=16), CONTRACT)
    assert picture.bits == bits
    assert np.array_equal(picture.pixels, grey)


def png(samples: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG by hand; samples (H, W, C) uint16. Colour types: 2 is RGB, 4 grey with alpha, 6 RGBA."""
    height, width, _ = samples.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colour_of_sixteen_bits_is_rejected_and_not_cut_to_its_high_byte(colour_type: int, channels: int) -> None:
    film = np.dstack([noisy((80, 100)).astype(np.uint16) << 4] * channels)  # 12 bits: the high byte is nearly black
    assert rejection(png(film, colour_type)) == "unsupported_samples"


def test_a_long_chain_of_directories_costs_nothing() -> None:
    first = tiff(noisy((80, 100)), white_is_zero=False, bits=8)
    count = 20_000
    links = b""
    for index in range(count):
        place = len(first) + index * 6
        links += struct.pack("<HI", 0, place + 6 if index + 1 < count else 0)
    begin = time.process_time()
    assert rejection(first[:-4] + struct.pack("<I", len(first)) + links) == "several_frames"
    assert time.process_time() - begin < 1


def test_reading_folders_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(20):
        with pytest.raises(PictureRejected):
            files.read(tmp_path)
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert after == before


def test_a_decoders_warning_is_no_exit_even_where_warnings_are_errors() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 300
    data = encode(Image.fromarray(noisy((80, 100))), "JPEG", exif=exif.tobytes()[:40])
    picture_or_reason = None
    try:
        picture_or_reason = images.decode(data, CONTRACT)
    except PictureRejected as rejected:
        picture_or_reason = rejected.code
    assert picture_or_reason is not None  # pytest makes errors of warnings here


def test_colour_becomes_luma_and_transparency_is_dropped() -> None:
    rgb = np.dstack([noisy((80, 100), seed) for seed in (1, 2, 3)])
    expected = np.rint(rgb @ np.array([0.299, 0.587, 0.114]))  # ITU-R BT.601
    alpha = np.dstack([rgb, noisy((80, 100), 4)])
    for data in (encode(Image.fromarray(rgb), "PNG"), encode(Image.fromarray(alpha), "PNG")):
        assert np.abs(images.decode(data, CONTRACT).pixels - expected).max() <= 1


def test_a_palette_is_looked_up() -> None:
    indices = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    palette = Image.fromarray(indices).convert("P")
    palette.putpalette([255 - i // 3 for i in range(768)])
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(images.decode(encode(palette, kind), CONTRACT).pixels, 255 - indices), kind
    assert np.array_equal(images.decode(encode(palette, "PNG", transparency=7), CONTRACT).pixels, 255 - indices)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparency_of_a_grey_picture_is_dropped(kind: str) -> None:
    grey = noisy((80, 100))
    picture = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(noisy((80, 100), 5))])
    assert np.array_equal(images.decode(encode(picture, kind), CONTRACT).pixels, grey)


# The stored picture as it is to be shown. Exif 2.32, "Orientation": where its row 0 and its column 0 are seen.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.T,  # left, top
    6: lambda stored: stored.T[:, ::-1],  # right, top
    7: lambda stored: stored.T[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.T[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "deep PNG", "deep TIFF", "packed TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = np.add.outer(np.arange(72), np.arange(120)).astype(np.uint16)  # smooth, and like none of its turns
    grey[:10, :30] = 255
    stored = grey * 257 if "deep" in kind else grey.astype(np.uint8)
    options = {"compression": "tiff_lzw"} if "packed" in kind else {"quality": 95} if kind == "JPEG" else {}
    data = encode(Image.fromarray(stored), kind.split()[-1], exif=exif, **options)
    pixels = images.decode(data, CONTRACT).pixels
    expected = TURNS[orientation](stored)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= (40 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = noisy((80, 100))
    assert np.array_equal(images.decode(encode(Image.fromarray(grey), "PNG", exif=exif), CONTRACT).pixels, grey)


def test_another_library_reads_the_same() -> None:
    """OpenCV, which shares no decoder with Pillow but libjpeg, libpng and libtiff themselves."""
    cv2 = pytest.importorskip("cv2")
    colour = Image.merge("RGB", [Image.fromarray(noisy((160, 140), seed)) for seed in (1, 2, 3)])
    grey, deep = noisy((160, 140)), noisy((160, 140)).astype(np.uint16) * 16 + 3
    exif = Image.Exif()
    exif[0x0112] = 6
    exact = {
        "8-bit PNG": (encode(Image.fromarray(grey), "PNG"), 8),
        "8-bit BMP": (encode(Image.fromarray(grey), "BMP"), 8),
        "8-bit TIFF": (encode(Image.fromarray(grey), "TIFF", compression="tiff_lzw"), 8),
        "12 bits in a PNG": (encode(Image.fromarray(deep), "PNG"), 12),
        "12 bits in a TIFF": (encode(Image.fromarray(deep), "TIFF"), 12),
        "white-is-zero TIFF": (tiff(255 - grey, white_is_zero=True, bits=8), 8),
    }
    for name, (data, bits) in exact.items():
        theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        picture = images.decode(data, CONTRACT)
        assert picture.bits == bits, name
        assert np.array_equal(picture.pixels, theirs), name
    near = {
        "grey JPEG": encode(Image.fromarray(grey), "JPEG", quality=95),
        "colour JPEG": encode(colour, "JPEG", quality=95),
        "turned JPEG": encode(colour, "JPEG", quality=95, exif=exif),
        "colour PNG": encode(colour, "PNG"),
        "colour TIFF": encode(colour, "TIFF"),
        "colour BMP": encode(colour, "BMP"),
        "palette": encode(colour.convert("P"), "PNG"),
    }
    for name, data in near.items():
        theirs = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)
        ours = images.decode(data, CONTRACT).pixels
        assert ours.shape == theirs.shape, name
        assert np.abs(ours.astype(int) - theirs).mean() < 1, name


def test_several_frames_are_rejected_in_every_format_that_has_them() -> None:
    frames = [Image.fromarray(noisy((80, 80), seed)) for seed in (1, 2)]
    for kind in ("TIFF", "PNG", "MPO"):  # MPO is a JPEG with more of them behind it
        assert rejection(encode(frames[0], kind, save_all=True, append_images=frames[1:])) == "several_frames", kind


def test_cmyk_is_rejected_in_every_format_that_has_it() -> None:
    for kind in ("JPEG", "TIFF"):
        assert rejection(encode(Image.new("CMYK", (80, 80)), kind)) == "unsupported_samples", kind


@pytest.mark.parametrize(
    "tags",
    [{339: (3, 1, 2)}, {339: (3, 1, 3)}, {339: (3, 1, 4)}, {262: None}],
    ids=["signed", "float", "undefined", "no polarity"],
)
def test_samples_that_could_be_misread_are_rejected(tags: dict[int, tuple[int, int, int] | None]) -> None:
    """Pillow reads signed bytes as unsigned, and a TIFF that doesn't say which end is black as white-is-zero."""
    entries = {t: e for t, e in (plain_tags(100, 80, 8000) | tags).items() if e is not None}
    assert rejection(hand_made_tiff(entries, noisy((100, 80)).tobytes())) in ("unsupported_samples", "not_an_image")


def test_a_sixteen_bit_picture_is_not_clipped_to_white() -> None:
    """What Pillow's own convert("L") does to the same file: nearly all of it is white."""
    deep = (noisy((200, 180)).astype(np.uint16) << 8) + 300
    data = encode(Image.fromarray(deep), "PNG")
    naive = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert (naive == 255).mean() > 0.95
    image = images.prepare(images.decode(data, CONTRACT), CONTRACT)
    assert (image == 255).mean() < 0.05
    assert image.std() > 20


def test_a_large_jpeg_is_decoded_smaller_to_nearly_the_same_input() -> None:
    smooth = Image.fromarray(noisy((40, 30))).resize((2400, 1800), Image.Resampling.BICUBIC)
    data = encode(smooth, "JPEG", quality=95)
    reduced = images.decode(data, CONTRACT)
    full = images.decode(data, Contract(jpeg_scale=0))
    assert reduced.pixels.shape == (900, 1200)  # the smallest half, quarter or eighth that isn't below 598
    assert (reduced.width, reduced.height) == (full.width, full.height) == (2400, 1800)
    difference = np.abs(images.prepare(reduced, CONTRACT).astype(int) - images.prepare(full, CONTRACT))
    assert difference.mean() < 0.5


def test_rejections_have_names() -> None:
    good = encode(Image.fromarray(noisy((300, 200))), "PNG")
    assert rejection(b"not a picture") == "not_an_image"
    assert rejection(good[: len(good) // 2]) == "corrupt"
    jpeg = encode(Image.fromarray(noisy((300, 200))), "JPEG")
    assert rejection(jpeg[: len(jpeg) // 2]) == "corrupt"
    assert rejection(encode(Image.fromarray(noisy((40, 200))), "PNG")) == "too_small"
    assert rejection(encode(Image.new("L", (300, 300), 128), "PNG")) == "blank"
    assert rejection(encode(Image.new("CMYK", (300, 300)), "JPEG")) == "unsupported_samples"
    assert rejection(encode(Image.fromarray(noisy((80, 80)).astype(np.float32)), "TIFF")) == "unsupported_samples"
    gif = encode(Image.fromarray(noisy((80, 80))), "GIF")
    assert rejection(gif) == "unsupported_format"
    frames = [Image.fromarray(noisy((80, 80), seed)) for seed in (1, 2)]
    assert rejection(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])) == "several_frames"


def png_header(width: int, height: int) -> bytes:
    """A grey 8-bit PNG that promises width x height pixels and brings a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 50_000])  # over our limit, over Pillow's warning, over its error
def test_a_bomb_is_rejected_before_it_is_decoded(side: int) -> None:
    assert rejection(png_header(side, side)) == "too_large"


def test_find_sorts_walks_skips_companions_and_counts_them(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for name in ("b.png", "a.png", "deep/er/c.png"):
        picture(name)
    for name in ("manifest.csv", "SHA256SUMS", "deep/.DS_Store", "deep/Thumbs.db", "notes.txt"):
        (tmp_path / name).write_text("x")
    found = files.find([tmp_path])
    assert [str(p.relative_to(tmp_path)) for p in found.paths] == ["a.png", "b.png", "deep/er/c.png", "notes.txt"]
    assert found.skipped == 4
    assert [p.name for p in files.find([tmp_path], recursive=False).paths] == ["a.png", "b.png", "notes.txt"]


def test_find_follows_file_symlinks_and_not_folder_symlinks(tmp_path: Path, picture: Callable[..., Path]) -> None:
    target = picture("there/a.png")
    (tmp_path / "link.png").symlink_to(target)
    (tmp_path / "there" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    found = files.find([tmp_path])
    assert [p.name for p in found.paths] == ["dangling.png", "link.png", "a.png"]
    assert found.skipped == 1  # a link to a folder is passed over, and counted
    assert files.read(tmp_path / "link.png") == target.read_bytes()
    with pytest.raises(PictureRejected):
        files.read(tmp_path / "dangling.png")


def test_missing_and_empty_places_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        files.find([tmp_path / "absent"])
    with pytest.raises(UsageError, match="no files to score"):
        files.find([tmp_path])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_a_fifo_is_rejected_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PictureRejected) as caught:
        files.read(tmp_path / "pipe")
    assert caught.value.code == "not_a_file"


def test_empty_and_oversized_files_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_bytes(b"x" * 1001)
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    for name, code in (("empty", "empty"), ("long", "too_large")):
        with pytest.raises(PictureRejected) as caught:
            files.read(tmp_path / name)
        assert caught.value.code == code


def test_real_originals_all_decode(real_data: Path) -> None:
    found = files.find([real_data / "fullres"])
    assert len(found.paths) == 150
    for path in found.paths[::10]:
        image = images.prepare(images.decode(files.read(path), CONTRACT), CONTRACT)
        assert image.shape == (299, 299)
        assert image.std() > 10
