"""The default measurement: under a minute, for orientation, with its spread; not one by MLPerf's rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bench import environment, report, rounds
from edgecxr.bench.cold import cold_starts
from edgecxr.bench.pictures import Pictures, usable
from edgecxr.bench.rounds import Case
from edgecxr.bench.sessions import Opened, Subject, measurable, names, open_timed
from edgecxr.bench.stages import StageClock
from edgecxr.bundle import Bundle
from edgecxr.engines.select import ANYTHING, Asked
from edgecxr.errors import DeviceMemoryError, UsageError
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session

SECONDS = 40.0  # with loading and reading, under a minute
COLD_SHARE = 0.3  # of the time, for processes that start anew
CPU_BATCHES, GPU_BATCHES = (1, 2, 4, 8), (1, 8, 32, 128)

Advance = Callable[[str, int, int], Any]  # (what is being done, steps done, steps in all)


def bench(
    bundle: Bundle,
    files: Sequence[Path],
    asked: Asked = ANYTHING,
    *,
    beside: Sequence[Bundle] = (),
    batch_sizes: Sequence[int] | None = None,
    seconds: float = SECONDS,
    advance: Advance = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure each artifact on each installed engine, from files and model only, in about `seconds`.

    Bundles `beside` the first take turns with it, on the same files; each row then says whose it is (`model`).

    Returns the report as JSON-able data. What `what` of a result means: `model`, inputs ready in memory, every CPU on
    one call; `picture`, one file at a time, read to prediction; `folder`, files as `infer` takes them, which has a
    throughput and no latency of its own.

    Raises UsageError where the files hold no picture that can be scored or two bundles are the same,
    UnavailableError where nothing can run.
    """
    before = environment.snapshot()
    bundles = (bundle, *beside)
    models = names(bundles) if beside else [None]
    subjects: list[Subject] = []
    not_run: list[str] = []
    pictures: list[Pictures] = []  # of each bundle, whose contracts differ; the files that all of them take
    for each, model in zip(bundles, models, strict=True):
        chosen, reasons = measurable(each, asked)
        subjects += [Subject(each, choice, model) for choice in chosen]
        not_run += [reason if model is None else f"{model}: {reason}" for reason in reasons]
        left = pictures[-1].files if pictures else files
        pictures.append(usable(each, left, lambda done, total: advance("reading", done, total)))
    inputs = {model: found.inputs for model, found in zip(models, pictures, strict=True)}
    usable_files = pictures[-1].files
    starts = cold_starts(
        subjects,
        usable_files,
        COLD_SHARE * seconds,
        lambda done, total: advance("starting", done, total),
    )
    cases: list[Case] = []
    clocks: dict[int, StageClock] = {}  # of the case at that place
    for done, subject in enumerate(subjects):
        advance("loading", done, len(subjects))
        not_run += _add_cases(cases, clocks, subject, usable_files, inputs[subject.model], batch_sizes)
    samples = rounds.measure(cases, (1 - COLD_SHARE) * seconds, lambda done, total: advance("measuring", done, total))
    results = []
    for place, (case, taken) in enumerate(zip(cases, samples, strict=True)):
        if case.identity["what"] == "stages":
            continue
        results.append(
            {
                **case.identity,
                **rounds.summary(taken, case.pictures, latency=case.identity["what"] != "folder"),
                # The stages were measured next to the picture, by calls of their own.
                "stages_ms": clocks[place + 1].medians_ms() if place + 1 in clocks else None,
            }
        )
    described = environment.describe(before, environment.snapshot())
    return {
        **report.head("quick", bundle),
        **(
            {"models": [{"model": m, **report.about(b)} for m, b in zip(models, bundles, strict=True)]}
            if beside
            else {}
        ),
        "pictures": report.about_pictures(replace(pictures[-1], left_out=len(files) - len(usable_files))),
        "rounds": len(samples[0].rounds),
        "machine": described,
        "warnings": environment.warnings(described),
        "not_run": not_run,
        "results": results,
        "cold_start": starts,
    }


def _add_cases(
    cases: list[Case],
    clocks: dict[int, StageClock],
    subject: Subject,
    files: Sequence[Path],
    inputs: npt.NDArray[np.uint8],
    batch_sizes: Sequence[int] | None,
) -> tuple[str, ...]:
    """Add what is measured of a subject; why some of it isn't: batches that the device's memory doesn't hold."""
    too_large: list[str] = []
    latency, folder = open_timed(subject, workers=1), open_timed(subject)
    plan = folder.session.plan
    fill = plan.workers * plan.batch_size
    # Long enough that the pool's start and end don't count for much, short enough for six artifacts within a minute.
    portion = 6 * max(4, fill)
    for size in batch_sizes or (CPU_BATCHES if subject.choice.device == "cpu" else GPU_BATCHES):
        case = _model_case(latency, inputs, size)
        try:
            case.call()
        except DeviceMemoryError as error:
            too_large.append(f"{subject.told}, batches of {size}: {error}")
            continue
        cases.append(case)
    cases.append(Case(latency.identity("picture", 1), 1, _picture_call(latency.session, files), least=4, warm_up=2))
    clock = StageClock(latency.session, files)
    clocks[len(cases)] = clock
    cases.append(Case(latency.identity("stages", 1), 1, clock, least=4, warm_up=0))
    identity = folder.identity("folder", plan.batch_size)
    try:
        # Warms each worker up, where a portion would take seconds.
        _folder_call(folder.session, files, 2 * fill)()
    except DeviceMemoryError as error:
        return (*too_large, f"{subject.told}, a folder: {error}")
    cases.append(Case(identity, portion, _folder_call(folder.session, files, portion), least=1, warm_up=0))
    return tuple(too_large)


def _model_case(opened: Opened, inputs: npt.NDArray[np.uint8], size: int) -> Case:
    count = max(1, len(inputs) // size)
    batches = [np.take(inputs, range(i * size, (i + 1) * size), axis=0, mode="wrap") for i in range(count)]
    turns = itertools.cycle(batches)
    single = size == 1
    return Case(
        opened.identity("model", size),
        size,
        lambda: opened.session.engine.run(next(turns)),
        least=4 if single else 1,
        warm_up=4 if single else 0,  # it is called once before, to see whether it fits
    )


def _picture_call(session: Session, files: Sequence[Path]) -> Callable[[], Any]:
    turns = itertools.cycle(files)
    return lambda: _scored(pipeline.score(session, [next(turns)]))


def _folder_call(session: Session, files: Sequence[Path], portion: int) -> Callable[[], Any]:
    turns = itertools.cycle(files)
    return lambda: _scored(pipeline.stream(session, itertools.islice(turns, portion)))


def _scored(predictions: Iterable[Prediction]) -> None:
    """Take them all; raises UsageError where one is rejected, which is faster than any picture is scored."""
    for prediction in predictions:
        if prediction.status == "rejected":
            raise UsageError(f"a picture to measure on can't be scored any more: {prediction.error_message}")
