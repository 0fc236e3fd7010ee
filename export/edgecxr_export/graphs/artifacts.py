"""The network files of a bundle in the making: what each is called, holds and is run by here, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgecxr.engines import Engine
from edgecxr.engines.select import PREFERENCE, SYMMETRIC, TABLE, in_software, installed_engines, make_engine, stored
from edgecxr.errors import BundleError, GateError
from edgecxr.system.machine import cpus
from edgecxr_export.graphs import onnx_graph

ONNX, TFLITE = "onnx", "tflite"
KINDS = {ONNX: ("fp32", "fp16", "int8", SYMMETRIC), TFLITE: ("fp32", "int8")}  # what is made of each format
# The first engine of a format: what `auto` takes for it.
GATED_ON = {kind: next(row.name for row in TABLE if row.format == kind) for kind in KINDS}

ROUNDS, CALLS, WARM_UP = 5, 6, 3  # of the timing: cases take turns, so that a busy moment slows all of them


@dataclass(frozen=True)
class NetworkFile:
    """One network file."""

    format: str
    precision: str
    model: bytes
    details: Mapping[str, Any] = field(default_factory=dict)  # for the manifest: opset, what stayed in float, …

    @property
    def file(self) -> str:
        return f"model.{self.precision}.{self.format}"

    @cached_property
    def engine(self) -> Engine:
        """The engine that the gates measure it on, on every CPU of this machine."""
        return self.open(GATED_ON[self.format], self.precision, cpus())

    def open(self, engine: str, precision: str, threads: int) -> Engine:
        """Those very bytes, loaded as a device loads them; raises GateError where the engine refuses them."""
        try:
            return make_engine(engine, self.model, "cpu", precision, threads)
        except BundleError as error:
            raise GateError(str(error)) from None

    def saying(self, metadata: Mapping[str, str]) -> NetworkFile:
        """The same network with other metadata (values JSON)."""
        if self.format == ONNX:
            return replace(self, model=onnx_graph.serialise(onnx.load_from_string(self.model), metadata))
        from edgecxr_export.graphs import tflite_graph

        graph = tflite_graph.aligned(tflite_graph.parse(self.model))
        return replace(self, model=tflite_graph.serialise(graph, metadata))

    @property
    def bias(self) -> npt.NDArray[np.float32]:
        """What the head adds to the evidence's sum, (K,)."""
        if self.format == ONNX:
            tensor = onnx_graph.bias_tensor(onnx.load_from_string(self.model))
            return np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)
        from edgecxr_export.graphs import tflite_graph

        return np.array(tflite_graph.bias(tflite_graph.parse(self.model)), dtype=np.float32)


def planned(formats: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """(format, precision) of every file that was asked for, in a fixed order."""
    return [(kind, p) for kind, made in KINDS.items() if kind in formats for p in made if p in precisions]


def openings(artifact: NetworkFile) -> list[tuple[str, str]]:
    """(engine, precision that is computed) of everything installed here that runs the artifact on a CPU."""
    here = installed_engines()
    rows = [row for row in TABLE if row.format == artifact.format and row.name in here]
    return [(row.name, p) for row in rows for p in row.code.on_cpu() if stored(p) == artifact.precision]


def latencies(artifacts: Sequence[NetworkFile], picture: npt.NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """For each file, ms of a call with one picture (1, H, W, 1) on the engine of its gate, on every CPU; in turn."""
    timed = [a for a in artifacts if not in_software(GATED_ON[a.format], a.precision, "cpu")]
    samples: dict[str, list[float]] = {artifact.file: [] for artifact in timed}
    for artifact in timed:
        for _ in range(WARM_UP):
            artifact.engine.run(picture)
    for _ in range(ROUNDS):
        for artifact in timed:
            for _ in range(CALLS):
                begin = time.perf_counter()
                artifact.engine.run(picture)
                samples[artifact.file].append(1e3 * (time.perf_counter() - begin))
    return {
        artifact.file: {
            "engine": artifact.engine.name,
            "threads": artifact.engine.threads,
            "p50_ms": round(float(np.median(samples[artifact.file])), 3),
            "samples": len(samples[artifact.file]),
        }
        for artifact in timed
    }


def preferred(artifacts: Sequence[NetworkFile], speeds: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """For each file, whether it is the one to take on a CPU: the fastest of its format, int8 where that is open."""
    chosen = set()
    for kind in KINDS:
        order = PREFERENCE["cpu"]  # what `auto` may take
        mine = [a for a in artifacts if a.format == kind and a.precision in order and a.file in speeds]
        if mine:
            best = min(mine, key=lambda a: (speeds[a.file]["p50_ms"], order.index(a.precision)))
            chosen.add(best.file)
    return {artifact.file: artifact.file in chosen for artifact in artifacts}


def slower_int8(artifacts: Sequence[NetworkFile], speeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each int8 file that is slower here than its float32 twin."""
    said = []
    for kind in KINDS:
        times = {a.precision: speeds[a.file]["p50_ms"] for a in artifacts if a.format == kind and a.file in speeds}
        if "int8" in times and "fp32" in times and times["int8"] > times["fp32"]:
            said.append(
                f"model.int8.{kind} is slower than model.fp32.{kind} here: {times['int8']:.1f} ms a picture against "
                f"{times['fp32']:.1f}"
            )
    return said
