"""Cases in turn, round after round, so that a machine that warms up or is shared slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ROUNDS = 5
LEAST_ROUNDS = 3  # where the time runs out: below, a spread says nothing
# Fewest samples for a percentile to be given: below, a p99 is the largest value by another name.
LEAST = {50: 5, 90: 20, 99: 100}
QUANTILES = 101  # of a latency's distribution that a report keeps, from the fastest call to the slowest


@dataclass(frozen=True)
class Case:
    """Something to measure: each `call` does `pictures` pictures."""

    identity: dict[str, Any]
    pictures: int
    call: Callable[[], Any]
    least: int  # calls a round, at least
    warm_up: int  # calls before the first counted one: lazy allocation, first touch, clocks


@dataclass
class Samples:
    """Latencies of a case's calls in seconds, a list a round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def calls(self) -> list[float]:
        return [value for turn in self.rounds for value in turn]


def measure(
    cases: Sequence[Case], seconds: float, advance: Callable[[int, int], Any] = lambda done, total: None
) -> list[Samples]:
    """ROUNDS rounds of about `seconds` in all, fewer where the cases' least calls take longer than that.

    Never fewer than LEAST_ROUNDS, whatever the time.
    """
    begin = time.monotonic()
    for case in cases:
        for _ in range(case.warm_up):
            case.call()
    samples = [Samples() for _ in cases]
    share = max(0.0, seconds - (time.monotonic() - begin)) / (ROUNDS * len(cases))
    for turn in range(ROUNDS):
        if turn >= LEAST_ROUNDS and (time.monotonic() - begin) * (turn + 1) / turn > 1.1 * seconds:
            break
        for index, case in enumerate(cases):
            latencies: list[float] = []
            while sum(latencies) < share or len(latencies) < case.least:
                start = time.perf_counter()
                case.call()
                latencies.append(time.perf_counter() - start)
            samples[index].rounds.append(latencies)
            advance(turn * len(cases) + index + 1, ROUNDS * len(cases))
    return samples


def summary(samples: Samples, pictures: int, *, latency: bool) -> dict[str, Any]:
    """The figures of a case: percentiles in ms with their spread over the rounds, and throughput in pictures/s.

    A spread is the lowest and the highest of the rounds' own values. A percentile stands where there are calls enough
    for it (LEAST), its spread where each round has enough. `rounds` holds each round's median latency and throughput:
    what `compare` takes.
    """
    rates = [len(turn) * pictures / sum(turn) for turn in samples.rounds]
    figures: dict[str, Any] = {
        "samples": len(samples.calls),
        "throughput": float(np.median(rates)),
        "throughput_low": min(rates),
        "throughput_high": max(rates),
        "rounds": {"throughput": rates, "p50_ms": None},
        "quantiles_ms": None,
    }
    for q, least in LEAST.items():
        figures[f"p{q}_ms"] = percentile_ms(samples.calls, q, least) if latency else None
        each = [percentile_ms(turn, q, least) for turn in samples.rounds] if latency else [None]
        known = [value for value in each if value is not None]
        figures[f"p{q}_spread_ms"] = [min(known), max(known)] if len(known) == len(each) else None
    if latency:
        figures["rounds"]["p50_ms"] = [1e3 * float(np.median(turn)) for turn in samples.rounds]
        figures["quantiles_ms"] = [
            round(1e3 * float(value), 4) for value in np.quantile(samples.calls, np.linspace(0, 1, QUANTILES))
        ]
    return figures


def percentile_ms(calls: Sequence[float], q: int, least: int) -> float | None:
    """The q-th percentile of `calls` (s) in ms, or None of fewer than `least`."""
    return 1e3 * float(np.percentile(calls, q)) if len(calls) >= least else None
