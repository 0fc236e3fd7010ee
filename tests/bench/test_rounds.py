"""Rounds, percentiles and their spread; the clock is ours, so that nothing depends on the machine's speed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgecxr.bench import rounds, spread
from edgecxr.bench.rounds import Case, Samples
from edgecxr.bench.stages import STAGES, StageClock
from edgecxr.bundle import load
from edgecxr.engines import Outputs
from edgecxr.engines.select import Asked
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session


class Clock:
    """Time that passes only in calls."""

    def __init__(self) -> None:
        self.now = 0.0

    def case(self, name: str, seconds: float, least: int = 1, order: list[str] | None = None) -> Case:
        def call() -> None:
            self.now += seconds
            if order is not None and (not order or order[-1] != name):
                order.append(name)

        return Case({"what": name}, 1, call, least=least, warm_up=0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    time = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: clock.now)
    monkeypatch.setattr(rounds, "time", time)
    return clock


def test_cases_take_turns(clock: Clock) -> None:
    order: list[str] = []
    cases = [clock.case("a", 0.25, order=order), clock.case("b", 0.5, order=order)]
    samples = rounds.measure(cases, 20.0)
    assert order == ["a", "b"] * 5
    # 20 s over 5 rounds of 2 cases: 2 s a turn
    assert [[len(turn) for turn in found.rounds] for found in samples] == [[8] * 5, [4] * 5]


def test_slow_cases_get_fewer_rounds_and_never_fewer_than_three(clock: Clock) -> None:
    assert len(rounds.measure([clock.case("slow", 1.0, least=4)], 1.0)[0].rounds) == 3
    assert len(rounds.measure([clock.case("slow", 1.0, least=4)], 16.0)[0].rounds) == 4
    assert len(rounds.measure([clock.case("slow", 1.0, least=4)], 20.0)[0].rounds) == 5


def test_a_percentile_stands_where_there_are_calls_enough() -> None:
    # 5 rounds of 25 calls: 125 for the p99, and 25 a round for the p90's spread
    values = [[(turn + 1) * 0.001 + call * 1e-5 for call in range(25)] for turn in range(5)]
    found = rounds.summary(Samples(values), 1, latency=True)
    every = np.array(values).ravel()
    for q in (50, 90, 99):
        assert found[f"p{q}_ms"] == pytest.approx(1e3 * np.percentile(every, q))
    assert found["p50_spread_ms"] == pytest.approx([1e3 * np.median(values[0]), 1e3 * np.median(values[4])])
    assert found["p90_spread_ms"] == pytest.approx(
        [1e3 * np.percentile(values[0], 90), 1e3 * np.percentile(values[4], 90)]
    )
    assert found["p99_spread_ms"] is None
    assert (found["quantiles_ms"][0], found["quantiles_ms"][-1]) == pytest.approx((1.0, 5.24))
    few = rounds.summary(Samples([[0.001, 0.002], [0.001, 0.003]]), 1, latency=True)
    assert (few["p50_ms"], few["p90_ms"], few["p99_ms"], few["p50_spread_ms"]) == (None, None, None, None)


def test_throughput_is_the_rounds_median_with_the_slowest_and_the_fastest() -> None:
    found = rounds.summary(Samples([[1.0], [2.0, 2.0], [4.0]]), 8, latency=False)
    assert (found["throughput"], found["throughput_low"], found["throughput_high"]) == (4.0, 2.0, 8.0)
    assert found["rounds"] == {"throughput": [8.0, 4.0, 2.0], "p50_ms": None}
    assert found["p50_ms"] is None


def test_spread_is_even_and_within() -> None:
    assert spread(10, 3) == [0, 3, 6]
    assert spread(2, 5) == [0, 1]
    assert spread(0, 5) == []


def test_stages_do_what_the_pipeline_does(tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    files = [picture(f"{i}.png", seed=i) for i in range(2)]
    session = open_session(load(tiny_bundle), Asked(engine="onnxruntime"), workers=1)
    clock = StageClock(session, files)
    asked: list[np.ndarray] = []
    run = session.engine.run

    def watched(images: np.ndarray) -> Outputs:
        asked.append(images.copy())
        return run(images)

    session.engine.run = watched  # type: ignore[method-assign]
    for _ in range(3):
        clock()
    expected = [pipeline.prepare_input(session, file) for file in (files[0], files[1], files[0])]
    assert np.array_equal(np.stack(asked)[:, 0, :, :, 0], np.stack(expected))
    assert list(clock.medians_ms()) == list(STAGES)
    assert np.array(clock.seconds).shape == (3, 5)
    assert min(clock.medians_ms().values()) > 0
