"""MLPerf's scenarios: what LoadGen's summary says, how queries are answered, and LoadGen itself where it is there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecxr.bench import mlperf
from edgecxr.bench.pictures import usable
from edgecxr.bundle import load
from edgecxr.engines.select import Asked
from edgecxr.errors import EdgecxrError
from edgecxr.scoring.session import open_session

# As LoadGen 6.0.17 wrote them here, shortened.
SINGLE = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : SingleStream
Mode     : PerformanceOnly
90.0th percentile latency (ns) : 2101766
Result is : VALID
  Min duration satisfied : Yes
  Min queries satisfied : Yes
  Early stopping satisfied: Yes
Early Stopping Result:
 * Processed at least 64 queries (928).
 * Would discard 70 highest latency queries.
 * Early stopping 90.0th percentile estimate: 2103779
 * Early stopping 99.0th percentile estimate: 6176638

================================================
Additional Stats
================================================
QPS w/ loadgen overhead         : 463.46
QPS w/o loadgen overhead        : 464.33

Mean latency (ns)               : 2153640
50.00 percentile latency (ns)   : 2082277
99.90 percentile latency (ns)   : 11397789

================================================
Test Parameters Used
================================================
samples_per_query : 1
"""
MULTI = """\
Scenario : MultiStream
99.0th percentile latency (ns) : 24596745
Result is : INVALID
  Min duration satisfied : Yes
  Min queries satisfied : Yes
  Early stopping satisfied: NO
Recommendations:
Early Stopping Result:
 * Only processed 116 queries.
 * Need to process at least 662 queries for early stopping.

Per-query latency:
99.00 percentile latency (ns)   : 24596745
samples_per_query : 8
"""
OFFLINE = """\
Scenario : Offline
Samples per second: 1.33e+03
Result is : INVALID
  Min duration satisfied : NO
  Min queries satisfied : Yes
samples_per_query : 1100
"""


def test_the_summary_is_taken_at_its_word() -> None:
    found = mlperf.parse(SINGLE)
    assert (found["result"], found["valid"], found["unmet"]) == ("VALID", True, [])
    assert found["early_stopping_ms"] == {"p90": 2.103779, "p99": 6.176638}
    assert found["latency_ms"] == {"p50": 2.082277, "p99.9": 11.397789}
    assert (found["throughput"], found["samples_per_query"]) == (464.33, 1)
    found = mlperf.parse(MULTI)
    assert (found["valid"], found["unmet"], found["early_stopping_ms"]) == (False, ["Early stopping"], {})
    found = mlperf.parse(OFFLINE)
    assert (found["valid"], found["unmet"], found["throughput"]) == (False, ["Min duration"], 1330)
    with pytest.raises(EdgecxrError, match="wrote no result"):
        mlperf.parse("")


@pytest.mark.parametrize(
    ("summary", "scenario", "conforms", "says"),
    [
        (SINGLE, "SingleStream", True, "SingleStream: 2.10 ms (early-stopping estimate of p90), VALID"),
        (MULTI, "MultiStream", False, "24.60 ms (p99, too few queries for an estimate), INVALID (Early stopping not"),
        (
            OFFLINE,
            "Offline",
            False,
            "1330.00 samples/s, INVALID (Min duration not satisfied); shorter than 600 s, doesn't",
        ),
    ],
)
def test_the_headline_is_mlperfs_metric_with_the_verdict(
    summary: str, scenario: str, conforms: bool, says: str
) -> None:
    line = mlperf.headline({**mlperf.parse(summary), "scenario": scenario, "conforms": conforms})
    assert says in line
    assert ("doesn't conform" in line) != conforms


class FakeLoadGen:
    """Takes answers down, as LoadGen would."""

    def __init__(self) -> None:
        self.answered: list[int] = []

    def QuerySampleResponse(self, number: int, data: int, size: int) -> int:  # noqa: N802  LoadGen's name
        return number

    def QuerySamplesComplete(self, responses: list[int]) -> None:  # noqa: N802
        self.answered += responses


