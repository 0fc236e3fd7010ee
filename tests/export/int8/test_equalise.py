"""Channels made alike: the same function in float, and less lost in int8."""

from __future__ import annotations

import numpy as np

from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr_export.graphs.onnx_graph import body
from edgecxr_export.int8.equalise import equalised, links
from edgecxr_export.int8.networks import Networks
from edgecxr_export.int8.ranges import extents
from edgecxr_export.int8.ways import Quantizer, Way
from export.small import pictures, small_graph, with_ends


def answers(model: object, inputs: np.ndarray, precision: str = "fp32") -> np.ndarray:
    return OnnxRuntimeEngine(model.SerializeToString(), "cpu", precision, 1).run(inputs).logits  # type: ignore[attr-defined]


def test_links_are_where_nothing_but_convolutions_read() -> None:
    model = small_graph()
    stem, _, dw1, pw1, _, dw2, *_ = body(model)
    found = {link.conv.name: (len(link.values), link.depthwise) for link in links(model)}
    # The stem's Relu is read by the sum as well, and the last separable convolution's output by the sum alone.
    assert found == {dw1.name: (1, False), pw1.name: (2, True), dw2.name: (1, False)}
    assert stem.name not in found


def test_it_is_the_same_function_with_channels_alike() -> None:
    model, inputs = small_graph(), pictures()
    observed = extents(model, inputs)
    alike, told = equalised(model, observed)
    expected = answers(model, inputs)
    assert np.abs(answers(alike, inputs) - expected).max() < 1e-5 * np.abs(expected).max()
    measured = extents(alike, inputs)
    for name, extent in measured.items():
        np.testing.assert_allclose(told[name].highest, extent.highest, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(told[name].lowest, extent.lowest, rtol=1e-4, atol=1e-5)
    relu = links(model)[1].values[1]  # read by a depthwise convolution only: all of the way
    widths = measured[relu].highest
    assert np.ptp(observed[relu].highest) > 2
    assert widths.max() < 1.001 * widths[widths > 0].min() or (widths == 0).any()


def test_int8_loses_less() -> None:
    model, inputs = small_graph(), pictures()
    quantizer = Quantizer(Networks(model, with_ends(inputs)))
    unseen = pictures(seed=5)
    expected = answers(model, unseen)
    lost = [
        np.abs(answers(quantizer.build(Way(channels=channels)), unseen, "int8") - expected).mean()
        for channels in ("as trained", "alike")
    ]
    assert lost[1] < 0.8 * lost[0]
