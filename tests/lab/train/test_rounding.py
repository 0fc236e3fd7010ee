"""Quantization-aware training: the numbers by hand, the gradient, and a network that keeps its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_distill import write_teacher
from test_resumed_training import write_films

from edgecxr.errors import UsageError
from edgecxr.lab.run import read_run
from edgecxr.lab.train import recipes

pytestmark = pytest.mark.lab


def test_a_tensor_has_256_values_at_equal_steps() -> None:
    from edgecxr.lab.train import rounding

    x = np.linspace(-1, 1, 1000, dtype=np.float32).reshape(1, 10, 100, 1)
    found = np.asarray(rounding.rounded(x, rounding.WHOLE_TENSOR, signed=True))
    step = 2 / 255 * (1 + rounding.TINY)
    np.testing.assert_allclose(found, np.round(x / step) * step, atol=1e-6)
    assert len(np.unique(found.round(5))) == 255  # -127 to 127, as the largest value lies half a step beyond
    positive = np.asarray(rounding.rounded(np.abs(x), rounding.WHOLE_TENSOR, signed=False))
    assert len(np.unique(positive.round(5))) == 256


def test_a_channel_has_a_step_of_its_own_as_far_as_it_is_made_alike() -> None:
    from edgecxr.lab.train import rounding

    x = np.stack([np.linspace(0, width, 400, dtype=np.float32) for width in (100.0, 1.0)], axis=-1).reshape(
        1, 20, 20, 2
    )
    powers = (rounding.WHOLE_TENSOR, rounding.HALF_WAY, rounding.EACH_CHANNEL)
    values = [np.unique(np.asarray(rounding.rounded(x, power, signed=False))[..., 1].round(6)) for power in powers]
    # Steps of 100 / 255, of 10 / 255 (25.5 of them, and zero) and of 1 / 255.
    assert [len(found) for found in values] == [4, 26, 256]


def test_the_gradient_passes_as_if_nothing_were_rounded() -> None:
    import tensorflow as tf

    from edgecxr.lab.train import rounding

    x = tf.Variable([[[[0.3], [0.1], [2.0]]]])
    kernel = tf.Variable([[[[0.3], [0.1]]]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(rounding.rounded(x, rounding.WHOLE_TENSOR, signed=False))
        total += tf.reduce_sum(rounding.rounded_kernel(kernel, (0, 1, 2)))
    for gradient in tape.gradient(total, [x, kernel]):
        assert gradient.numpy().ravel() == pytest.approx(1)  # a step that moved would gather every value's rounding


def test_a_kernel_has_64_steps_to_either_side_of_each_output_channel() -> None:
    from edgecxr.lab.train import rounding

    kernel = np.linspace(-1, 1, 2 * 3 * 500, dtype=np.float32).reshape(1, 1, 1500, 2) * np.float32([1, 10])
    found = np.asarray(rounding.rounded_kernel(kernel, (0, 1, 2)))
    for channel, width in enumerate(np.abs(kernel).max(axis=(0, 1, 2))):
        np.testing.assert_allclose(
            found[..., channel] / width * 64, np.round(kernel[..., channel] / width * 64), atol=1e-3
        )
    # What equalisation makes larger before it rounds has the finer steps.
    shares = np.where(np.arange(1500) % 2, 1.0, 0.1).astype(np.float32).reshape(1, 1, -1, 1)
    alike = np.asarray(rounding.rounded_kernel(kernel, (0, 1, 2), shares))[0, 0, :, 0]
    counts = alike * shares.ravel() / np.abs(kernel[0, 0, :, 0] * shares.ravel()).max() * 64
    np.testing.assert_allclose(counts, counts.round(), atol=2e-3)


def test_the_network_has_the_same_weights_and_answers() -> None:
    from edgecxr.lab.train import xception

    plain = xception.backbone(71, 1)
    made = xception.backbone(71, 1, quantization_aware=True)
    assert [w.path.split("/")[-2:] for w in made.weights] == [w.path.split("/")[-2:] for w in plain.weights]
    made.set_weights(plain.get_weights())
    x = np.random.default_rng(0).uniform(-1, 1, (2, 71, 71, 1)).astype(np.float32).repeat(3, axis=-1)  # grey
    expected = plain(x, training=False).numpy()
    np.testing.assert_array_equal(made(x, training=False).numpy(), expected)
    for layer in made.layers:
        if "BatchNormalization" in type(layer).__name__:
            layer.trainable = False  # its statistics stay, so that rounding alone makes the difference
    moved = np.abs(made(x, training=True).numpy() - expected).max() / np.abs(expected).max()
    assert 1e-4 < moved < 0.2


@pytest.mark.slow
def test_a_fit_goes_on_with_rounding_and_leaves_a_run_like_any_other(tmp_path: Path) -> None:
    from edgecxr.lab.train import model
    from edgecxr.lab.train.fit import fit

    films, cache = write_films(tmp_path / "data", {"dark": 8, "bright": 8}), tmp_path / "cache"
    small = {"input_size": 71, "batch_size": 8, "middle_blocks": 1}
    teacher = write_teacher(tmp_path / "first", **small)
    model.build(read_run(teacher).recipe, 2).save_weights(teacher / "model.weights.h5")
    still = recipes.Stage(epochs=1, learning_rate=1e-12, trainable_from="")
    chosen = replace(recipes.recipe("int8"), stages=(still,), **small)
    with pytest.raises(UsageError, match="recipe int8 needs the RUN of a fitted model, got none"):
        fit(films, tmp_path / "no", chosen, backbone_weights="none", cache=cache)
    fit(films, tmp_path / "run", chosen, backbone_weights=str(teacher), cache=cache)
    run = read_run(tmp_path / "run")
    assert run.recipe.quantization_aware
    ours, theirs = (model.load_run(read_run(tmp_path / name)) for name in ("run", "first"))
    assert not any("rounding" in layer.name for layer in ours.get_layer(model.BACKBONE).layers)
    for name in ("logits", model.BACKBONE):  # the head too is where it was, and so are the norms' statistics
        for mine, their in zip(ours.get_layer(name).weights, theirs.get_layer(name).weights, strict=True):
            np.testing.assert_allclose(mine.numpy(), their.numpy(), atol=1e-6)
