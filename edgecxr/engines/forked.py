"""Engines after a fork: their threads stay behind in the parent, and whoever waits for those waits for ever.

So a child opens an engine again, from the same bytes, when it first asks it something. And it never lets go of its
parent's: what an engine does when it goes is to wait for its threads.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgecxr.engines import Engine, Outputs


class Reopening:
    """An engine as `open_again` gives it, in this process and in each that is forked from it.

    `run` raises in a child what `open_again` raises, where it can't be opened there: a GPU can't.
    """

    def __init__(self, open_again: Callable[[], Engine]) -> None:
        self._open, self._engine = open_again, open_again()
        self._lock, self._foreign = threading.Lock(), False
        engine = self._engine
        self.name, self.provider, self.device = engine.name, engine.provider, engine.device
        self.precision, self.threads = engine.precision, engine.threads
        self.input_shape, self.classes = engine.input_shape, engine.classes
        _all.add(self)

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        return self._here().run(images)

    def _here(self) -> Engine:
        if self._foreign:
            with self._lock:
                if self._foreign:  # nobody was faster
                    self._engine, self._foreign = self._open(), False
        return self._engine

    def after_fork(self) -> None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
        self._lock, self._foreign = threading.Lock(), True


_all: weakref.WeakSet[Reopening] = weakref.WeakSet()


def _after_fork() -> None:
    for engine in list(_all):
        engine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
