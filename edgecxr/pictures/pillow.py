"""Pillow of our own: neither its switches, its log and its warnings that the host sees, nor those that the host sets.

Pillow keeps what decides an answer in its modules: LOAD_TRUNCATED_IMAGES, MAX_IMAGE_PIXELS, the table of formats. A
host may set them, and has its own reasons. What its log and its warnings say may quote a picture, and would stand in
the host's log. To set all that for the time of a call would set it for the host's other threads as well. So Pillow's
Python modules are imported a second time, below this module, which is a package to them: their `from . import Image`
finds the copies. The compiled core is the same one.

libtiff alone is shared, and writes to stderr what it dislikes in a file: it is silenced for the time of a call.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import threading
import types
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import PIL
from PIL import UnidentifiedImageError, __version__, _imaging, _plugins

if TYPE_CHECKING:
    from PIL import Image, ImageOps

__all__ = ["Image", "ImageOps", "UnidentifiedImageError", "__version__", "_plugins", "quiet_libtiff"]

__path__ = list(PIL.__path__)
# Else the copies would load the compiled core a second time.
sys.modules[f"{__name__}._imaging"] = _imaging
_MODULES = ("Image", "ImageFile", "ImageOps", "ImagePalette", "_deprecate", "BmpImagePlugin", "JpegImagePlugin",
            "MpoImagePlugin", "PngImagePlugin", "TiffImagePlugin")  # fmt: skip

_log = logging.getLogger(__name__)  # the parent of what the copies log to
_log.setLevel(logging.CRITICAL + 1)
_log.propagate = False
_log.addHandler(logging.NullHandler())


class _Silent(types.ModuleType):
    """What the copies know as `warnings`."""

    @staticmethod
    def warn(*_: object, **__: object) -> None:
        pass


def _make_copies() -> None:
    copies = [import_module(f"{__name__}.{name}") for name in _MODULES]
    for module in copies:
        if hasattr(module, "warnings"):
            vars(module)["warnings"] = _Silent("warnings")
    # The formats that are read are there; else the first broken file would have Pillow look for dozens of others.
    copies[0]._initialized = 2  # type: ignore[attr-defined]


class _Libtiff:
    """The error and warning handlers of the libtiff that Pillow is linked with."""

    def __init__(self) -> None:
        self._setters = []
        # Found through the module that is linked with it; where it is linked statically there is no such name.
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            with contextlib.suppress(AttributeError):
                setter = getattr(library, name)
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p  # gives the handler before it
                self._setters.append(setter)
        self._before: list[int | None] = []
        self._calls = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Without handlers, until the last of the calls that overlap has ended."""
        with self._lock:
            if self._calls == 0:
                self._before = [setter(None) for setter in self._setters]
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    self._restore()

    def _restore(self) -> None:
        for setter, before in zip(self._setters, self._before, strict=True):
            setter(before)

    def after_fork(self) -> None:
        """In a child, the calls of its parent's other threads never end."""
        self._lock = threading.Lock()
        if self._calls:
            self._calls = 0
            self._restore()


_make_copies()
_libtiff = _Libtiff()
quiet_libtiff = _libtiff.quiet
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_libtiff.after_fork)
