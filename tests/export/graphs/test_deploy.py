"""The deploy model: folded, collapsed, split into evidence, and still the trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import noisy
from edgecxr.errors import UsageError
from edgecxr_export.graphs.deploy import deploy_model, fold_input, linear_head
from export.conftest import SIZE, Network, lively

pytestmark = pytest.mark.lab


def test_folding_by_hand() -> None:
    # One tap, three channels 1, 2, 3, two filters; inputs are 0.5 x - 1.
    # (0.5 x - 1)(1 + 2 + 3) = 3 x - 6, and with the second filter's 10, 0, -4: 3 x - 6 as well.
    kernel = np.array([[[[1, 10], [2, 0], [3, -4]]]], dtype=np.float32)
    (folded,), shift = fold_input(kernel, scale=0.5, offset=-1.0)
    assert folded.shape == (1, 1, 1, 2)
    assert folded.ravel().tolist() == [3.0, 3.0]
    assert shift.tolist() == [-6.0, -6.0]


def test_one_grey_channel_gives_what_three_scaled_ones_gave(network: Network) -> None:
    outputs = network.deploy(network.inputs, training=False)
    spread = np.ptp(network.logits, axis=0).max()
    assert spread > 0.3  # else the pictures all look alike to this network, and nothing is tested
    assert np.abs(outputs["logits"].numpy() - network.logits).max() < 1e-4 * spread


def test_a_float_input_gives_the_same(network: Network) -> None:
    model = deploy_model(network.reference, network.recipe, "float32")
    assert model.input.dtype == "float32"
    logits = model(network.inputs.astype(np.float32), training=False)["logits"].numpy()
    assert np.abs(logits - network.logits).max() < 1e-4


def test_evidence_adds_up_to_the_logit(network: Network) -> None:
    outputs = network.deploy(network.inputs, training=False)
    evidence = outputs["evidence"].numpy()
    assert evidence.shape == (8, 3, 3, 3)
    if network.recipe.head == "pooled":
        bias = network.reference.get_layer("logits").get_weights()[1]
    else:
        # logits of all-zero features: the inner bias through the outer layer.
        inner = network.reference.get_layer("dense").get_weights()[1]
        outer, bias = network.reference.get_layer("logits").get_weights()
        bias = inner @ outer + bias
    assert np.abs(evidence.sum(axis=(1, 2)) + bias - outputs["logits"].numpy()).max() < 1e-5


def test_evidence_is_each_place_s_own_share(network: Network) -> None:
    """With all features but one place's taken away, the head's answer is that place's evidence and the bias."""
    backbone = network.reference.get_layer("xception")
    scaled = network.inputs.astype(np.float32) * network.recipe.scale + network.recipe.offset
    maps = backbone(np.repeat(scaled, 3, axis=-1), training=False).numpy()  # (8, 3, 3, 2048)
    evidence = network.deploy(network.inputs, training=False)["evidence"].numpy()

    def head(values: np.ndarray) -> np.ndarray:
        for layer in network.reference.layers[network.reference.layers.index(backbone) + 1 :]:
            values = layer(values)
        return np.asarray(values)

    nothing = head(np.zeros_like(maps))
    for row, column in ((0, 0), (1, 2)):
        alone = np.zeros_like(maps)
        alone[:, row, column] = maps[:, row, column]
        assert np.abs(head(alone) - nothing - evidence[:, row, column]).max() < 1e-4


@pytest.mark.slow
def test_the_reference_model_is_the_run_s(run_folder: Path) -> None:
    from edgecxr.lab.run import read_run
    from edgecxr_export.graphs.deploy import reference_model

    run = read_run(run_folder)
    model = reference_model(run)
    assert model.input.shape == (None, SIZE, SIZE, 1)
    assert {variable.dtype for variable in model.weights} <= {"float32", "uint32", "int64"}


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda keras: keras.layers.Dense(16, activation="relu", name="dense"), "dense with activation relu"),
        (lambda keras: keras.layers.LayerNormalization(name="norm"), r"norm \(LayerNormalization\)"),
    ],
)
def test_a_head_that_isn_t_linear_is_refused(network: Network, layer: Any, said: str) -> None:
    import keras

    features = network.reference.get_layer("xception").output
    image = keras.Input(features.shape[1:])
    backbone = keras.Model(image, keras.layers.Identity()(image), name="xception")
    hidden = layer(keras)(keras.layers.GlobalAveragePooling2D()(backbone(image)))
    bent = keras.Model(image, keras.layers.Dense(3, name="logits")(hidden))
    with pytest.raises(UsageError, match=f"head must be linear for its evidence to add up to the logits, got {said}"):
        linear_head(bent, network.recipe)


@pytest.mark.slow
def test_a_student_of_few_blocks_and_even_sides_is_the_same_in_onnx() -> None:
    """'same' padding is another at even sides, as those of 96 px: 45, 23, 12 and 6 (71 px: all odd)."""
    from dataclasses import replace

    from edgecxr.engines.ort import OnnxRuntimeEngine
    from edgecxr.lab.train.recipes import recipe
    from edgecxr_export.graphs.onnx_graph import convert, serialise

    edge = replace(recipe("edge"), input_size=96, middle_blocks=1)
    pictures = np.stack([noisy((96, 96), i) for i in range(4)])[..., None]
    reference = lively(edge, pictures)
    expected = reference(pictures.astype(np.float32), training=False).numpy()
    engine = OnnxRuntimeEngine(serialise(convert(deploy_model(reference, edge), 17), {}), "cpu", "fp32", 1)
    found = engine.run(pictures)
    assert np.ptp(expected, axis=0).max() > 0.1
    assert np.abs(found.logits - expected).max() < 1e-4
    assert found.evidence.shape == (4, 3, 3, 3)
    bias = reference.get_layer("logits").get_weights()[1]
    assert np.abs(found.evidence.sum(axis=(1, 2)) + bias - found.logits).max() < 1e-4
