"""What is fuzzed: bytes in, nothing but the named errors out. Anything else that is raised is a finding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecxr.bundle import network
from edgecxr.bundle import reader as bundle
from edgecxr.errors import BundleError, PictureRejected
from edgecxr.pictures import checksums
from edgecxr.pictures import decode as images
from edgecxr.pictures.preprocess import Contract

CORPUS = Path(__file__).parent / "corpus"
CONTRACT = Contract(height=64, width=64)
# A picture that a small file may hold; larger ones are tested elsewhere and would only make this slow. Who fuzzes sets
# images.MAX_PIXELS to it: not the import of this module, which other tests share a process with.
MAX_PIXELS = 4_000_000


def picture(data: bytes) -> None:
    """The decoder front: a picture that has the network's shape, or a rejection that is foreseen."""
    try:
        decoded = images.decode(data, CONTRACT)
        image = images.prepare(decoded, CONTRACT)
    except PictureRejected as rejected:
        if rejected.code == "decoder_failed" and "unforeseen" in rejected.message:  # not the end of a process
            raise AssertionError(f"a decoder did what none is known to do: {rejected.message}") from rejected
        return
    assert image.shape == (CONTRACT.height, CONTRACT.width)
    assert 1 <= decoded.bits <= 16


def of_bundle(data: bytes) -> None:
    """The bundle loader: the first byte says which of its readers gets the rest."""
    kind, rest = data[:1], data[1:]
    try:
        if kind == b"m":
            _manifest(rest)
        elif kind == b"o":
            network.check(rest, "onnx")
            network.metadata(rest)
            assert network.precision(rest) in bundle.PRECISIONS
        elif kind == b"t":
            network.check(rest, "tflite")
        elif kind == b"g":
            _golden(rest, b"[]").golden_inputs()
        elif kind == b"e":
            _golden(b"", rest).golden_expected()
        elif kind == b"s":
            checksums.parse(rest)
    except (BundleError, PictureRejected):
        return


def _manifest(data: bytes) -> None:
    """A manifest as `bundle.load` reads one, under the digest that belongs to it: whoever forges one computes it."""
    try:
        manifest: Any = json.loads(data)
        if isinstance(manifest, dict):
            manifest["digest"] = bundle.manifest_digest(manifest)
            data = json.dumps(manifest).encode()
    except (ValueError, RecursionError):
        pass
    bundle.parse(data, Path("fuzzed"))


def _golden(inputs: bytes, expected: bytes) -> bundle.Bundle:
    """The embedded bundle with these golden vectors."""

    class Golden(bundle.Bundle):
        def read(self, file: str) -> bytes:
            return inputs if file == bundle.GOLDEN_INPUTS else expected

    embedded = bundle.load()
    fields = {name: getattr(embedded, name) for name in embedded.__dataclass_fields__}
    return replace(Golden(**fields), preprocessing=CONTRACT)


TARGETS = {"images": picture, "dicom": picture, "bundle": of_bundle}
