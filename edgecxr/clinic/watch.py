"""A folder whose files are scored as they arrive: each once it is whole, and once only.

    walk, changes -> Arrivals -> those that stood still -> scored -> a record, or wait on

Whole is what kept its length and its time for STILL_SECONDS, and decodes. What doesn't is waited for until it stood
still for GIVEN_UP_SECONDS, and only then is a rejected record. The output is `infer`'s journal: a restart goes on
with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecxr.errors import UnavailableError, UsageError
from edgecxr.pictures import files
from edgecxr.records import output as recording
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.folder import Inputs, Job
from edgecxr.system.signals import StopOnSignal

log = logging.getLogger(__name__)  # names no picture

STILL_SECONDS = 2.0  # in which a file that is being copied grows, or its time moves
GIVEN_UP_SECONDS = 60.0  # for one that doesn't decode: a copy may stall so long and go on
WALK_SECONDS = 60.0  # between walks over the whole folder: a change may be lost
TICK_SECONDS = 0.5

Look = tuple[int, int]  # a file's length, and the time of its last change in ns


@dataclass
class _Arrival:
    look: Look
    since: float  # when it was first seen so, by a clock that doesn't jump
    in_hand: bool = False
    rejection: Prediction | None = None  # what it was answered as it looks


class Arrivals:
    """Which files are whole enough to be scored, and which answers stand. Knows no clock and no file."""

    def __init__(self, known: dict[Path, Look]) -> None:
        """`known` have their record."""
        self._known, self._coming = dict(known), dict[Path, _Arrival]()

    @property
    def coming(self) -> list[Path]:
        """Files that were seen and have no record as they look."""
        return list(self._coming)

    def see(self, path: Path, look: Look | None, now: float) -> None:
        """A file looks so; None: it isn't there any more."""
        if look is None:
            self._coming.pop(path, None)
            return
        before = self._coming.get(path)
        if before is None:
            if self._known.get(path) != look:
                self._coming[path] = _Arrival(look, now)
        elif before.look != look:
            before.look, before.since, before.rejection = look, now, None

    def due(self, now: float) -> list[Path]:
        """Files that stood still long enough and are not in hand; they are from here on."""
        found = [
            path
            for path, arrival in self._coming.items()
            if not arrival.in_hand and arrival.rejection is None and now - arrival.since >= STILL_SECONDS
        ]
        for path in found:
            self._coming[path].in_hand = True
        return found

    def answered(self, path: Path, prediction: Prediction) -> Prediction | None:
        """What is to be recorded of a file that was in hand: the answer, where it is one to the file as it looks."""
        arrival = self._coming.get(path)
        if arrival is None:  # it was taken away meanwhile
            return None
        arrival.in_hand = False
        if prediction.status == "rejected":
            arrival.rejection = prediction
            return None
        if (prediction.bytes, prediction.mtime_ns) != arrival.look:
            return None
        return self._record(path, prediction)

    def given_up(self, now: float) -> list[tuple[Path, Prediction]]:
        """Rejections of files that stood still for so long that they won't become whole."""
        found = [
            (path, arrival.rejection)
            for path, arrival in self._coming.items()
            if arrival.rejection is not None and now - arrival.since >= GIVEN_UP_SECONDS
        ]
        for path, rejection in found:
            self._record(path, rejection)
        return found

    def _record(self, path: Path, prediction: Prediction) -> Prediction:
        self._known[path] = self._coming.pop(path).look
        return prediction


def find(folder: Path, place: recording.Place, *, recursive: bool = True, own: Path | None = None) -> Inputs:
    """What is in the folder now, which may be nothing, without the run's own output, which is `place` and whatever lies
    in the folder `own`; raises UsageError where it is no folder."""
    if not folder.is_dir():
        raise UsageError(f"--watch takes one folder, got: {folder}")
    try:
        found = files.find([folder], recursive=recursive)
    except UsageError:  # no files
        return Inputs((), 0)
    is_own = _own(place, own)
    return Inputs(tuple(path for path in found.paths if not is_own(path)), found.skipped)


