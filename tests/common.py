"""Where things are, pictures, the command line; a module of its own, since every folder of tests has a conftest."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from unittest import mock

import numpy as np

ROOT = Path(__file__).parents[1]
# Real pictures are never part of the project: they lie beside the checkout, or where this variable says.
REAL = Path(os.environ.get("EDGECXR_DATA", ROOT.parent / "shared" / "data"))


def noisy(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W) uint8 of a (width, height): a gradient with noise, so that every picture differs and none is blank."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 155, size[0])[None, :]
    return (ramp + rng.integers(0, 100, (size[1], size[0]))).astype(np.uint8)


@contextlib.contextmanager
def _descriptor(number: int, stream: str, file: IO[bytes]) -> Iterator[None]:
    """What is written to the descriptor and to the stream of `sys` goes into the file: an engine writes past Python."""
    saved = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        with open(number, "w", encoding="utf-8", closefd=False) as text, mock.patch.object(sys, stream, text):
            yield
    finally:
        os.dup2(saved, number)
        os.close(saved)


def command_line(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """`edgecxr ARGUMENTS` within this process, as `subprocess.run` would give it; the environment stays as it was."""
    from edgecxr.cli import main

    logger = logging.getLogger("edgecxr")  # to which `-v` gives a handler of this call's stderr
    before = list(logger.handlers), logger.level, logger.propagate
    logger.handlers[:] = []
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code: object = 0
        with (
            _descriptor(1, "stdout", out),
            _descriptor(2, "stderr", err),
            mock.patch.dict(os.environ),
            mock.patch.object(sys, "argv", ["edgecxr", *arguments]),
        ):
            try:
                main()
            except SystemExit as left:
                code = left.code or 0
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)  # which forgets what was enabled
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(["edgecxr", *arguments], code, *texts)
