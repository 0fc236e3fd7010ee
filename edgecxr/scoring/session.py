"""A bundle's artifact, loaded on an engine, with a plan of how the work is spread."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from edgecxr.bundle import Artifact, Bundle
from edgecxr.engines import Engine, ort
from edgecxr.engines.select import ANYTHING, ROWS, Asked, Choice, choose, open_engine
from edgecxr.errors import UnavailableError, UsageError
from edgecxr.records.prediction import Provenance
from edgecxr.scoring import abstention, remembered
from edgecxr.scoring.abstention import ANSWERS_ALL, BUNDLES_OWN, Rule, Wish
from edgecxr.system import machine

log = logging.getLogger(__name__)  # names no picture

BATCH_SIZE = {"cpu": 1, "cuda": 32, "tensorrt": 32}  # on a CPU a batch only moves the working set out of the caches


@dataclass(frozen=True)
class Plan:
    """How the work is spread. On a CPU `workers` take a batch each, and one call of the engine uses `threads`.

    On a GPU `workers` decode, and one call at a time runs.

    ONNX Runtime's workers share one pool of `threads`, and a worker that runs the network is itself one of them: at
    most workers + threads - 1 are busy. In the other engines each call has its own: at most workers * threads.
    """

    workers: int
    threads: int
    batch_size: int


@dataclass(frozen=True)
class Session:
    """A bundle's artifact, loaded on an engine, with a plan."""

    bundle: Bundle
    artifact: Artifact
    engine: Engine
    plan: Plan
    rule: Rule = ANSWERS_ALL  # when a picture isn't answered
    tuned: bool = False  # whether `edgecxr tune` on this machine made the choice
    notes: list[str] = field(default_factory=list)  # what whoever started the run should know, in sentences

    def say(self, note: str) -> None:
        """Keep a note for the run's summary, and log it."""
        self.notes.append(note)
        log.warning("%s", note)

    @cached_property
    def provenance(self) -> Provenance:
        return Provenance(
            model=f"{self.bundle.name} {self.bundle.version}",
            bundle_sha256=self.bundle.digest,
            engine=self.engine.name,
            provider=self.engine.provider,
            device=self.engine.device,
            precision=self.engine.precision,
            abstention=self.rule.by,
            abstain_at=self.rule.threshold,
        )


def make_plan(
    device: str,
    cpus: int,
    *,
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    shared_pool: bool = True,
) -> Plan:
    """Fill in what wasn't asked for: on a CPU a one-threaded worker a CPU, on a GPU a decoder a CPU."""
    for name, value in (("workers", workers), ("threads", threads), ("batch size", batch_size)):
        if value is not None and not 1 <= value <= 4096:
            raise UsageError(f"{name} must be between 1 and 4096, got {value}")
    if device != "cpu":
        workers, threads = workers or cpus, threads or 1
    elif shared_pool:
        workers = workers or max(1, cpus - (threads or 1) + 1)
        threads = threads or max(1, cpus - workers + 1)
    else:
        workers = workers or max(1, cpus // (threads or 1))
        threads = threads or max(1, cpus // workers)
    return Plan(workers, threads, batch_size or BATCH_SIZE[device])


def plan_for(choice: Choice, cpus: int, **wanted: int | None) -> Plan:
    """As `make_plan`, for what is to be run."""
    return make_plan(choice.device, cpus, **wanted, shared_pool=ROWS[choice.engine].shared_pool)


def opened(bundle: Bundle, choice: Choice, plan: Plan, *, wish: Wish = BUNDLES_OWN, tuned: bool = False) -> Session:
    """Load what was chosen; raises UnavailableError and BundleError, and UsageError as `abstention.rule` does."""
    rule = abstention.rule(bundle.abstention, choice, wish)
    engine = open_engine(bundle, choice, plan.threads, plan.workers)
    return Session(bundle, choice.artifact, engine, plan, rule, tuned)


def open_session(
    bundle: Bundle,
    asked: Asked = ANYTHING,
    *,
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    wish: Wish = BUNDLES_OWN,
) -> Session:
    """Choose engine, device and artifact, load it, or raise UnavailableError before the first picture.

    Where `edgecxr tune` has found what is fastest for this bundle here, and nothing that was asked for by name
    contradicts it, that is taken; its workers, threads and batch only where none of the three was asked for.
    """
    shape = {"workers": workers, "threads": threads, "batch_size": batch_size}
    winner, note = remembered.remembered(bundle)
    notes = [] if note is None else [note]
    if winner is not None and remembered.suits(winner, asked):
        if shape == dict.fromkeys(shape):
            shape = {name: getattr(winner, name) for name in shape}
        try:
            return _open(bundle, remembered.choice(bundle, winner), shape, [], wish, tuned=True)
        except UnavailableError as error:
            notes.append(f"what edgecxr tune found fastest can't be used ({error}); tune again")
    choice = choose(bundle, asked)
    try:
        return _open(bundle, choice, shape, notes, wish)
    except UnavailableError as error:
        if asked.device != "auto" or choice.device == "cpu":
            raise
        notes.append(f"the GPU isn't used: {error}")
    return _open(bundle, choose(bundle, replace(asked, device="cpu")), shape, notes, wish)


def _open(
    bundle: Bundle,
    choice: Choice,
    shape: Mapping[str, int | None],
    notes: Sequence[str],
    wish: Wish,
    *,
    tuned: bool = False,
) -> Session:
    session = opened(bundle, choice, plan_for(choice, machine.cpus(), **shape), wish=wish, tuned=tuned)
    passed_over = [f"{choice.engine} runs in place of another engine: {reason}" for reason in choice.passed_over]
    for note in (*notes, *passed_over, *([ort.UNTESTED[choice.device]] if choice.device in ort.UNTESTED else ())):
        session.say(note)
    return session