def watch(
    job: Job,
    inputs: Inputs,
    folder: Path,
    place: recording.Place,
    *,
    poll: bool = False,
    recursive: bool = True,
    own: Path | None = None,
    tell: Callable[[Path, Prediction], object] = lambda path, prediction: None,
) -> None:
    """Score what arrives in `folder` until Ctrl-C or SIGTERM, with `inputs` being what `job` was prepared with.

    `own` is as `find` had it; `tell` gets each file and its prediction once the record is written.

    Raises UnavailableError without the extra `watch`, and StorageError where a record can't be kept.
    """
    todo = {path for _, path in job.todo}
    finished = [path for path in inputs.paths if path not in todo]
    arrivals = Arrivals({path: look for path in finished if (look := _look(path)) is not None})
    for path in inputs.paths:
        arrivals.see(path, _look(path), time.monotonic())
    stopped, position, begin = StopOnSignal(), len(inputs.paths), time.perf_counter()
    in_hand: dict[Future[Prediction], Path] = {}

    def record(path: Path, prediction: Prediction) -> None:
        nonlocal position
        position += 1
        named = prediction if job.options.name_by == "path" else prediction.without_name(position)
        if job.output is not None:
            job.output.write(named, position)
        tell(path, named)
        job.tally.add(named)

    def take(waiting: bool) -> None:
        for future in [future for future in in_hand if waiting or future.done()]:
            path = in_hand.pop(future)
            if (prediction := arrivals.answered(path, future.result())) is not None:
                record(path, prediction)

    with (
        stopped,
        job.output or nullcontext(),
        ThreadPoolExecutor(job.session.plan.workers, thread_name_prefix="edgecxr") as pool,
    ):
        for seen in _seen(folder, _own(place, own), poll, recursive, lambda: stopped.signal is not None):
            now = time.monotonic()
            for path in {*seen, *arrivals.coming}:
                arrivals.see(path, _look(path), now)
            for path in arrivals.due(now):
                in_hand[pool.submit(_score, job, path)] = path
            take(waiting=False)
            for path, rejection in arrivals.given_up(now):
                record(path, rejection)
        take(waiting=True)
    job.signal = stopped.signal
    job.seconds = time.perf_counter() - begin


def _score(job: Job, path: Path) -> Prediction:
    return pipeline.score(job.session, [path])[0]


def _seen(
    folder: Path, is_own: Callable[[Path], bool], poll: bool, recursive: bool, stop: Callable[[], bool]
) -> Iterator[Iterable[Path]]:
    """Files that changed, every TICK_SECONDS, and now and then all there are; ends once `stop()` is true."""
    try:
        from watchfiles import watch as changes_of
    except ImportError as error:
        raise UnavailableError(
            f"this needs the extra 'watch'; run: pip install 'edgecxr[cpu,watch]' ({error})"
        ) from None

    class Stop:
        def is_set(self) -> bool:
            return stop()

    ended: Any = Stop()
    walked = time.monotonic()
    for changes in changes_of(
        folder,
        watch_filter=None,
        debounce=int(TICK_SECONDS * 1000),
        rust_timeout=int(TICK_SECONDS * 1000),
        yield_on_timeout=True,
        stop_event=ended,
        raise_interrupt=False,
        force_polling=poll,
        recursive=recursive,
        ignore_permission_denied=True,
    ):
        if stop():
            return
        found: set[Path] = set()
        for _, name in changes:
            # A folder that was moved here tells of itself and not of its files.
            found |= _files(_as_given(Path(name), folder), is_own, recursive)
        if time.monotonic() - walked >= WALK_SECONDS:
            walked = time.monotonic()
            found |= _files(folder, is_own, recursive)
        yield found


def _own(place: recording.Place, folder: Path | None) -> Callable[[Path], bool]:
    """Whether a path is of the run's own output."""
    results = None if folder is None else folder.resolve()
    return lambda path: place.is_own(path) or (results is not None and results in path.resolve().parents)


def _as_given(path: Path, folder: Path) -> Path:
    """The path under the folder's own name: one file under two names would be two inputs."""
    for name in (folder, folder.absolute(), folder.resolve()):
        if path.is_relative_to(name):
            return folder / path.relative_to(name)
    return folder


def _files(path: Path, is_own: Callable[[Path], bool], recursive: bool) -> set[Path]:
    try:
        found = files.find([path], recursive=recursive).paths
    except UsageError:  # it is gone, or an empty folder
        return set()
    return {file for file in found if file.name not in files.SKIPPED_NAMES and not is_own(file)}


def _look(path: Path) -> Look | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
