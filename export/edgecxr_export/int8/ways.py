"""How to quantize, chosen by measurement: one change at a time, and what is still too sensitive then, to float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from edgecxr.engines import Engine
from edgecxr_export.graphs import onnx_graph
from edgecxr_export.int8 import biases, quantize
from edgecxr_export.int8.networks import MIN_MAX, PERCENTILES, Networks
from edgecxr_export.parity.logits import errors

Key = TypeVar("Key")

CHOICE_PICTURES = 320  # of dev's choosing half, evenly chosen: the candidates differ by far more than these leave open
SENSITIVITY_PICTURES = 16
# Convolutions whose sensitivity is measured: each means an int8 file of its own, 5 to 15 s at 299 px, and Xception has
# 74. A convolution in float gains what rounding its weights costs, and that is known for all of them from one pass.
SUSPECTS = 12
MAX_FLOAT = 6  # convolutions that may stay in float: beyond, it isn't an int8 network any more


@dataclass(frozen=True)
class Way:
    """One way to make the int8 graph of a float one."""

    clip: str = MIN_MAX  # or a percentage: the percentile at either end
    channels: str = "as trained"  # or "alike", see `equalise`
    rounding: str = "nearest"  # or "second-order", see `rounding`
    biases: str = "as trained"  # or "corrected", see `biases`


# Tried last where the quantizer knows how: it takes as long as all of the others.
CORRECTED = {"biases": "corrected"}
# Tried in this order, each kept if it brings the answers nearer to the float network's.
CHANGES: tuple[dict[str, str], ...] = (
    {"channels": "alike"},
    {"rounding": "second-order"},
    *({"clip": share} for share in PERCENTILES),
)


@dataclass(frozen=True)
class Trial:
    """What a way gave on the choice pictures, against the float reference: flips, and `errors` of the logits."""

    way: Way
    pictures: int
    flips: int
    mean_logits: float
    p99_logits: float
    max_logits: float

    def to_json(self) -> dict[str, Any]:
        figures = asdict(self)
        return {**figures.pop("way"), **figures}


class Quantizer:
    """Int8 graphs of the networks of one float graph."""

    def __init__(self, networks: Networks, *, full_range: bool = False, zero_point_0: bool = False) -> None:
        """`full_range` has 8-bit weights, `zero_point_0` symmetric activations; see `quantize`."""
        self._networks, self._full_range, self._zero_point_0 = networks, full_range, zero_point_0
        self._levels = quantize.LEVELS["full" if full_range else "reduced"]

    def build(self, way: Way, keep_float: Collection[str] = ()) -> Any:
        """The int8 graph (onnx.ModelProto) made that way, with the named nodes left in float32."""
        model = self._networks.network(way.channels, way.rounding, self._levels)
        ranges = self._networks.ranges(way.channels, way.clip)

        def correct(made: Any) -> Any:
            if way.biases == "as trained":
                return made
            exact = self._networks.network(way.channels, "nearest", self._levels)
            return biases.corrected(made, exact, self._networks.pictures)

        made = quantize.quantize(
            model,
            ranges,
            keep_float=keep_float,
            full_range=self._full_range,
            zero_point_0=self._zero_point_0,
            correct=correct,
        )
        return quantize.correct_bias(made, self._mean_logits, self._networks.pictures)

    @property
    def nodes(self) -> list[str]:
        """Names of the convolutions that may stay in float: all but the first, which reads the picture's own bytes."""
        return [node.name for node in onnx_graph.body(self._networks.model) if node.op_type == "Conv"][1:]

    def suspects(self, way: Way) -> list[str]:
        """Those of `nodes` that rounded weights harm most, at most SUSPECTS, the worst first."""
        losses = self._networks.losses(way.channels, way.rounding, self._levels)
        return worst({node: losses[node] for node in self.nodes})

    @cached_property
    def _mean_logits(self) -> npt.NDArray[np.float64]:
        return quantize.mean_logits(self._networks.model, "fp32", self._networks.pictures)


def worst(losses: Mapping[Key, float]) -> list[Key]:
    """The SUSPECTS keys of the largest losses, the largest first."""
    return sorted(losses, key=lambda key: -losses[key])[:SUSPECTS]


def choose_way(
    build: Callable[[Way], Engine],
    inputs: npt.NDArray[np.uint8],
    reference: npt.NDArray[np.float32],
    advance: Callable[[Trial], Any] = lambda trial: None,
    changes: Sequence[Mapping[str, str]] = CHANGES,
) -> tuple[Way, list[Trial]]:
    """The best way on `inputs` (N, H, W, 1), whose float logits are `reference` (N, K); and all that were tried.

    Compared by the mean error of the logits: flips and percentiles of some hundred pictures are a matter of a few
    pictures' luck.
    """
    best: Trial | None = None
    trials: list[Trial] = []
    for change in ({}, *changes):
        way = replace(best.way if best else Way(), **change)
        trial = _tried(way, run(build(way), inputs), reference)
        trials.append(trial)
        advance(trial)
        if best is None or trial.mean_logits < best.mean_logits:
            best = trial
    assert best is not None
    return best.way, trials


def run(engine: Engine, inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits (N, K) of inputs (N, H, W, 1), a few at a time."""
    return np.concatenate([engine.run(inputs[start : start + 8]).logits for start in range(0, len(inputs), 8)])


def _tried(way: Way, logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> Trial:
    moved = errors(logits, reference)
    flips = int((logits.argmax(axis=1) != reference.argmax(axis=1)).sum())
    return Trial(way, len(logits), flips, float(moved.mean()), float(np.percentile(moved, 99)), float(moved.max()))


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
    advance: Callable[[Sensitivity[Key]], Any] = lambda sensitivity: None,
) -> list[Sensitivity[Key]]:
    """Every node's, the one whose int8 does the most harm first, on inputs (N, H, W, 1) with float logits (N, K)."""
    found = []
    for node in nodes:
        difference = np.abs(run(build([node]), inputs) - reference)
        found.append(Sensitivity(node, float(difference.mean())))
        advance(found[-1])
    return sorted(found, key=lambda sensitivity: sensitivity.mean_dlogit)
