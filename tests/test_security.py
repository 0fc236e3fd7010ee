"""SECURITY.md names tests that are there, and figures that are the program's."""

import re

from common import ROOT
from edgecxr.pictures import decode as images
from edgecxr.pictures import files, limits

TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 30
    for file, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), flags=re.MULTILINE), f"{file}::{name}"


def test_every_claim_has_a_test() -> None:
    for line in TEXT.partition("## Pictures")[2].partition("## Dependencies")[0].splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| claim", "| hazard")):
            assert "`tests/" in line, line


def test_the_limits_are_the_programs() -> None:
    assert f"{files.MAX_BYTES >> 20} MiB, {images.MAX_PIXELS // 10**6} megapixels" in TEXT
    assert f"{limits.MAX_PIXELS_A_BYTE:,} pixels a byte" in TEXT
    assert f"`read_timeout` after {files.READ_SECONDS:g} s; from {files.MAX_STALLED} such reads on" in TEXT
