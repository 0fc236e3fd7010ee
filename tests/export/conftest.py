"""A network of each head whose answers depend on the picture, its ONNX graphs, and a small RUN."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

EPOCHS = 40  # of the head alone, on features that are computed once: seconds
SIZE = 96  # px; the smallest at which Xception still has more than one place in its last map (3 x 3)
BLOCKS = (
    2  # of Xception's 8 middle blocks: each kind of node is there, and what is done node by node takes half as long
)
CONVOLUTIONS = 26 + 6 * BLOCKS  # 2, 4 shortcuts, and 10 + 3 BLOCKS separable ones of two
SUMS = 4 + BLOCKS
LABELS = ("covid", "normal", "viral_pneumonia")

# (label, origin): as in the public sets, normal is the one class with two ages.
GROUPS = (
    ("covid", "adult, A"),
    ("normal", "adult, B"),
    ("normal", "pediatric, C"),
    ("viral_pneumonia", "pediatric, C"),
)


@dataclass(frozen=True)
class Network:
    """A trained-looking Keras model and what the export stage makes of it."""

    recipe: Any
    reference: Any
    deploy: Any
    inputs: np.ndarray  # uint8 (8, SIZE, SIZE, 1)
    logits: np.ndarray  # of the reference, (8, 3)
    onnx: Any  # canonical ModelProto
    bytes: bytes
    score: Any  # what `ood` is


def inputs(count: int = 8, seed: int = 0) -> np.ndarray:
    """Phantoms and noise, uint8 (count, SIZE, SIZE, 1)."""
    from edgecxr_export.phantoms import draw

    rng = np.random.default_rng(seed)
    pictures = [draw((SIZE, SIZE), seed + i) for i in range(count // 2)]
    pictures += [(rng.integers(0, 256, (SIZE, SIZE)) * rng.uniform(0.2, 1)).astype(np.uint8) for _ in pictures]
    return np.stack(pictures)[..., None].astype(np.uint8)


def lively(recipe: Any, pictures: np.ndarray) -> Any:
    """A model with random weights whose batch norms fit its activations, as after a training, and then some.

    With Keras's initial statistics every picture gets the same logits to four digits, and no error would show.
    """
    import keras

    from edgecxr.lab.train import model as models

    keras.utils.set_random_seed(7)
    model = models.build(recipe, len(LABELS))
    norms = [layer for layer in model.get_layer("xception").layers if "BatchNormalization" in type(layer).__name__]
    for norm in norms:
        norm.momentum = 0.0
    model(pictures.astype(np.float32), training=True)  # sets each norm's statistics to this batch's
    rng = np.random.default_rng(7)
    for norm in norms:
        gamma, beta, mean, variance = norm.get_weights()
        norm.set_weights(
            [
                rng.uniform(0.8, 1.2, gamma.shape),
                rng.normal(0, 0.1, beta.shape),
                mean + 0.1 * rng.normal(0, 1, mean.shape) * np.sqrt(variance),
                variance * rng.uniform(0.8, 1.25, variance.shape),
            ]
        )
    for name in ("dense", "logits"):
        if name in {layer.name for layer in model.layers}:
            kernel, bias = model.get_layer(name).get_weights()
            model.get_layer(name).set_weights([kernel * 2, rng.normal(0, 0.5, bias.shape)])
    return model


def score_of(recipe: Any, reference: Any) -> Any:
    """A score of 24 pictures in which now the residual and now the unit, a random one, says more."""
    from edgecxr.lab.evaluation.abstention import Score, normalised
    from edgecxr_export.graphs import ood

    moments = normalised(ood.extractor(reference, recipe).predict(inputs(24, seed=9), batch_size=8, verbose=0))
    centre = moments.mean(axis=0)
    u = moments - centre
    directions = np.linalg.svd(u, full_matrices=False)[2][:8].T
    residuals = np.linalg.norm(u - u @ directions @ directions.T, axis=1)
    unit = np.random.default_rng(3).normal(0, 1, len(centre))
    said = u @ unit
    return Score(
        centre.astype(np.float32),
        directions.astype(np.float32),
        float(1 / residuals.std()),
        float(-residuals.mean() / residuals.std()),
        (unit / said.std()).astype(np.float32),
        float(-said.mean() / said.std()),
    )


HEADS = {"pooled": "default", "flatten-dense16": "seed"}  # and a recipe that has it


@functools.cache
def network_of(head: str) -> Network:
    """Converted once, in whatever order tests of both heads come."""
    from edgecxr.lab.train.recipes import recipe
    from edgecxr_export.graphs.deploy import deploy_model
    from edgecxr_export.graphs.onnx_graph import convert, serialise

    chosen = replace(recipe(HEADS[head]), input_size=SIZE, middle_blocks=BLOCKS)
    pictures = inputs()
    reference = lively(chosen, pictures)
    score = score_of(chosen, reference)
    deploy = deploy_model(reference, chosen, score=score)
    graph = convert(deploy, 17)
    logits = reference(pictures.astype(np.float32), training=False).numpy()
    return Network(chosen, reference, deploy, pictures, logits, graph, serialise(graph, {"labels": "[]"}), score)


# test_whole_path.py exports the tutorial's head too.
@pytest.fixture(scope="session", params=["pooled", pytest.param("flatten-dense16", marks=pytest.mark.slow)])
def network(request: pytest.FixtureRequest) -> Network:
    return network_of(request.param)


def calibration() -> np.ndarray:
    """What the whole networks are calibrated on: 16 pictures, a black and a white one."""
    from edgecxr_export.int8.quantize import calibration_inputs

    return calibration_inputs(inputs(16, seed=50)[..., 0], range(16))


@functools.cache
def _calibrated(head: str) -> Any:
    from edgecxr_export.graphs import tflite
    from edgecxr_export.graphs.deploy import deploy_model

    network = network_of(head)
    model = deploy_model(network.reference, network.recipe, "float32", network.score)
    return tflite.calibrate(model, calibration())


@functools.cache
def _networks(head: str) -> Any:
    from edgecxr_export.int8.networks import Networks

    return Networks(network_of(head).onnx, calibration())


@pytest.fixture(scope="session")
def calibrated(network: Network) -> Any:
    """The whole network as TFLite, calibrated (litert.Calibrated)."""
    return _calibrated(network.recipe.head)


@pytest.fixture(scope="session")
def networks(network: Network) -> Any:
    """What int8 files of the whole network are made from (networks.Networks)."""
    return _networks(network.recipe.head)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled phantoms with a manifest: per group 6 pictures in train, 3 in dev, 2 in test."""
    from edgecxr_export.phantoms import draw

    target = tmp_path_factory.mktemp("phantoms")
    rows = []
    for group, (label, origin) in enumerate(GROUPS):
        (target / label).mkdir(exist_ok=True)
        for number in range(11):
            split = "train" if number < 6 else "dev" if number < 9 else "test"
            file = f"{label}/{group}-{number:02d}.png"
            picture = draw((128, 112), 100 * group + number)
            # Each class has a brightness of its own: something to learn, so that dev isn't a coin toss.
            Image.fromarray((picture // (1 + LABELS.index(label))).astype(np.uint8)).save(target / file)
            rows.append({"file": file, "label": label, "split": split, "origin": origin, "source": "drawn"})
    with (target / "manifest.csv").open("w", newline="") as file_:
        writer = csv.DictWriter(file_, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return target


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run_folder(folder: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN of one short fit on the phantoms, from a backbone whose features differ between pictures."""
    from edgecxr.lab.train.fit import fit
    from edgecxr.lab.train.recipes import Stage, recipe

    short = replace(
        recipe("default"),
        input_size=SIZE,
        middle_blocks=BLOCKS,
        stages=(Stage(epochs=EPOCHS, learning_rate=3e-3, trainable_from=None),),
        batch_size=8,
        mixed_precision=False,
    )
    runs = tmp_path_factory.mktemp("runs")
    target, weights = runs / "run", runs / "backbone.weights.h5"
    lively(replace(short, middle_blocks=8), inputs()).get_layer("xception").save_weights(weights)
    fit(folder, target, short, backbone_weights=str(weights), cache=cache)
    return target
