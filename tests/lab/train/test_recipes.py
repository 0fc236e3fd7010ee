"""Recipes: the original's numbers, and that a recipe survives the run's JSON."""

import json

import pytest

from edgecxr.errors import UsageError
from edgecxr.lab.train.recipes import RECIPES, Recipe, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name: str) -> None:
    chosen = recipe(name)
    restored = Recipe.from_json(json.loads(json.dumps(chosen.to_json())))
    assert restored.to_json() == chosen.to_json()
    assert restored.stages == chosen.stages
    assert restored.augmentation == chosen.augmentation


def test_a_recipe_of_before_may_name_changes_that_went_out_again() -> None:
    data = recipe("default").to_json()
    data["augmentation"] |= {"gamma": 1.0, "erase": 0.0}
    assert Recipe.from_json(data).augmentation == recipe("default").augmentation


def test_the_seed_recipe_is_the_originals() -> None:
    seed = recipe("seed")
    assert (seed.batch_size, seed.input_size, seed.dropout) == (16, 299, 0.2)
    assert [(s.epochs, s.learning_rate, s.trainable_from) for s in seed.stages] == [(30, 1e-3, None)]
    changes = seed.augmentation
    assert (changes.shear, changes.zoom, changes.zoom_axes, changes.flip) == (0.2, 0.2, "apart", True)
    assert (changes.rotate, changes.shift, changes.contrast, changes.brightness, changes.soften) == (0, 0, 0, 0, 0)
    assert (seed.scale, seed.offset) == (1 / 255, 0)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="expected one of seed, default, int8, edge"):
        recipe("best")
