"""JPEGs that were cut short and closed: how many are found, and how many whole ones are taken for one.

    python benchmarks/cut_jpegs.py FOLDER... [--seed 0]

Every JPEG under the folders is decoded as it is; with a border of flat grey 128 at its bottom, coded anew in one of a
JPEG's ways; and cut at a random place of its coded data, with an end marker behind the cut. Counts of rejections as
`corrupt` go to stdout, those of the cut ones by the share of the coded data that is missing.
"""

from __future__ import annotations

import argparse
import io
import random
from collections import Counter
from pathlib import Path

from PIL import Image

from edgecxr.errors import PictureRejected
from edgecxr.pictures import cut as cut_jpegs
from edgecxr.pictures import jpeg
from edgecxr.pictures.decode import decode
from edgecxr.pictures.preprocess import Contract, to_uint8

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 1.0)  # missing, at most


def cut(data: bytes, missing: float) -> bytes:
    """The file without this share of its coded data (of all its scans), closed by an end marker."""
    found = jpeg.read(data)
    assert found is not None
    start, end = found.scans[0].start, found.scans[-1].end
    return data[: end - max(1, round(missing * (end - start)))] + b"\xff\xd9"


def bordered(data: bytes, rng: random.Random) -> bytes:
    """The film with a flat border of its own at the bottom, a twentieth to a half of it."""
    pixels = to_uint8((picture := decode(data, Contract(jpeg_scale=0))).pixels, picture.bits).copy()
    pixels[round(len(pixels) * rng.uniform(0.5, 0.95)) :] = cut_jpegs.FILL
    buffer = io.BytesIO()
    ways = {"quality": rng.randint(50, 100), "progressive": rng.random() < 0.2, "optimize": rng.random() < 0.3}
    restarts = {"restart_marker_rows": 1} if rng.random() < 0.2 else {}
    Image.fromarray(pixels).convert(rng.choice(("L", "RGB"))).save(buffer, "JPEG", **ways, **restarts)
    return buffer.getvalue()


def is_corrupt(data: bytes) -> bool:
    try:
        decode(data, Contract())
    except PictureRejected as rejected:
        return rejected.code == "corrupt"
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    paths = sorted(path for folder in options.folders for path in folder.rglob("*") if path.is_file())
    whole = wrong = wrong_border = 0
    made, found = Counter[float](), Counter[float]()
    for path in paths:
        data = path.read_bytes()
        if not data.startswith(b"\xff\xd8"):
            continue
        whole += 1
        if is_corrupt(data):
            wrong += 1
            print(f"whole, and taken for cut: {path}")
        if is_corrupt(bordered(data, rng)):
            wrong_border += 1
            print(f"with a border of its own, and taken for cut: {path}")
        share = rng.choice(SHARES)
        missing = rng.uniform(SHARES[SHARES.index(share) - 1] if share > SHARES[0] else 0.0, share)
        made[share] += 1
        found[share] += is_corrupt(cut(data, missing))
    print(f"whole: {wrong} of {whole} rejected")
    print(f"whole, with a flat border: {wrong_border} of {whole} rejected")
    for below, share in zip((0.0, *SHARES), SHARES, strict=False):
        print(f"cut, {below:.0%} to {share:.0%} of the coded data missing: {found[share]} of {made[share]} rejected")
    print(f"cut, all: {found.total()} of {made.total()} rejected")


if __name__ == "__main__":
    main()
