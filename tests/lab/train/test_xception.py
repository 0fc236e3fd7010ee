"""Our own Xception: Keras's to the last bit with 8 middle blocks, and RUNs of before load into it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import noisy
from edgecxr.errors import UsageError
from edgecxr.lab.run import read_run
from edgecxr.lab.train import recipes
from edgecxr.pictures.preprocess import Contract

pytestmark = pytest.mark.lab

SIZE = 71


def inputs() -> np.ndarray:
    return np.stack([noisy((SIZE, SIZE), i) for i in range(2)]).astype(np.float32)[..., None] / 127.5 - 1


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Keras's network, every value of which is its own: norms too, which are all alike in a fresh one."""
    import keras

    keras.utils.set_random_seed(3)
    model = keras.applications.Xception(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), name="xception")
    random = np.random.default_rng(5)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([random.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    return model


def answers(model: Any) -> np.ndarray:
    return np.asarray(model.predict(np.repeat(inputs(), 3, axis=-1), verbose=0))


@pytest.mark.slow
def test_with_8_blocks_it_is_keras_s_by_position_by_file_and_by_name(theirs: Any, tmp_path: Path) -> None:
    from edgecxr.lab.train import xception

    ours = xception.backbone(SIZE)
    assert [type(layer).__name__ for layer in ours.layers] == [type(layer).__name__ for layer in theirs.layers]
    # Keras numbers these anew in every model.
    numbered = ("input", "conv2d", "batch_normalization", "add")
    for old, new in zip(theirs.layers, ours.layers, strict=True):
        assert old.name == new.name or old.name.startswith(numbered)
    ours.set_weights(theirs.get_weights())
    expected = answers(theirs)
    assert expected.std() > 0
    assert np.array_equal(answers(ours), expected)
    theirs.save_weights(tmp_path / "their.weights.h5")
    another = xception.backbone(SIZE)
    another.load_weights(tmp_path / "their.weights.h5")
    assert np.array_equal(answers(another), expected)


@pytest.mark.slow
def test_a_run_that_was_saved_with_keras_s_network_loads(theirs: Any, tmp_path: Path) -> None:
    import keras

    from edgecxr.lab.train import model as models

    # As `edgecxr train` of before built and saved it.
    recipe = replace(recipes.recipe("default"), input_size=SIZE)
    image = keras.Input((SIZE, SIZE, 1), name="image")
    scaled = keras.layers.Rescaling(recipe.scale, recipe.offset, name="scaling")(image)
    features = theirs(keras.layers.Concatenate(name="grey_to_rgb")([scaled, scaled, scaled]))
    hidden = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(features)
    hidden = keras.layers.Dropout(recipe.dropout, name="dropout", dtype="float32")(hidden)
    old = keras.Model(image, keras.layers.Dense(3, name="logits", dtype="float32")(hidden), name="edgecxr")
    old.save_weights(tmp_path / "model.weights.h5")
    described = recipe.to_json()
    del described["middle_blocks"]
    about = {"schema": 1, "recipe": described, "labels": ["a", "b", "c"], "preprocessing": Contract().to_json()}
    (tmp_path / "run.json").write_text(json.dumps(about))

    loaded = models.load_run(read_run(tmp_path))
    pictures = (inputs() + 1) * 127.5
    expected = old.predict(pictures, verbose=0)
    assert np.ptp(expected, axis=0).max() > 0
    assert np.array_equal(loaded.predict(pictures, verbose=0), expected)


def test_fewer_blocks_are_the_first_ones_and_more_than_there_are_is_refused(theirs: Any, tmp_path: Path) -> None:
    from edgecxr.lab.train import model as models
    from edgecxr.lab.train import xception

    theirs.save_weights(tmp_path / "their.weights.h5")
    recipe = replace(recipes.recipe("default"), input_size=SIZE, middle_blocks=2)
    shallow = models.build(recipe, 2, str(tmp_path / "their.weights.h5")).get_layer(models.BACKBONE)
    blocks = sorted({int(layer.name.removeprefix("block").split("_")[0]) for layer in shallow.layers[1:]})
    assert blocks == [1, 2, 3, 4, 5, 6, 13, 14]
    # 8 - 2 middle blocks, each of three separable convolutions (3 x 3, and 728 to 728) with norms (4 values a channel).
    assert theirs.count_params() - shallow.count_params() == 6 * 3 * (9 * 728 + 728 * 728 + 4 * 728)
    for name in ("block6_sepconv3", "block13_sepconv1"):
        for mine, their in zip(
            shallow.get_layer(name).get_weights(), theirs.get_layer(name).get_weights(), strict=True
        ):
            assert np.array_equal(mine, their)
    models.freeze(models.build(recipe, 2), "block13")
    with pytest.raises(UsageError, match="of a backbone with as many middle blocks, they lack block7_sepconv1"):
        xception.copy_weights(shallow, xception.backbone(SIZE))


@pytest.mark.parametrize("count", [0, 9])
def test_a_recipe_has_from_1_to_8_middle_blocks(count: int) -> None:
    with pytest.raises(UsageError, match=f"middle_blocks must be from 1 to 8, got {count}"):
        replace(recipes.recipe("default"), middle_blocks=count)
