"""What is measured: each artifact of the bundle on each engine that is installed, loaded and timed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecxr.bundle import Artifact, Bundle
from edgecxr.engines.select import Asked, Choice, choices, in_software
from edgecxr.errors import UnavailableError, UsageError
from edgecxr.scoring.session import Session, opened, plan_for
from edgecxr.system import machine


def measurable(bundle: Bundle, asked: Asked) -> tuple[list[Choice], tuple[str, ...]]:
    """What can be measured here, and what can't, each with the reason; raises UnavailableError where nothing can."""
    found, not_run = choices(bundle, asked)
    chosen = [c for c in found if not in_software(c.engine, c.precision, c.device)]
    if not chosen:
        why = f": {'; '.join(not_run)}" if not_run else ""
        raise UnavailableError(
            f"the bundle holds nothing that can be measured with precision {asked.precision} on {asked.device}{why}"
        )
    return chosen, not_run


@dataclass(frozen=True)
class Subject:
    """Something to measure: an artifact of a bundle on an engine and a device."""

    bundle: Bundle
    choice: Choice
    model: str | None = None  # what the bundle is called, where several are measured

    @property
    def told(self) -> str:
        of = "" if self.model is None else f" of {self.model}"
        return f"{self.choice.artifact.file}{of} on {self.choice.engine}"


def names(bundles: Sequence[Bundle]) -> list[str]:
    """A name for each of several bundles: as short as tells them apart; raises UsageError where two are the same."""
    if len({bundle.digest for bundle in bundles}) < len(bundles):
        raise UsageError("the same model is given twice: it would be measured against itself")
    found = [
        [bundle.name for bundle in bundles],
        [f"{bundle.name} {bundle.version}" for bundle in bundles],
        [f"{bundle.name} {bundle.version} {bundle.digest[:8]}" for bundle in bundles],
    ]
    return next(row for row in found if len(set(row)) == len(row))


@dataclass(frozen=True)
class Opened:
    """A loaded session, and how long reading, checking and loading the artifact took."""

    session: Session
    load_ms: float
    model: str | None = None  # what its bundle is called, where several are measured

    def identity(self, what: str, batch_size: int) -> dict[str, Any]:
        """What tells a measured case from the others of a report, as its row begins."""
        artifact, plan, engine = self.session.artifact, self.session.plan, self.session.engine
        return {
            **({} if self.model is None else {"model": self.model}),
            "artifact": artifact.file,
            "precision": engine.precision,
            "engine": engine.name,
            "provider": engine.provider,
            "device": engine.device,
            "what": what,
            "workers": plan.workers,
            "threads": plan.threads,
            "batch_size": batch_size,
            "load_ms": self.load_ms,
            "megabytes": artifact.bytes / 1e6,
            "accuracy": accuracy(self.session.bundle, artifact),
        }


def open_timed(subject: Subject, workers: int | None = None) -> Opened:
    """Load it with the plan that `infer` would make, or with `workers`."""
    plan = plan_for(subject.choice, machine.cpus(), workers=workers)
    begin = time.perf_counter()
    session = opened(subject.bundle, subject.choice, plan)
    return Opened(session, 1e3 * (time.perf_counter() - begin), subject.model)


def accuracy(bundle: Bundle, artifact: Artifact) -> dict[str, Any] | None:
    """What the bundle says of the artifact's accuracy when it was exported: value, split and pictures; None without.

    It was measured on one engine, where the artifact was made; other engines round elsewhere.
    """
    parity = artifact.details.get("parity")
    if not isinstance(parity, Mapping) or type(parity.get("accuracy")) not in (int, float):
        return None
    return {"value": float(parity["accuracy"]), "split": parity.get("split"), "pictures": parity.get("pictures")}
