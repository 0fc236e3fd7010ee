"""The rule of --compare, against probabilities computed by hand and a simulation."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest

from edgecxr.bench.compare import change, compare
from edgecxr.errors import UsageError


def verdict(before: list[float], after: list[float], *, latency: bool = True) -> str:
    return change({}, "", before, after, less_is_faster=latency).verdict


def test_a_change_lies_beyond_every_round_of_the_other() -> None:
    before = [10.0, 10.2, 9.9, 10.1, 10.3]
    assert verdict(before, [8.0, 8.1, 7.9, 8.2, 8.0]) == "faster"
    assert verdict(before, [12.0, 12.1, 11.9, 12.2, 12.0]) == "slower"
    assert verdict(before, [12.0, 12.1, 10.25, 12.2, 12.0]) == "same"  # one round overlaps
    assert verdict(before, [10.4, 10.4, 10.35, 10.32, 10.33]) == "same"  # apart, by less than 3 %
    assert verdict(before, [12.0, 12.1, 11.9, 12.2, 12.0], latency=False) == "faster"  # a throughput that rose
    assert verdict(before, [8.0, 8.1, 7.9, 8.2, 8.0], latency=False) == "slower"


def test_one_round_proves_nothing() -> None:
    assert verdict([10.0], [5.0]) == "same"
    assert verdict([10.0, 10.1], [5.0, 5.1]) == "same"  # 2 / C(4, 2) = 1 in 3
    assert verdict([10.0, 10.1, 10.2], [5.0, 5.1, 5.2]) == "faster"  # 2 / C(6, 3) = 1 in 10


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (3, 5)])
def test_the_chance_is_that_of_the_rounds_order(n: int, m: int) -> None:
    """Every order of n + m different numbers is as likely as any other: count those that are apart."""
    apart = orders = 0
    for chosen in itertools.combinations(range(n + m), n):
        rest = [i for i in range(n + m) if i not in chosen]
        orders += 1
        apart += max(chosen) < min(rest) or max(rest) < min(chosen)
    found = change({}, "", [1.0 + i / 100 for i in range(n)], [5.0 + i / 100 for i in range(m)], less_is_faster=True)
    assert found.chance == pytest.approx(apart / orders)


def test_noise_alone_is_seldom_called_a_change() -> None:
    rng = np.random.default_rng(0)
    calls = [verdict(*rng.lognormal(0, 0.1, (2, 5)).tolist()) for _ in range(4000)]
    # 2 / 252 = 0.8 %, of which some fall below the least change; 4 standard errors of 4,000 trials are 0.6 points
    assert sum(call != "same" for call in calls) / 4000 < 0.008 + 0.006


def report(**changes: Any) -> dict[str, Any]:
    row = {
        "artifact": "model.int8.onnx", "precision": "int8", "engine": "onnxruntime", "device": "cpu", "what": "model",
        "batch_size": 1, "workers": 1, "threads": 2,
        "rounds": {"p50_ms": [10.0, 10.1, 10.2, 10.3, 10.4], "throughput": [100.0, 99.0, 98.0, 97.0, 96.0]},
    }  # fmt: skip
    start = {name: row[name] for name in ("artifact", "precision", "engine", "device")}
    return {
        "kind": "quick",
        "results": [row],
        "cold_start": [{**start, "rounds": [1.0, 1.1, 1.2]}],
        "machine": {"cpu": "A", "packages": {"numpy": "2"}},
        "bundle": {"sha256": "0"},
        "pictures": {"count": 3},
        **changes,
    }


def test_a_report_equals_itself() -> None:
    found = compare(report(), report())
    assert [(row["ratio"], row["verdict"]) for row in found["changes"]] == [(1, "same"), (1, "same")]
    assert not found["only_before"]
    assert not found["machine_differs"]


def test_what_else_differs_is_named() -> None:
    other = report(machine={"cpu": "B", "packages": {"numpy": "2"}}, bundle={"sha256": "1"}, pictures={"count": 4})
    other["results"] = copy.deepcopy(other["results"])
    other["results"][0]["threads"] = 4
    found = compare(report(), other)
    assert found["machine_differs"] == ["cpu"]
    assert found["bundle_differs"]
    assert found["pictures_differ"]
    assert [row["threads"] for row in found["only_before"]] == [2]
    assert [row["threads"] for row in found["only_after"]] == [4]


def test_reports_that_cant_be_compared_are_refused() -> None:
    with pytest.raises(UsageError, match="of kind mlperf"):
        compare(report(kind="mlperf"), report())
    with pytest.raises(UsageError, match="lacks or garbles a field"):
        compare({"kind": "quick"}, report())
    garbled = report()
    garbled["results"][0]["rounds"] = {"p50_ms": ["fast"], "throughput": []}
    with pytest.raises(UsageError, match="lacks or garbles a field"):
        compare(garbled, report())
    good = [1.0, 1.0, 1.0]
    for rounds in ([0, 0, 0], [10**400], [math.nan], [math.inf], [-1.0], [], ["1"], None):
        # Against itself, whichever figure another report will be compared by.
        for other in (None, good):
            garbled["results"][0]["rounds"] = {"p50_ms": other, "throughput": rounds}
            with pytest.raises(UsageError, match="lacks or garbles a field"):
                compare(garbled, garbled)
        if rounds is not None:
            garbled["results"][0]["rounds"] = {"p50_ms": rounds, "throughput": good}
            with pytest.raises(UsageError, match="lacks or garbles a field"):
                compare(garbled, garbled)
    for field in ("results", "cold_start", "machine", "bundle"):
        for value in (None, 3, "text"):
            with pytest.raises(UsageError, match="lacks or garbles a field"):
                compare({**report(), field: value}, {**report(), field: value})
