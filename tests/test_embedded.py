"""Inside somebody else's program: its switches change no answer, and ours change nothing of its."""

from __future__ import annotations

import ctypes
import functools
import io
import json
import logging
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, _imaging

from common import noisy
from edgecxr import Classifier
from edgecxr.errors import UsageError
from edgecxr.pictures import pillow
from hostile import pictures


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier(tiny_bundle)


@functools.cache
def files() -> dict[str, bytes]:
    """Good, damaged and strange ones: each kind that is read, whole and cut, and a TIFF that Pillow warns of."""
    whole = pictures.seeds()
    twice = pictures.plain_tags(100, 100, 10_000) | {296: (3, 2, 0x00020002)}  # two units of resolution
    noise = np.random.default_rng(0).integers(0, 256, 10_000).astype(np.uint8).tobytes()
    return {
        **whole,
        **{f"cut {name}": data[: 3 * len(data) // 4] for name, data in whole.items()},
        "flipped.png": whole["grey.png"].replace(b"IDAT", b"IDAU", 1),
        "warned.tif": pictures.tiff(twice, noise),
    }


def test_the_hosts_switches_change_no_answer(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: classifier.predict(data) for name, data in files().items()}
    assert {p.status for name, p in found.items() if name.startswith("cut") and "prog" not in name} == {"rejected"}
    assert found["warned.tif"].status == "scored"
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, data in files().items():
            again = classifier.predict(data)
            assert (again.status, again.error_code, again.logits) == (
                found[name].status, found[name].error_code, found[name].logits,
            ), name  # fmt: skip
    assert {p.status for p in found.values()} == {"scored", "rejected"}


def test_a_host_that_reads_formats_its_own_way_changes_no_answer(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange(*_: object) -> Image.Image:
        return Image.new("L", (200, 180))

    Image.init()
    monkeypatch.setitem(Image.OPEN, "PNG", (strange, None))
    assert Image.open(io.BytesIO(pictures.seeds()["grey.png"])).getextrema() == (0, 0)
    assert classifier.predict(pictures.seeds()["grey.png"]).logits == classifier.predict(noisy((200, 180), 1)).logits


def test_nothing_of_a_picture_is_logged_or_warned_of(
    classifier: Classifier, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = files()
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("PIL"), "level", logging.DEBUG)
    shown: list[object] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *a, **_: shown.append(a))
        for data in given.values():
            classifier.predict(data)
        assert (shown, caplog.records) == ([], [])
        # The host's own use of Pillow is as talkative as ever.
        with Image.open(io.BytesIO(files()["warned.tif"])) as image:
            image.load()
    assert shown
    assert any(record.name.startswith("PIL") for record in caplog.records)


def test_importing_and_opening_change_nothing_of_the_hosts(tiny_bundle: Path) -> None:
    code = (
        "import json, logging, sys, warnings\nimport numpy, PIL.Image, onnxruntime\n"
        "logs = [logging.root, *map(logging.getLogger, ('PIL', 'PIL.TiffImagePlugin', 'py.warnings'))]\n"
        "def seen(): return [str(warnings.filters), warnings.showwarning.__module__, PIL.Image.MAX_IMAGE_PIXELS,\n"
        "    [(l.level, l.propagate, len(l.handlers), len(l.filters)) for l in logs], sorted(PIL.Image.OPEN)]\n"
        "before = seen()\n"
        f"import edgecxr\np = edgecxr.Classifier({str(tiny_bundle)!r}).predict(numpy.eye(99, dtype='u1') * 200)\n"
        "print(json.dumps([before, seen(), p.status]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    before, after, status = json.loads(done.stdout)
    assert before == after
    assert status == "scored"


@pytest.fixture
def libtiff() -> Iterator[Callable[[], int | None]]:
    """What libtiff calls for an error now; a function of the host's is there meanwhile."""
    setter = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
    if setter is None:
        pytest.skip("Pillow's libtiff can't be reached from outside")
    setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    hosts = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    before = setter(ctypes.cast(hosts, ctypes.c_void_p))

    def now() -> int | None:
        found: int | None = setter(None)
        setter(found)
        return found

    yield now
    setter(before)


def test_libtiff_is_silent_for_the_time_of_a_call(libtiff: Callable[[], int | None], classifier: Classifier) -> None:
    hosts = libtiff()
    assert hosts is not None
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with pillow.quiet_libtiff():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with pillow.quiet_libtiff():
        pass
    assert libtiff() is None  # until the last call that overlaps has ended
    leave.set()
    thread.join()
    assert libtiff() == hosts
    assert classifier.predict(pictures.seeds()["lzw.tif"]).status == "scored"
    assert libtiff() == hosts


@pytest.mark.parametrize("kind", ["<u2", ">u2", "|u1"])
def test_an_array_is_the_same_picture_in_either_byte_order(classifier: Classifier, kind: str) -> None:
    grey = noisy((96, 80), 3).astype("=u2") * (1 if kind == "|u1" else 16)
    native = grey.astype(np.uint8) if kind == "|u1" else grey
    expected, found = classifier.predict(native), classifier.predict(grey.astype(kind))
    assert found.status == "scored"
    assert (found.logits, found.sha256, found.bits) == (expected.logits, expected.sha256, expected.bits)
    assert np.array_equal(classifier.evidence(grey.astype(kind)), classifier.evidence(native))


def test_pickling_says_what_to_do_instead(classifier: Classifier) -> None:
    for thing in (classifier, classifier.predict):
        with pytest.raises(UsageError, match=r"can't be pickled.* open one in each"):
            pickle.dumps(thing)
