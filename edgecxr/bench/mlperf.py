"""One artifact by MLPerf Inference's rules, driven by MLCommons' own LoadGen (extra: loadgen).

LoadGen decides which picture comes when, takes the times, and says VALID or INVALID; nothing of that is computed here.
As its rules have it, pictures are decoded and prepared before the clock starts, and a sample is done when its answer
(calibrated probabilities) lies in memory. The network and the pictures are not MLPerf's, and nobody at MLCommons has
verified the result: it says how this model does by those rules, and is no MLPerf result.

Rules: "MLPerf Inference Rules" and `mlperf.conf` of mlcommons/inference: 600 s at least; single stream, p90; multi
stream, 8 samples a query, p99, 662 queries at least; offline, as many samples as the data set has, at least.
"""

from __future__ import annotations

import functools
import itertools
import re
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bench import environment, report
from edgecxr.bench.pictures import Pictures, usable
from edgecxr.bundle import Bundle
from edgecxr.engines.select import Asked
from edgecxr.errors import EdgecxrError, UnavailableError
from edgecxr.scoring import pipeline
from edgecxr.scoring.postprocess import probabilities
from edgecxr.scoring.session import Session, open_session
from edgecxr.system import machine

SECONDS = 600.0  # the rules' minimum; a shorter run doesn't conform
INSTALL = "pip install 'edgecxr[loadgen]'"
SCENARIOS = {"single": "SingleStream", "multi": "MultiStream", "offline": "Offline"}
MULTI_SAMPLES = 8
LEAST_QUERIES = {"single": 64, "multi": 662, "offline": 1}  # that the early-stopping estimates need at p90 and p99
WARM_UP = 5
PORTION = 256  # samples of an offline query between two looks at the progress bar


def load_loadgen() -> Any:
    """LoadGen's bindings; raises UnavailableError where they aren't installed."""
    try:
        return import_module("mlperf_loadgen")
    except ImportError as error:
        raise UnavailableError(f"--mlperf needs the package mlcommons-loadgen, run: {INSTALL} ({error})") from None


