"""How to quantize, chosen by measurement: one change at a time, and what is still too sensitive then, to float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from edgecxr.bench import spread
from edgecxr.engines import Engine
from edgecxr.postprocess import probabilities
from edgecxr_export import calibrate, equalise, quantize, rounding
from edgecxr_export.calibrate import Extent

Key = TypeVar("Key")

CHOICE_PICTURES = 320  # of dev, evenly chosen: the candidates differ by far more than these leave open
SENSITIVITY_PICTURES = 16
MAX_FLOAT = 6  # convolutions that may stay in float: beyond, it isn't an int8 network any more


@dataclass(frozen=True)
class Way:
    """One way to make the int8 graph of a float one."""

    ranges: str = "min-max"  # or a percentage: the percentile at either end
    channels: str = "as trained"  # or "alike", see `equalise`
    rounding: str = "nearest"  # or "second-order", see `rounding`


# Tried in this order, each kept if it brings the answers nearer to the float network's.
CHANGES: tuple[dict[str, str], ...] = (
    {"channels": "alike"},
    {"rounding": "second-order"},
    {"ranges": "99.999"},
    {"ranges": "99.99"},
)


@dataclass(frozen=True)
class Trial:
    """What a way gave on the choice pictures, against the float reference."""

    way: Way
    pictures: int
    flips: int
    mean_dp: float
    p99_dp: float
    max_dp: float

    def to_json(self) -> dict[str, Any]:
        figures = asdict(self)
        return {**figures.pop("way"), **figures}


class Quantizer:
    """Int8 graphs of one float graph and one set of calibration pictures; what several share is computed once."""

    def __init__(self, model: Any, inputs: npt.NDArray[np.uint8], *, full_range: bool = False) -> None:
        """`model` is the canonical fp32 graph, `inputs` are `quantize.calibration_inputs` (N, H, W, 1)."""
        self._model, self._inputs, self._full_range = model, inputs, full_range
        self._pictures = inputs[: -quantize.ENDS]
        self._networks: dict[tuple[str, str], tuple[Any, dict[str, Extent]]] = {}
        self._percentiles: dict[tuple[str, str], dict[str, dict[str, tuple[float, float]]]] = {}

    def build(self, way: Way, keep_float: Collection[str] = ()) -> Any:
        """The int8 graph (onnx.ModelProto) made that way, with the named nodes left in float32."""
        model, extents = self._network(way.channels, way.rounding)
        if way.ranges == "min-max":
            ranges = {name: extent.whole for name, extent in extents.items()}
        else:
            ranges = self._clipped(way)
        made = quantize.quantize(model, ranges, keep_float=keep_float, full_range=self._full_range)
        return quantize.correct_bias(made, self._mean_logits, self._pictures)

    @property
    def nodes(self) -> list[str]:
        """Names of the convolutions that may stay in float: all but the first, which reads the picture's own bytes."""
        return [node.name for node in calibrate.body(self._model) if node.op_type == "Conv"][1:]

    @cached_property
    def _mean_logits(self) -> npt.NDArray[np.float64]:
        return quantize.mean_logits(self._model, "fp32", self._pictures)

    def _network(self, channels: str, rounding_: str) -> tuple[Any, dict[str, Extent]]:
        """The float network that is quantized, and the extents of its activations."""
        key = (channels, rounding_)
        if key not in self._networks:
            if rounding_ == "second-order":
                model, extents = self._network(channels, "nearest")
                levels = quantize.LEVELS["full" if self._full_range else "reduced"]
                some = self._pictures[np.asarray(spread(len(self._pictures), rounding.PICTURES))]
                model = rounding.rounded(model, rounding.moments(model, some), levels)
            elif channels == "alike":
                model, extents = equalise.equalised(*self._network("as trained", "nearest"))
            else:
                model, extents = self._model, calibrate.extents(self._model, self._inputs)
            self._networks[key] = (model, extents)
        return self._networks[key]

    def _clipped(self, way: Way) -> dict[str, tuple[float, float]]:
        key = (way.channels, way.rounding)
        if key not in self._percentiles:
            # Rounded weights are for the ranges that the float network has.
            model, extents = self._network(way.channels, "nearest")
            shares = [change["ranges"] for change in CHANGES if "ranges" in change]
            whole = {name: extent.whole for name, extent in extents.items()}
            found = calibrate.percentiles(model, self._inputs, whole, [float(share) for share in shares])
            self._percentiles[key] = dict(zip(shares, found, strict=True))
        return self._percentiles[key][way.ranges]


def choose_way(
    build: Callable[[Way], Engine],
    inputs: npt.NDArray[np.uint8],
    reference: npt.NDArray[np.float32],
    temperature: float,
    advance: Callable[[Trial], Any] = lambda trial: None,
) -> tuple[Way, list[Trial]]:
    """The best way on `inputs` (N, H, W, 1), whose float logits are `reference` (N, K); and all that were tried.

    Compared by the mean |difference| of a probability: flips and percentiles of some hundred pictures are a matter of
    a few pictures' luck.
    """
    best: Trial | None = None
    trials: list[Trial] = []
    for change in ({}, *CHANGES):
        way = replace(best.way if best else Way(), **change)
        trial = _tried(way, run(build(way), inputs), reference, temperature)
        trials.append(trial)
        advance(trial)
        if best is None or trial.mean_dp < best.mean_dp:
            best = trial
    assert best is not None
    return best.way, trials


def run(engine: Engine, inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits (N, K) of inputs (N, H, W, 1), a few at a time."""
    return np.concatenate([engine.run(inputs[start : start + 8]) for start in range(0, len(inputs), 8)])


def _tried(way: Way, logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], temperature: float) -> Trial:
    dp = np.abs(probabilities(logits, temperature) - probabilities(reference, temperature)).max(axis=1)
    flips = int((logits.argmax(axis=1) != reference.argmax(axis=1)).sum())
    return Trial(way, len(logits), flips, float(dp.mean()), float(np.percentile(dp, 99)), float(dp.max()))


@dataclass(frozen=True)
class Sensitivity(Generic[Key]):
    """How far the logits are from the float network's with one convolution in float, and the rest in int8."""

    node: Key
    mean_dlogit: float


def sensitivities(
    build: Callable[[Sequence[Key]], Engine],
    nodes: Sequence[Key],
    inputs: npt.NDArray[np.uint8],
    reference: npt.NDArray[np.float32],
    advance: Callable[[int], Any] = lambda done: None,
) -> list[Sensitivity[Key]]:
    """Every node's, the one whose int8 does the most harm first, on inputs (N, H, W, 1) with float logits (N, K)."""
    found = []
    for number, node in enumerate(nodes, start=1):
        difference = np.abs(run(build([node]), inputs) - reference)
        found.append(Sensitivity(node, float(difference.mean())))
        advance(number)
    return sorted(found, key=lambda sensitivity: sensitivity.mean_dlogit)