@pytest.fixture
def system(tiny_bundle: Path, picture: Callable[..., Path]) -> Iterator[tuple[Any, FakeLoadGen]]:
    files = [picture(f"{i}.png", seed=i) for i in range(3)]
    bundle = load(tiny_bundle)
    session = open_session(bundle, Asked(engine="onnxruntime"), workers=2, threads=1)
    loadgen = FakeLoadGen()
    made = mlperf._System(loadgen, session, usable(bundle, files), lambda done, total: None)
    made.load(range(3))
    yield made, loadgen


def query(indices: list[int]) -> list[SimpleNamespace]:
    return [SimpleNamespace(id=100 + place, index=index) for place, index in enumerate(indices)]


@pytest.mark.parametrize("indices", [[2], [0, 1, 2, 0, 1, 2, 0, 1], [i % 3 for i in range(600)]])
def test_every_sample_is_answered_once_with_its_own_picture(
    system: tuple[Any, FakeLoadGen], indices: list[int]
) -> None:
    under_test, loadgen = system
    seen: list[np.ndarray] = []
    logits = under_test.logits
    under_test.logits = lambda inputs: seen.append(inputs.copy()) or logits(inputs)
    under_test.issue(query(indices))
    assert under_test.failure is None
    assert sorted(loadgen.answered) == [100 + place for place in range(len(indices))]
    given = np.concatenate(seen)
    counts = [sum(np.array_equal(row, under_test.inputs[index]) for row in given) for index in range(3)]
    assert counts == [indices.count(index) for index in range(3)]


def test_a_failure_ends_the_run_and_is_told(system: tuple[Any, FakeLoadGen]) -> None:
    under_test, loadgen = system
    logits = under_test.logits

    def broken(inputs: np.ndarray) -> np.ndarray:
        if np.array_equal(inputs[0], under_test.inputs[1]):
            raise RuntimeError("by design")
        return logits(inputs)

    under_test.logits = broken
    under_test.issue(query([0, 1, 2, 0]))
    # Each exactly once: LoadGen waits for every sample, and counts on no second answer.
    assert sorted(loadgen.answered) == [100, 101, 102, 103]
    loadgen.answered.clear()
    under_test.issue(query([0, 0]))
    assert sorted(loadgen.answered) == [100, 101]
    assert str(under_test.failure) == "by design"


@pytest.mark.parametrize("scenario", ["single", "multi", "offline"])
def test_loadgen_runs_and_judges(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], tiny_bundle: Path, tmp_path: Path, scenario: str
) -> None:
    pytest.importorskip("mlperf_loadgen", reason="the extra loadgen")
    target = tmp_path / "m.json"
    done = edgecxr("bench", "-m", tiny_bundle, "--mlperf", scenario, "--seconds", 1, "-o", target, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(target.read_text())
    assert (report["kind"], report["scenario"]) == ("mlperf", mlperf.SCENARIOS[scenario])
    assert report["result"] in ("VALID", "INVALID")
    assert report["result"] in report["summary"]
    assert report["conforms"] is False
    assert "doesn't conform to the rules" in done.stdout
    assert report["samples_per_query"] == {"single": 1, "multi": 8}.get(scenario, report["samples_per_query"])
    assert "qsl_rng_seed : 0\n" not in report["summary"]  # the seeds of MLPerf's own configuration


def test_ctrl_c_ends_a_loadgen_run_at_once(tiny_bundle: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="the extra loadgen")
    code = (
        "import edgecxr.bench.mlperf as m, sys\n"
        "load = m._System.load\n"
        "def loaded(self, indices):\n"
        "    load(self, indices); print('loaded', flush=True)\n"
        "m._System.load = loaded\n"
        f"sys.argv = ['edgecxr', 'bench', '-m', {str(tiny_bundle)!r}, '--mlperf', 'single']\n"
        "from edgecxr.cli import main; main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the warm-up's
        process.stdout.readline()  # LoadGen's: its clock starts
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
