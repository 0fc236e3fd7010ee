"""`infer --stdin`: a path a line in, a record a line out, in the same order, for as long as somebody asks.

Each line is scored by itself, as a batch of one, and answered as soon as those before it are: whoever waits for an
answer before the next question gets it at once, and whoever sends many lines has them scored by all workers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from edgecxr.errors import PictureRejected
from edgecxr.records.formats import Stdout
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.folder import Job, Options, describe
from edgecxr.scoring.session import Session
from edgecxr.system import streams
from edgecxr.system.signals import StopOnSignal

MAX_LINE = 64 << 10  # bytes of a path; Linux takes 4,096

Waiting = SimpleQueue["Future[Prediction] | None"]  # None: the end of stdin, or a signal


def serve(session: Session, options: Options) -> Job:
    """Answer the lines of stdin until it ends, or a signal: then those that were read are answered, and no other.

    What was answered is in the run's summary. Raises ReaderLeft where nobody reads the answers any more, and whatever
    reading stdin raises once the lines before are answered.
    """
    describe(session)
    job = Job(session, (), Stdout(session.bundle.labels), options)
    waiting: Waiting = SimpleQueue()
    stopped = StopOnSignal(lambda: waiting.put(None))
    begin = time.perf_counter()
    with stopped, ThreadPoolExecutor(session.plan.workers, thread_name_prefix="edgecxr") as pool:
        room = threading.Semaphore(2 * session.plan.workers)
        ended = threading.Event()
        reader = threading.Thread(target=_ask, args=(session, pool, waiting, room, ended), daemon=True)
        reader.start()
        try:
            for position, future in enumerate(_in_order(waiting, ended)):
                prediction = future.result()
                room.release()
                if options.name_by == "hash":
                    prediction = prediction.without_name(position + 1)
                job.output.write(prediction, position)  # type: ignore[union-attr]  # it is stdout
                job.tally.add(prediction)
                if options.fail_fast and prediction.status == "rejected":
                    break
        finally:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
        job.signal = stopped.signal
    job.seconds = time.perf_counter() - begin
    return job


def _in_order(waiting: Waiting, ended: threading.Event) -> Iterator[Future[Prediction]]:
    """Answers as they were asked for, up to the end; after a signal, those that were asked for before it."""
    while (future := waiting.get()) is not None:
        yield future
    ended.set()
    try:
        while True:
            if (future := waiting.get_nowait()) is not None:
                yield future
    except Empty:
        return


def _ask(
    session: Session,
    pool: ThreadPoolExecutor,
    waiting: Waiting,
    room: threading.Semaphore,
    ended: threading.Event,
) -> None:
    """Have each line of stdin scored, no further ahead than there is room for."""
    try:
        for line in lines(lambda: streams.read_stdin(MAX_LINE)):
            room.acquire()
            if ended.is_set():
                return
            try:
                waiting.put(pool.submit(_answer, session, line))
            except RuntimeError:  # the pool was shut down in between
                return
    except BaseException as error:  # whoever waits for answers would wait for ever
        failed: Future[Prediction] = Future()
        failed.set_exception(error)
        waiting.put(failed)
    waiting.put(None)


def _answer(session: Session, line: bytes | None) -> Prediction:
    if line is None:
        return pipeline.reject(session, PictureRejected("unreadable", f"a line of more than {MAX_LINE:,} bytes"))
    if not line:
        return pipeline.reject(session, PictureRejected("unreadable", "an empty line names no file"))
    name = os.fsdecode(line)
    # The path as it was given, so that whoever asked knows it again.
    return replace(pipeline.score(session, [Path(name)])[0], path=name)


def lines(read: Callable[[], bytes]) -> Iterator[bytes | None]:
    """The lines that `read` gives in pieces, without their ends (LF or CR LF); None for one that is too long.

    Its end is then looked for without keeping it. A last line needs no end; b"" from `read` is the end of all.
    """
    start, too_long = b"", False
    while piece := read():
        *whole, start = (start + piece).split(b"\n")
        for line in whole:
            yield None if too_long or len(line) > MAX_LINE else line.removesuffix(b"\r")
            too_long = False
        if len(start) > MAX_LINE:
            start, too_long = b"", True
    if start or too_long:
        yield None if too_long else start.removesuffix(b"\r")
