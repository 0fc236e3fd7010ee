"""The process in which native decoders run: `python -m edgecxr.pictures.dicom.child`, frames in, samples out, by pipes.

It is killed where it takes too long, and may take a stated memory where the system can limit that. What a broken frame
does to a decoder ends here. Requests and answers are those of `decoder`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from edgecxr.pictures.dicom.decoder import ANSWER, CODECS, OK, REQUEST, UNREADABLE


def main() -> None:
    # Ctrl-C and SIGTERM are for whoever started this: what is in hand is finished, and the end of stdin ends it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # A library that prints would print into the answers, or a file's own words into a log.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    codecs = _codecs()
    limit = _limiter()
    answers.write(ANSWER.pack(OK, limit is not None, 0, b""))
    answers.flush()
    while head := requests.read(REQUEST.size):
        codec, size, rows, columns, memory = REQUEST.unpack(head)
        frame = requests.read(size)
        if limit is not None:
            limit(memory)
        _answer(answers, codecs[codec], frame, rows, columns)


def _answer(answers: BinaryIO, decode: Any, frame: bytes, rows: int, columns: int) -> None:
    try:
        samples = decode(frame, rows, columns)
        if samples.shape != (rows, columns) or samples.dtype.kind not in "iu":
            raise ValueError(samples.shape)
        content = memoryview(samples.astype(samples.dtype.newbyteorder("<"), order="C", copy=False)).cast("B")
        kind = samples.dtype.str[1:].encode()
    except MemoryError:
        raise  # nothing in this process is to be relied on any more
    except Exception:  # whatever a library raises says that the frame is broken
        answers.write(ANSWER.pack(UNREADABLE, False, 0, b""))
    else:
        answers.write(ANSWER.pack(OK, False, len(content), kind))
        answers.write(content)
    answers.flush()


def _codecs() -> dict[int, Any]:
    """Decoders by number, each (bytes, rows, columns) -> (rows, columns) of integers."""
    import imagecodecs
    import numpy as np

    def rle(frame: bytes, rows: int, columns: int) -> Any:
        (segments,) = struct.unpack_from("<I", frame)
        kind = np.dtype({1: "<u1", 2: "<u2"}[segments])
        return np.frombuffer(imagecodecs.dicomrle_decode(frame, kind), kind).reshape(rows, columns)

    return {
        CODECS["rle"]: rle,
        CODECS["jpeg"]: lambda frame, rows, columns: imagecodecs.jpeg8_decode(frame),
        CODECS["jpeg-ls"]: lambda frame, rows, columns: imagecodecs.jpegls_decode(frame),
        CODECS["jpeg-2000"]: lambda frame, rows, columns: imagecodecs.jpeg2k_decode(frame, numthreads=1),
        CODECS["htj2k"]: lambda frame, rows, columns: imagecodecs.htj2k_decode(frame),
    }


def _limiter() -> Any:
    """Lets this process take so many bytes beyond what it has, or None where the system has no such limit."""
    if not sys.platform.startswith("linux"):
        return None
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)

    def limit(memory: int) -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        wanted = pages * resource.getpagesize() + memory
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    try:
        limit(1 << 30)
    except (OSError, ValueError):
        return None
    return limit


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # nobody waits for the answer
        main()
