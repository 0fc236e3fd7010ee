"""The fp32 graph's activations on the calibration pictures: the ranges that an int8 graph is made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgecxr.engines import ort
from edgecxr.system.machine import cpus
from edgecxr_export.graphs.onnx_graph import INPUT, body

BATCH = 1  # pictures at a time: every activation of Xception at 299 px is 200 MB a picture, and is held three times
BINS = 4096  # of a histogram: a percentile is found to a 4096th of the range, a sixteenth of a step of uint8
OBSERVED = ("Conv", "Relu", "Add", "MaxPool")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Extent:
    """Least and greatest value of a tensor, channel by channel: two arrays (C,)."""

    lowest: Floats
    highest: Floats

    @property
    def whole(self) -> tuple[float, float]:
        return float(self.lowest.min()), float(self.highest.max())

    def scaled(self, factors: npt.NDArray[np.floating]) -> Extent:
        """The extent of the tensor with each channel times its factor (C,), all positive."""
        return Extent((self.lowest * factors).astype(np.float32), (self.highest * factors).astype(np.float32))


def extents(model: Any, inputs: npt.NDArray[np.uint8]) -> dict[str, Extent]:
    """The extent of every activation (N, C, H, W) of the body over the network inputs uint8 (N, H, W, 1)."""
    found: dict[str, Extent] = {}
    for values in activations(model, inputs, [node.output[0] for node in body(model) if node.op_type in OBSERVED]):
        for name, value in values.items():
            planes = value.reshape(*value.shape[:2], -1)  # (N, C, H W)
            lowest, highest = planes.min(axis=(0, 2)), planes.max(axis=(0, 2))
            if name in found:
                lowest, highest = (
                    np.minimum(lowest, found[name].lowest),
                    np.maximum(highest, found[name].highest),
                )
            found[name] = Extent(lowest, highest)
    return found


def percentiles(
    model: Any,
    inputs: npt.NDArray[np.uint8],
    ranges: Mapping[str, tuple[float, float]],
    shares: Sequence[float],
) -> list[dict[str, tuple[float, float]]]:
    """For each share (99.99 is a percentage) the range of every tensor that holds so much of its values at either end.

    `ranges` are the tensors' whole ranges, within which their values are counted.
    """
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in ranges}
    for values in activations(model, inputs, list(ranges)):
        for name, value in values.items():
            low, high = ranges[name]
            counts[name] += np.histogram(value, BINS, (low, high if high > low else low + 1))[0]
    return [{name: _clipped(counts[name], *ranges[name], share) for name in ranges} for share in shares]


def _clipped(counts: npt.NDArray[np.int64], low: float, high: float, share: float) -> tuple[float, float]:
    edges = np.linspace(low, high, BINS + 1)
    below = np.cumsum(counts) / counts.sum()
    outside = 1 - share / 100
    first = int(np.searchsorted(below, outside, side="right"))
    last = int(np.searchsorted(below, 1 - outside, side="left"))
    return float(edges[first]), float(edges[min(last, BINS - 1) + 1])


def activations(model: Any, inputs: npt.NDArray[np.uint8], names: Sequence[str]) -> Iterator[dict[str, Floats]]:
    """The named values of the graph, for a few pictures at a time."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    onnxruntime = ort.load_library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpus()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for start in range(0, len(inputs), BATCH):
        yield dict(zip(names, session.run(list(names), {INPUT: inputs[start : start + BATCH]}), strict=True))
