"""A run over files: what is scored, where each record goes, and what is said of it all at the end."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from edgecxr.pictures import files
from edgecxr.records import output as recording
from edgecxr.records import resume
from edgecxr.records.formats import Stdout
from edgecxr.records.journal import whole_lines
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session
from edgecxr.system.signals import StopOnSignal

log = logging.getLogger(__name__)  # names no picture

MAX_KEPT = 40  # predictions of each kind that are kept to be shown; a folder of thousands belongs in a file


@dataclass(frozen=True)
class Inputs:
    """The pictures of a job, in order, and how many entries were passed over."""

    paths: tuple[Path, ...]
    skipped: int


@dataclass(frozen=True)
class Options:
    """How a run goes on and ends."""

    name_by: resume.NameBy = "path"
    fail_fast: bool = False


@dataclass
class Tally:
    """What came out of a job, in bounded memory."""

    statuses: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    shown: list[Prediction] = field(default_factory=list)  # the first ones
    rejected: list[Prediction] = field(default_factory=list)  # and the first that were rejected after them

    def count(self, status: str, label: str | None) -> None:
        self.statuses[status] += 1
        if label is not None:
            self.labels[label] += 1

    def add(self, prediction: Prediction) -> None:
        self.count(prediction.status, prediction.label)
        if len(self.shown) < MAX_KEPT:
            self.shown.append(prediction)
        elif prediction.status == "rejected" and len(self.rejected) < MAX_KEPT:
            self.rejected.append(prediction)


@dataclass
class Job:
    """What a run scores and where its records go: made by `prepare`, carried out by `score`."""

    session: Session
    todo: Sequence[tuple[int, Path]]  # (position among the inputs from 0, file)
    output: recording.Output | Stdout | None
    options: Options
    skipped: int = 0
    resumed: int = 0
    notes: tuple[str, ...] = ()
    earlier: Sequence[tuple[int, Path]] = ()  # (line of the journal from 0, file) of each record that was there already
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    signal: int | None = None  # that ended it before its end

    @property
    def left_in(self) -> Path | None:
        """The journal of a run that was stopped."""
        return self.output.left_in if self.signal is not None and isinstance(self.output, recording.Output) else None

    def summary(self) -> dict[str, Any]:
        scored = sum(self.tally.statuses.values()) - self.resumed
        return {
            "records": sum(self.tally.statuses.values()),
            "resumed": self.resumed,
            "statuses": dict(self.tally.statuses),
            "labels": dict(self.tally.labels),
            "skipped": self.skipped,
            "seconds": self.seconds,
            "pictures_per_second": scored / self.seconds if self.seconds else 0.0,
            **self.session.provenance.__dict__,
            **self.session.plan.__dict__,
            "tuned": self.session.tuned,
            "notes": list(self.session.notes),
            "interrupted": self.signal is not None,
        }


def describe(session: Session) -> None:
    """Log what answers."""
    p, plan = session.provenance, session.plan
    log.info("%s, sha256 %s, %s", p.model, p.bundle_sha256, session.artifact.file)
    log.info("%s %s, %s on %s", p.engine, p.provider, p.precision, p.device)
    log.info("%d workers, %d threads, batches of %d", plan.workers, plan.threads, plan.batch_size)
    log.info("abstention: %s, from %s on", p.abstention, p.abstain_at)


def find(
    paths: Iterable[Path],
    place: recording.Place | None,
    *,
    recursive: bool = True,
    limit: int | None = None,
    own: Sequence[Path] = (),
) -> Inputs:
    """The first `limit` files that were named or lie under folders that were, without the run's own output, which is
    `place` and whatever lies in the folders `own`."""
    found = files.find(paths, recursive=recursive)
    folders = {Path(os.path.realpath(folder)) for folder in own}
    kept = (
        path
        for path in found.paths
        if not (place is not None and place.is_own(path))
        and not (folders and folders & set(Path(os.path.realpath(path)).parents))
    )
    return Inputs(tuple(islice(kept, limit)), found.skipped)


def prepare(
    session: Session,
    inputs: Inputs,
    place: recording.Place | None,
    options: Options,
    *,
    overwrite: bool = False,
    going_on: bool = False,
    to_stdout: bool = False,
) -> Job:
    """Open the output, if there is one, and leave out what it has already; raises UsageError as `recording` does."""
    todo, labels = list(enumerate(inputs.paths)), session.bundle.labels
    describe(session)
    log.info("%d inputs, %d passed over", len(inputs.paths), inputs.skipped)
    if place is None:
        return Job(session, todo, Stdout(labels) if to_stdout else None, options, inputs.skipped)
    if not going_on:
        output = recording.begin(place, labels, overwrite=overwrite)
        return Job(session, todo, output, options, inputs.skipped)
    output, rest, notes = recording.go_on(place, labels, session.provenance, inputs.paths, options.name_by)
    there = [
        (line, inputs.paths[position])
        for line, position in enumerate(rest.positions)
        if position >= 0 and line not in rest.superseded
    ]
    job = Job(session, rest.todo, output, options, inputs.skipped, len(rest.finished), notes, there)
    log.info("%d inputs have their record, %d records are replaced", len(rest.finished), len(rest.superseded))
    for record in rest.finished:
        job.tally.count(record.status, record.label)
    return job


def earlier(job: Job) -> Iterator[tuple[Path, Prediction]]:
    """Each file that had its record already, with that record; before `score` begins."""
    if not isinstance(job.output, recording.Output):
        return
    files_of, labels = dict(job.earlier), job.session.bundle.labels
    for number, line in enumerate(whole_lines(job.output.left_in, resume.MAX_LINE)):
        if number in files_of:
            yield files_of[number], Prediction.from_record(json.loads(line), labels)


def score(
    job: Job,
    advance: Callable[[], object] = lambda: None,
    tell: Callable[[Path, Prediction], object] = lambda path, prediction: None,
    look: pipeline.Look | None = None,
) -> None:
    """Carry `run` out. Ctrl-C and SIGTERM end it with the batches in hand; only then isn't the output finished.

    `tell` gets each file and its prediction once the record is written; `look` has seen a picture that was
    answered before that.
    """
    begin = time.perf_counter()
    stopped = StopOnSignal()
    with stopped, job.output or nullcontext():
        answers = pipeline.stream(job.session, (path for _, path in job.todo), lambda: stopped.signal is not None, look)
        for (position, path), answer in zip(job.todo, answers, strict=False):
            prediction = answer if job.options.name_by == "path" else answer.without_name(position + 1)
            if job.output is not None:
                job.output.write(prediction, position)
            tell(path, prediction)
            job.tally.add(prediction)
            if len(job.tally.shown) == 1:
                log.debug("first record after %.3f s", time.perf_counter() - begin)
            advance()
            if job.options.fail_fast and prediction.status == "rejected":
                break
        job.signal = stopped.signal
        if job.signal is not None:
            log.info("stopped by signal %d, with everything in hand written", job.signal)
        if job.signal is None and job.output is not None:
            job.output.finish()
    job.seconds = time.perf_counter() - begin
