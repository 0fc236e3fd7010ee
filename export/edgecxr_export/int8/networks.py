"""The float networks that int8 files are made from, and the ranges of their activations: each computed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bench import spread
from edgecxr_export.int8 import equalise, quantize, rounding
from edgecxr_export.int8 import ranges as calibrate
from edgecxr_export.int8.ranges import Extent

MIN_MAX = "min-max"
PERCENTILES = ("99.999", "99.99")  # counted in one pass over the calibration pictures

Ranges = Mapping[str, tuple[float, float]]


class Networks:
    """One float graph and one set of calibration pictures, with all that the ways to quantize derive from the two.

    `channels` is "as trained" or "alike" (see `equalise`), `rounding` "nearest" or "second-order" (see `rounding`).
    Every network is the same function in float, but for second-order rounding; nodes and values keep their names.
    """

    def __init__(self, model: Any, inputs: npt.NDArray[np.uint8]) -> None:
        """`model` is the canonical fp32 graph, `inputs` are `quantize.calibration_inputs` (N, H, W, 1).

        The black and the white picture among them give no ranges: in a network that began with ImageNet's weights a
        constant picture reaches a hundred times as far as any film, and nothing is left of the films then.
        """
        self.model = model
        self.pictures = inputs[: -quantize.ENDS]
        self._scaled: dict[str, tuple[Any, dict[str, Extent]]] = {}
        self._moments: dict[str, Mapping[str, rounding.Floats]] = {}
        self._rounded: dict[tuple[str, int], Any] = {}
        self._percentiles: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}

    def network(self, channels: str, rounding_: str, levels: int) -> Any:
        """The float graph (onnx.ModelProto) whose weights the quantizer rounds to 2 `levels` + 1 values."""
        model = self._with_extents(channels)[0]
        if rounding_ == "nearest":
            return model
        if (channels, levels) not in self._rounded:
            self._rounded[channels, levels] = rounding.rounded(model, self._second_moments(channels), levels)
        return self._rounded[channels, levels]

    def ranges(self, channels: str, clip: str) -> Ranges:
        """Of each activation of the body, by name; those that the float network has before any rounding.

        What a pooling reads has the range of what it lets through: an engine pools integers, so both are rounded alike,
        and most of the values of its input go no further. By their own percentiles the largest, which do, were cut off:
        of 320 dev films of a student the 99th percentile of the logits' error was 38 %, and is 21 %.
        """
        found = dict(self._ranges(channels, clip))
        pools = [node for node in self.model.graph.node if node.op_type == "MaxPool"]
        return found | {pool.input[0]: found[pool.output[0]] for pool in pools}

    def _ranges(self, channels: str, clip: str) -> Ranges:
        model, extents = self._with_extents(channels)
        whole = {name: extent.whole for name, extent in extents.items()}
        if clip == MIN_MAX:
            return whole
        if channels not in self._percentiles:
            found = calibrate.percentiles(model, self.pictures, whole, [float(share) for share in PERCENTILES])
            self._percentiles[channels] = dict(zip(PERCENTILES, found, strict=True))
        return self._percentiles[channels][clip]

    def losses(self, channels: str, rounding_: str, levels: int) -> dict[str, float]:
        """By node, the share of a convolution's output (of its mean square) that rounding its weights makes wrong."""
        exact, made = self.network(channels, "nearest", levels), self.network(channels, rounding_, levels)
        return rounding.losses(exact, made, self._second_moments(channels), levels)

    def _with_extents(self, channels: str) -> tuple[Any, dict[str, Extent]]:
        if channels not in self._scaled:
            self._scaled[channels] = (
                (self.model, calibrate.extents(self.model, self.pictures))
                if channels == "as trained"
                else equalise.equalised(*self._with_extents("as trained"))
            )
        return self._scaled[channels]

    def _second_moments(self, channels: str) -> Mapping[str, rounding.Floats]:
        if channels not in self._moments:
            some = self.pictures[np.asarray(spread(len(self.pictures), rounding.PICTURES))]
            self._moments[channels] = rounding.moments(self._with_extents(channels)[0], some)
        return self._moments[channels]
