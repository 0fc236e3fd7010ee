"""The calling thread's alternate signal stack, kept as it is while a library is called that sets one of its own."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of <signal.h>, as Linux has it."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept() -> Iterator[None]:
    """Whatever stack is set meanwhile is taken back at the end.

    OpenVINO's CPU plugin (seen with 2026.4, on CPUs with AMX) sets one for the thread that first compiles a network,
    and frees it with the plugin. Where another thread drops the last reference, the first is left with a stack that is
    no more, and the next signal it gets, Ctrl-C or SIGTERM, is a segmentation fault. Nothing needs that stack: without
    one, signals are handled on the thread's own.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    sigaltstack = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    known = sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            sigaltstack(ctypes.byref(before), None)