def mlperf(
    session: Session,
    files: Sequence[Path],
    scenario: str,
    *,
    seconds: float = SECONDS,
    advance: Callable[[str, int, int], Any] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Run a scenario (`single`, `multi` or `offline`) for at least `seconds`; the report as JSON-able data.

    Ctrl-C ends the process at once: LoadGen can't be stopped, and half a run has no result.
    Raises UnavailableError without LoadGen, UsageError where the files hold no picture that can be scored.
    """
    loadgen = load_loadgen()
    bundle = session.bundle
    pictures = usable(bundle, files, lambda done, total: advance("reading", done, total))
    system = _System(loadgen, session, pictures, lambda done, total: advance(f"MLPerf {scenario}", done, total))
    settings = _settings(loadgen, scenario, seconds, system, len(pictures.files))
    before = environment.snapshot()
    with tempfile.TemporaryDirectory() as logs:
        _run(loadgen, system, settings, len(pictures.files), Path(logs))
        summary = (Path(logs) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
        detail = (Path(logs) / "mlperf_log_detail.txt").read_text(encoding="utf-8")
    if system.failure is not None:
        raise system.failure
    described = environment.describe(before, environment.snapshot())
    return {
        **report.head("mlperf", bundle),
        "scenario": SCENARIOS[scenario],
        "pictures": report.about_pictures(pictures),
        "seconds_asked": seconds,
        "conforms": seconds >= SECONDS,
        "loadgen": machine.package_version("mlcommons-loadgen"),
        **session.provenance.__dict__,
        **session.plan.__dict__,
        **parse(summary),
        "machine": described,
        "warnings": [*session.notes, *environment.warnings(described)],
        "summary": summary,  # in LoadGen's own words
        "errors_logged": detail.count('"is_error": true'),
    }


class _System:
    """The system under test: answers LoadGen's queries with the session's engine.

    An exception must not reach LoadGen's C++ loop, which would end the process: the first is kept in `failure`, and
    what is asked after it is answered at once, so that the run ends. No sample may be answered twice.
    """

    def __init__(self, loadgen: Any, session: Session, pictures: Pictures, advance: Callable[[int, int], Any]) -> None:
        self._loadgen, self.session, self._advance = loadgen, session, advance
        contract, files = session.bundle.preprocessing, pictures.files
        self._files = files
        self.inputs = np.zeros((len(files), contract.height, contract.width, 1), dtype=np.uint8)
        self.failure: Exception | None = None
        self._waiting: set[int] = set()  # samples of the query in hand that aren't answered yet
        self.begin = 0.0
        self.seconds = SECONDS
        self.answered = 0
        self.expected = 0  # samples in all, where that is known beforehand

    def load(self, indices: Sequence[int]) -> None:
        """Before the clock starts: decode and prepare the pictures of these places."""
        for index in indices:
            self.inputs[index, :, :, 0] = pipeline.prepare_input(self.session, self._files[index])
        self.begin = time.monotonic()

    def unload(self, indices: Sequence[int]) -> None:
        """After the clock stopped; the pictures may stay."""

    def issue(self, query: Sequence[Any]) -> None:
        """Answer a query: one sample, eight, or all of them."""
        self._waiting = {sample.id for sample in query}
        try:
            if self.failure is None:
                self._answer(query)
        except Exception as error:  # see above; it is raised when LoadGen has returned
            self.failure = error
        if self._waiting:
            self._complete(sorted(self._waiting))

    def flush(self) -> None:
        """Nothing is held back."""

    def warm_up(self) -> float:
        """A few calls that nobody counts; seconds of the fastest."""
        self.load(range(min(WARM_UP, len(self.inputs))))
        times = []
        for index in itertools.islice(itertools.cycle(range(min(WARM_UP, len(self.inputs)))), WARM_UP):
            start = time.perf_counter()
            self.logits(self.inputs[index : index + 1])
            times.append(time.perf_counter() - start)
        return min(times)

    def _answer(self, query: Sequence[Any]) -> None:
        if len(query) == 1:
            self.logits(self.inputs[query[0].index][None])
            self._complete([query[0].id])
        elif len(query) <= MULTI_SAMPLES:
            self._spread(query)
        else:
            for first in range(0, len(query), PORTION):
                self._spread(query[first : first + PORTION])

    def _spread(self, samples: Sequence[Any]) -> None:
        """Hand batches to as many workers as the plan has, each of which completes its own."""
        plan = self.session.plan
        batches = [samples[i : i + plan.batch_size] for i in range(0, len(samples), plan.batch_size)]
        if self._pool is None:
            for batch in batches:
                self._batch(batch)
            return
        running = [self._pool.submit(self._batch, batch) for batch in batches]
        wait(running)  # all of them, also where one failed: it is known then what is answered
        for done in running:
            done.result()

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor | None:
        workers = self.session.plan.workers
        return ThreadPoolExecutor(workers, thread_name_prefix="edgecxr") if workers > 1 else None

    def _batch(self, samples: Sequence[Any]) -> None:
        self.logits(self.inputs[[sample.index for sample in samples]])
        self._complete([sample.id for sample in samples])

    def logits(self, inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return probabilities(self.session.engine.run(inputs).logits, self.session.bundle.temperature)

    def _complete(self, ids: Sequence[int]) -> None:
        self._waiting.difference_update(ids)
        self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(each, 0, 0) for each in ids])
        self.answered += len(ids)
        if self.expected:
            self._advance(min(self.answered, self.expected), self.expected)
        else:
            passed = time.monotonic() - self.begin
            self._advance(min(int(passed), int(self.seconds)), int(self.seconds))


def _settings(loadgen: Any, scenario: str, seconds: float, system: _System, pictures: int) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, SCENARIOS[scenario])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1e3 * seconds)
    # A shortened run doesn't conform anyway, and LoadGen says that its estimate lacks queries.
    settings.min_query_count = LEAST_QUERIES[scenario] if seconds >= SECONDS else 1
    settings.multi_stream_samples_per_query = MULTI_SAMPLES
    settings.single_stream_target_latency_percentile = 0.9
    settings.multi_stream_target_latency_percentile = 0.99
    settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed = _seeds(loadgen)
    fastest = system.warm_up()
    system.seconds = seconds
    # How many queries LoadGen draws beforehand follows from what it expects; too few would end the run too early.
    settings.single_stream_expected_latency_ns = max(1, round(1e9 * fastest / 2))
    settings.multi_stream_expected_latency_ns = max(1, round(1e9 * fastest))
    if scenario == "offline":
        # One query holds everything: this decides how long the run is. LoadGen itself adds a tenth.
        rate = _offline_rate(system)
        settings.offline_expected_qps = rate
        settings.min_query_count = pictures
        system.expected = max(pictures, int(1.1 * rate * seconds))
    return settings


def _offline_rate(system: _System) -> float:
    """Samples a second that the workers can do at most, from a second's trial."""
    plan = system.session.plan
    batch = np.take(system.inputs, range(plan.batch_size), axis=0, mode="wrap")
    begin, done = time.perf_counter(), 0
    with ThreadPoolExecutor(plan.workers) as pool:
        while time.perf_counter() - begin < 1.0:
            for call in [pool.submit(system.logits, batch) for _ in range(2 * plan.workers)]:
                call.result()
            done += 2 * plan.workers
    return 1.1 * done * plan.batch_size / (time.perf_counter() - begin)


@functools.cache
def _seeds(loadgen: Any) -> tuple[int, int, int]:
    """The seeds of LoadGen's own round of MLPerf, which decide what picture comes when.

    They stand in the mlperf.conf that is compiled into it, and are read once a process.
    """
    settings = loadgen.TestSettings()
    with tempfile.TemporaryDirectory() as scratch:
        nothing = Path(scratch) / "user.conf"
        nothing.write_text("", encoding="utf-8")
        if settings.FromConfig(str(nothing), "edgecxr", "SingleStream", 1):
            raise EdgecxrError("LoadGen doesn't read its own configuration")
    return settings.qsl_rng_seed, settings.sample_index_rng_seed, settings.schedule_rng_seed


def _run(loadgen: Any, system: _System, settings: Any, pictures: int, logs: Path) -> None:
    output = loadgen.LogOutputSettings()
    output.outdir = str(logs)
    output.copy_summary_to_stdout = False
    log = loadgen.LogSettings()
    log.log_output = output
    log.enable_trace = False
    under_test = loadgen.ConstructSUT(system.issue, system.flush)
    library = loadgen.ConstructQSL(pictures, pictures, system.load, system.unload)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        loadgen.StartTestWithLogSettings(under_test, library, settings, log)
    finally:
        signal.signal(signal.SIGINT, before)
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(under_test)


_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"


def parse(summary: str) -> dict[str, Any]:
    """What LoadGen's summary says, times in ms; raises EdgecxrError where it isn't a summary.

    `valid` is LoadGen's verdict and `unmet` the conditions that it names as not satisfied; `early_stopping_ms` are its
    estimates of percentiles, which are no smaller than the percentile at 99 % confidence.
    """
    verdict = re.search(r"^Result is : (VALID|INVALID)", summary, flags=re.MULTILINE)
    if verdict is None:
        raise EdgecxrError("LoadGen wrote no result")
    early = re.findall(rf"Early stopping {_NUMBER}th percentile estimate: (\d+)", summary)
    latency = re.findall(rf"^{_NUMBER} percentile latency \(ns\) *: (\d+)", summary, flags=re.MULTILINE)
    throughput = re.search(rf"^(?:Samples per second|QPS w/o loadgen overhead) *: {_NUMBER}", summary, re.MULTILINE)
    asked = re.search(r"^samples_per_query : (\d+)", summary, flags=re.MULTILINE)
    return {
        "result": verdict[1],
        "valid": verdict[1] == "VALID",
        "unmet": re.findall(r"^ +(.+?) satisfied *: NO", summary, flags=re.MULTILINE),
        "early_stopping_ms": {f"p{float(q):g}": int(ns) / 1e6 for q, ns in early},
        "latency_ms": {f"p{float(q):g}": int(ns) / 1e6 for q, ns in latency},
        "throughput": float(throughput[1]) if throughput else None,
        "samples_per_query": int(asked[1]) if asked else None,
    }


def headline(report: Mapping[str, Any]) -> str:
    """The result in one line, as MLPerf states it for the scenario."""
    percentile = {"SingleStream": "p90", "MultiStream": "p99"}.get(report["scenario"])
    if percentile is None:
        figure = f"{report['throughput']:.2f} samples/s"
    elif percentile in report["early_stopping_ms"]:
        figure = f"{report['early_stopping_ms'][percentile]:.2f} ms (early-stopping estimate of {percentile})"
    else:
        figure = f"{report['latency_ms'][f'{percentile}']:.2f} ms ({percentile}, too few queries for an estimate)"
    unmet = f" ({', '.join(report['unmet'])} not satisfied)" if report["unmet"] else ""
    short = "" if report["conforms"] else f"; shorter than {SECONDS:.0f} s, doesn't conform to the rules"
    return f"{report['scenario']}: {figure}, {report['result']}{unmet}{short}"


def session_for(bundle: Bundle, scenario: str, asked: Asked) -> Session:
    """The session that suits a scenario: every CPU on one sample, or one-threaded workers for eight or all of them."""
    return open_session(bundle, asked, workers=1 if scenario == "single" else None)
