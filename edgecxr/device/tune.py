"""`edgecxr tune`: which way of running a bundle is fastest on this machine, of those that give its answers.

Successive halving (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
AISTATS 2016) over at most MAX_CONFIGURATIONS: all are measured in turn, the slower half is left out, and the rest has
twice the time. What fails `verify`, or strays on the pictures from what its artifact answers elsewhere by more than
`verify` accepts, is left out whatever its speed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bundle import Bundle
from edgecxr.device.golden import GoldenCheck
from edgecxr.device.verify import verify
from edgecxr.engines.select import (
    ANYTHING,
    FROM_FP32,
    INTEGERS,
    SYMMETRIC,
    Asked,
    Choice,
    choices,
    choose,
    fingerprint,
    in_software,
)
from edgecxr.errors import DeviceMemoryError, GateError, UnavailableError, UsageError
from edgecxr.scoring import pipeline
from edgecxr.scoring.remembered import Configuration
from edgecxr.scoring.session import Plan, Session, make_plan, opened, plan_for
from edgecxr.system import machine

SCHEMA = 1
MAX_CONFIGURATIONS = 8
LAPS = 3  # turns of each configuration in a round: a machine that warms up or is shared slows all of them
MIN_LAP_SECONDS = 0.2
CHECKED = 16  # pictures on which answers are compared
MARGIN = 1.02  # below this gain over what `auto` takes by itself, nothing is changed
CHANCE = 0.1  # and nothing where two of the same speed would come out as far apart in their laps as often as this

Advance = Callable[[int, int], Any]


@dataclass
class Candidate:
    """A configuration, what it was measured to do, and why it was left out, if it was."""

    configuration: Configuration
    choice: Choice
    rates: list[float] = field(default_factory=list)  # pictures/s, one a lap
    left_out: str = ""
    label_changes: int | None = None  # of the pictures whose answers were compared with those of `auto` by itself
    logits: npt.NDArray[np.float32] | None = None  # of those pictures, (N, K)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates) if self.rates else 0.0


@dataclass(frozen=True)
class Tuning:
    """What was found. `candidates` are in the order in which they did best; the first of them is the winner."""

    candidates: tuple[Candidate, ...]
    usual: Configuration  # what `auto` takes by itself
    pictures: int
    seconds: float
    not_run: tuple[str, ...] = ()  # what can't be run or used here, with the reason

    @property
    def winner(self) -> Candidate:
        return self.candidates[0]

    @property
    def gain(self) -> float | None:
        """The winner's rate over that of what `auto` takes by itself; None where that can't be run."""
        usual = next((c for c in self.candidates if c.configuration == self.usual and c.rates), None)
        return self.winner.rate / usual.rate if usual else None

    def to_json(self) -> dict[str, Any]:
        rows = [
            {
                **asdict(c.configuration),
                "pictures_per_second": c.rate or None,
                "slowest": min(c.rates, default=None),
                "fastest": max(c.rates, default=None),
                "laps": len(c.rates),
                "label_changes": c.label_changes,
                "left_out": c.left_out or None,
            }
            for c in self.candidates
        ]
        return {
            "schema": SCHEMA,
            "kind": "tune",
            "pictures": self.pictures,
            "seconds": self.seconds,
            "machine": fingerprint(),
            "usual": asdict(self.usual),
            "winner": asdict(self.winner.configuration),
            "gain": self.gain,
            "configurations": rows,
            "not_run": list(self.not_run),
        }


def configurations(found: Sequence[Choice], cpus: int) -> list[Configuration]:
    """At most MAX_CONFIGURATIONS ways to run `found`, which is in order of preference: each once, then more shapes."""
    ways = [_shapes(choice.device, cpus) for choice in found]
    rounds = itertools.zip_longest(*ways)
    every = [
        Configuration(choice.artifact.file, choice.engine, choice.device, choice.precision, *shape)
        for shapes in rounds
        for choice, shape in zip(found, shapes, strict=True)
        if shape is not None
    ]
    return every[:MAX_CONFIGURATIONS]


def _shapes(device: str, cpus: int) -> list[tuple[int, int, int]]:
    """(workers, threads, batch size) to try, the usual one first."""
    if device != "cpu":
        usual = make_plan(device, cpus)
        return [(usual.workers, usual.threads, size) for size in (usual.batch_size, 128, 8)]
    shapes = [(cpus, 1, 1), (1, cpus, 1), (cpus, 1, 4), (cpus + 1, 1, 1)]
    return list(dict.fromkeys(shapes))


def halve(
    candidates: Sequence[Candidate],
    measure: Callable[[Candidate, float], float],
    remaining: Callable[[], float],
    advance: Advance = lambda done, total: None,
) -> None:
    """Measure `candidates` in turn, LAPS times a round; after each the slower half is left out, until two are left.

    The first of them is what the others are compared with, and stays to the end. `measure` takes a candidate and
    seconds and gives pictures/s; `remaining` gives the seconds that are left for all. Once there are none, no further
    lap begins, but for the first.
    """
    racing = list(candidates)
    rounds = max(1, math.ceil(math.log2(max(2, len(racing)))))
    for number in range(rounds):
        share = max(MIN_LAP_SECONDS, remaining() / (rounds - number) / (LAPS * len(racing)))
        for lap in range(LAPS):
            if number + lap > 0 and remaining() <= 0:
                return
            for place, candidate in enumerate(racing):
                candidate.rates.append(measure(candidate, share))
                done = (number * LAPS + lap) * len(racing) + place + 1
                advance(done, max(done, rounds * LAPS * len(racing)))
        if number < rounds - 1:
            others = sorted((c for c in racing if c is not candidates[0]), key=lambda c: -c.rate)
            kept = max(2, math.ceil(len(racing) / 2)) - 1
            for slower in others[kept:]:
                slower.left_out = f"slower, after round {number + 1}"
            racing = [candidates[0], *others[:kept]]


def tune(
    bundle: Bundle,
    files: Sequence[Path],
    asked: Asked = ANYTHING,
    *,
    seconds: float = 120.0,
    advance: Advance = lambda done, total: None,
) -> Tuning:
    """Find what runs `files`, which can be scored, fastest in about `seconds`; what was asked for by name stays.

    Raises UnavailableError where nothing can be run, GateError where nothing gives the bundle's answers.
    """
    begin = time.perf_counter()
    usual_choice = choose(bundle, asked)
    cpus = machine.cpus()
    checks = _verified(bundle, asked)
    measurable, not_run = _measurable(bundle, asked)
    found = sorted(measurable, key=lambda c: c != usual_choice)
    candidates = [Candidate(c, _choice(found, c)) for c in configurations(found, cpus)]
    for candidate in candidates:
        check = checks.get(_key(candidate.choice))
        if check is None or not check.passed:
            candidate.left_out = "fails verify"
    mixed = list(files)
    random.Random(0).shuffle(mixed)  # folders hold a class each, and classes come from different devices
    sessions = _Sessions(bundle, mixed)
    _compare(candidates, checks, sessions, seconds / 4)
    racing = [candidate for candidate in candidates if not candidate.left_out]
    if not racing:
        reasons = "; ".join(f"{c.configuration.engine} {c.configuration.precision}: {c.left_out}" for c in candidates)
        raise GateError(f"nothing that this machine can run gives the bundle's answers ({reasons})")
    halve(racing, sessions.measure, lambda: seconds - (time.perf_counter() - begin), advance)
    plan = plan_for(usual_choice, cpus)
    usual = Configuration(
        usual_choice.artifact.file,
        usual_choice.engine,
        usual_choice.device,
        usual_choice.precision,
        plan.workers,
        plan.threads,
        plan.batch_size,
    )
    return Tuning(_ordered(candidates, usual), usual, len(files), time.perf_counter() - begin, not_run)


def _ordered(candidates: Sequence[Candidate], usual: Configuration) -> tuple[Candidate, ...]:
    """Those that ran to the end, fastest first, then the others; what is usual ahead where the gain is too small."""

    def merit(candidate: Candidate) -> tuple[bool, float]:
        return bool(candidate.left_out), -candidate.rate

    ordered = sorted(candidates, key=merit)
    for candidate in ordered:
        if candidate.configuration != usual or not candidate.rates or candidate is ordered[0]:
            continue
        if ordered[0].rate < MARGIN * candidate.rate or chance(ordered[0].rates, candidate.rates) > CHANCE:
            ordered[0].left_out = ordered[0].left_out or "faster by no more than chance explains"
            candidate.left_out = ""
            ordered.remove(candidate)
            return (candidate, *ordered)
    return tuple(ordered)


def chance(rates: Sequence[float], others: Sequence[float]) -> float:
    """How often one of two of the same speed wins as many laps as `rates` did: the one-sided sign test over laps.

    Laps were driven in turn, so that whatever slows the machine slows both of a pair.
    """
    pairs = list(zip(rates, others, strict=False))
    won = sum(ours > theirs for ours, theirs in pairs)
    return 0.5 ** len(pairs) * sum(math.comb(len(pairs), count) for count in range(won, len(pairs) + 1))


def _measurable(bundle: Bundle, asked: Asked) -> tuple[list[Choice], tuple[str, ...]]:
    """Everything that could be run, int8 first, then what is computed from fp32 in fewer bits, then the rest.

    And what couldn't, with the reason; that a precision which wasn't asked for isn't computed here is none.
    """
    found, not_run = choices(bundle, asked)
    every = list(found)
    for computed in FROM_FP32 if asked.precision == "auto" else ():
        with contextlib.suppress(UnavailableError):
            every += choices(bundle, replace(asked, precision=computed))[0]
    able = [c for c in every if not in_software(c.engine, c.precision, c.device)]
    if asked.precision == "auto":  # what it finds is for `auto`, which never takes these
        able = [c for c in able if c.precision != SYMMETRIC]
    order = (*INTEGERS, "fp16", *FROM_FP32, "fp32")
    return sorted(able, key=lambda c: order.index(c.precision)), not_run


def _verified(bundle: Bundle, asked: Asked) -> dict[tuple[str, str, str, str], GoldenCheck]:
    """What `verify` found of each artifact, engine, device and precision."""
    checks: list[GoldenCheck] = []
    for precision in (asked.precision, *FROM_FP32) if asked.precision == "auto" else (asked.precision,):
        try:
            checks += verify(bundle, replace(asked, precision=precision)).golden
        except UnavailableError:
            if precision == asked.precision:
                raise
    return {(c.artifact, c.engine, c.device, c.precision): c for c in checks}


def _key(choice: Choice) -> tuple[str, str, str, str]:
    return choice.artifact.file, choice.engine, choice.device, choice.precision


def _choice(found: Sequence[Choice], wanted: Configuration) -> Choice:
    key = (wanted.artifact, wanted.engine, wanted.device, wanted.precision)
    return next(choice for choice in found if _key(choice) == key)


class _Sessions:
    """A session for each candidate, opened when it is first needed, and its own endless turn of the pictures."""

    def __init__(self, bundle: Bundle, files: Sequence[Path]) -> None:
        self.bundle, self.files = bundle, files
        self._opened: dict[Configuration, Session] = {}
        self._turns: dict[Configuration, Iterator[Path]] = {}

    def of(self, candidate: Candidate) -> Session:
        wanted = candidate.configuration
        if wanted not in self._opened:
            plan = Plan(wanted.workers, wanted.threads, wanted.batch_size)
            self._opened[wanted] = opened(self.bundle, candidate.choice, plan)
            self._turns[wanted] = itertools.cycle(self.files)
        return self._opened[wanted]

    def measure(self, candidate: Candidate, seconds: float) -> float:
        """Pictures/s over about `seconds`, from files to predictions."""
        session, done = self.of(candidate), 0
        begin = time.perf_counter()
        turn = self._turns[candidate.configuration]
        for _ in pipeline.stream(session, turn, lambda: time.perf_counter() - begin >= seconds):
            done += 1
        return done / (time.perf_counter() - begin)


def _compare(
    candidates: Sequence[Candidate],
    checks: dict[tuple[str, str, str, str], GoldenCheck],
    sessions: _Sessions,
    seconds: float,
) -> None:
    """Warm each up on some pictures, and leave out those that answer otherwise there than `verify` accepts."""
    some, share = sessions.files[:CHECKED], seconds / len(candidates)
    for candidate in candidates:
        if candidate.left_out:
            continue
        try:
            session = sessions.of(candidate)
        except UnavailableError as error:
            candidate.left_out = str(error)
            continue
        begin = time.perf_counter()
        try:
            answers = list(pipeline.stream(session, some, lambda begin=begin: time.perf_counter() - begin >= share))  # type: ignore[misc]
        except DeviceMemoryError as error:
            candidate.left_out = str(error)
            continue
        if session.notes:  # such as that batches were halved: measured would be another configuration
            candidate.left_out = session.notes[-1]
            continue
        if any(answer.status == "rejected" for answer in answers):
            raise UsageError("a picture to tune on can't be scored any more; did the folder change meanwhile?")
        candidate.logits = np.array([list(answer.logits.values()) for answer in answers], dtype=np.float32)
    answered = [(candidate, candidate.logits) for candidate in candidates if candidate.logits is not None]
    common = min((len(logits) for _, logits in answered), default=0)  # that even the slowest had time for
    for candidate, logits in answered:
        candidate.label_changes = int((logits[:common].argmax(1) != answered[0][1][:common].argmax(1)).sum())
        check = checks[_key(candidate.choice)]
        reference = next((theirs for other, theirs in answered if _refers(check, other)), logits)
        # Written so that a NaN fails.
        if not np.abs(logits[:common] - reference[:common]).max() <= check.tolerance:
            candidate.left_out = "strays on the pictures from its artifact's answers by more than verify accepts"


def _refers(check: GoldenCheck, candidate: Candidate) -> bool:
    """Whether a candidate's answers are those with which `verify` compares."""
    artifact = candidate.choice.artifact
    return (artifact.file, candidate.choice.engine, artifact.precision) == (
        check.artifact,
        check.reference,
        candidate.choice.precision,
    )
