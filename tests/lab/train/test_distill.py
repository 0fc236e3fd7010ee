"""A student begins with its teacher's weights, learns its answers to the very same views, and fits it or is refused."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from test_resumed_training import signalled, write_films
from typer.testing import CliRunner

from edgecxr import cli
from edgecxr.errors import Interrupted, UsageError
from edgecxr.lab.ancestry import doubts
from edgecxr.lab.evaluation.biases import class_biases
from edgecxr.lab.run import read_run
from edgecxr.lab.train import recipes
from edgecxr.pictures.decode import network_input
from edgecxr.pictures.preprocess import Contract

pytestmark = pytest.mark.lab

LABELS = ("bright", "dark")
SIZE, LARGER = 71, 103  # px, whose poolings meet odd sides only


def student(size: int = SIZE, blocks: int = 1) -> recipes.Recipe:
    edge = recipes.recipe("edge")
    stages = (replace(edge.stages[0], epochs=2),)
    return replace(edge, input_size=size, middle_blocks=blocks, stages=stages, feature_views=2)


def write_teacher(folder: Path, labels: tuple[str, ...] = LABELS, **changes: Any) -> Path:
    """A RUN of the default recipe whose weights nobody reads."""
    folder.mkdir()
    recipe = replace(recipes.recipe("default"), **{"input_size": LARGER, "middle_blocks": 2, **changes})
    about = {
        "schema": 1,
        "recipe": recipe.to_json(),
        "labels": labels,
        "preprocessing": Contract(height=recipe.input_size, width=recipe.input_size).to_json(),
        "data": {"fingerprint": "another"},
        "backbone_weights": {"source": "imagenet"},
    }
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "model.weights.h5").touch()
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("data") / "films", {"dark": 14, "bright": 10})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With weights that nothing was learnt with."""
    import keras

    from edgecxr.lab.train import model as models

    folder = write_teacher(tmp_path_factory.mktemp("teacher") / "run")
    keras.utils.set_random_seed(11)
    models.build(read_run(folder).recipe, len(LABELS)).save_weights(folder / "model.weights.h5")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def fit(data: Path, folder: Path, teacher: Path, cache: Path, recipe: recipes.Recipe, **options: Any) -> None:
    from edgecxr.lab.train.fit import fit

    fit(data, folder, recipe, backbone_weights=str(teacher), seed=3, cache=cache, **options)


@pytest.fixture(scope="module")
def fitted(films: Path, teacher: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "student"
    fit(films, folder, teacher, cache, student())
    return folder


@pytest.mark.slow
def test_a_run_says_who_taught_it_and_what_its_weights_saw(
    fitted: Path, films: Path, teacher: Path, cache: Path
) -> None:
    from edgecxr.lab.train import model as models

    run = read_run(fitted)
    assert (run.recipe.input_size, run.recipe.middle_blocks, run.contract.width) == (SIZE, 1, SIZE)
    assert run.recipe.to_json() == student().to_json()
    began = run.description["backbone_weights"]
    assert run.description["teacher"] == {"source": "run run", "sha256": began["sha256"], "fitted_on": "another"}
    assert recipes.Recipe.from_json(began["recipe"]).to_json() == read_run(teacher).recipe.to_json()
    assert doubts(run.description) == [
        "a bias for each class was fitted on dev",
        "run run was fitted on other data or other splits",
    ]
    assert np.isfinite(run.logits("test").logits).all()
    # What dev asked for stands in the run, in its weights and in the logits of both splits.
    moved = np.array(list(run.description["biases_on_dev"].values()), np.float32)
    assert tuple(run.description["biases_on_dev"]) == LABELS
    dev = run.logits("dev")
    assert np.allclose(class_biases(dev.logits - moved, dev.classes), moved, atol=2e-4)
    assert np.abs(class_biases(dev.logits, dev.classes)).max() <= np.abs(moved).max()
    model = models.load_run(run)
    inputs = np.stack([network_input(films / file, run.contract) for file in dev.files])[..., None]
    assert np.allclose(model.predict(inputs, verbose=0), dev.logits, atol=1e-5)
    # The films at both sizes, and the teacher's answers, for the next student.
    assert sorted(file.name.partition("-")[0] for file in cache.glob("*.npy")) == ["features", "pictures", "pictures"]


@pytest.mark.slow
def test_a_fit_that_was_stopped_goes_on_and_another_student_asks_the_teacher_nothing(
    films: Path, teacher: Path, cache: Path, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.lab.train import features

    monkeypatch.setattr(features, "_forward", lambda *_: pytest.fail("computed"))
    again = tmp_path / "again"
    with signalled(signal.SIGTERM, 2, 1), pytest.raises(Interrupted):
        fit(films, again, teacher, cache, student())
    with pytest.raises(UsageError, match="what differs from the run's: recipe"):
        fit(films, again, teacher, cache, student(blocks=2), resume=True)
    fit(films, again, teacher, cache, student(), resume=True)
    for split in ("dev", "test"):
        assert np.array_equal(read_run(again).logits(split).logits, read_run(fitted).logits(split).logits)


def test_a_student_begins_as_its_teacher_without_the_last_blocks(teacher: Path) -> None:
    from edgecxr.lab.train import distill
    from edgecxr.lab.train import model as models

    theirs = models.load_run(read_run(teacher))
    ours = models.build(student(), 2)
    models.begin(ours, theirs)
    for name in ("block4_sepconv1", "block5_sepconv3", "block14_sepconv2_bn"):
        pair = [model.get_layer(models.BACKBONE).get_layer(name).get_weights() for model in (ours, theirs)]
        assert all(np.array_equal(mine, their) for mine, their in zip(*pair, strict=True))
    assert np.array_equal(ours.get_layer("logits").get_weights()[0], theirs.get_layer("logits").get_weights()[0])
    # With all blocks and pixels it is the teacher, and learns nothing from it.
    same = models.build(student(LARGER, 2), 2)
    models.begin(same, theirs)
    films = np.random.default_rng(0).integers(0, 256, (3, LARGER, LARGER, 1), np.uint8)
    expected = np.asarray(theirs.predict_on_batch(films))
    both = np.asarray(distill.with_features(same).predict_on_batch(films))
    assert np.allclose(both[:, :2], expected, atol=1e-6)
    answers = distill.Answers.of(theirs, both[None, :, 2:].astype(np.float16))
    assert np.allclose(answers.logits[0], expected, atol=1e-3)
    alone = recipes.Distillation(temperature=3.0, labels=0.0, features=1.0)
    truths = np.concatenate([np.eye(2, dtype=np.float32)[[0, 1, 0]], answers.take(np.arange(3), np.zeros(3, int))], 1)
    assert np.abs(np.asarray(distill.loss(alone, 0.0, 2)(truths, both))).max() < 1e-5


def test_a_picture_shows_its_views_in_turn_and_the_teacher_s_answer_goes_with_each() -> None:
    from edgecxr.lab.train.augment import augment
    from edgecxr.lab.train.batches import Epoch, Targets, augmented
    from edgecxr.lab.train.distill import Answers

    pictures = np.random.default_rng(1).integers(0, 256, (6, 20, 20), np.uint8)
    changes = recipes.recipe("edge").augmentation
    answers = Answers(np.arange(24, dtype=np.float32).reshape(2, 6, 2), np.ones((2, 6, 3), np.float16))
    targets = Targets.of([0, 1, 0, 1, 0, 1], 2, balance=False)
    source = augmented(pictures, range(6), changes, 5, views=2)
    epoch = Epoch(source, targets, 6, seed=5, epoch=3, beside=answers.take)
    images, learnt = epoch[0]
    for image, row, place in zip(images[..., 0], learnt, epoch.order, strict=True):
        assert np.array_equal(image, augment(pictures[place], changes, (5, 1, int(place))))  # the 4th of 2 views
        assert row.tolist() == [*np.eye(2)[place % 2], 12 + 2 * place, 13 + 2 * place, 1, 1, 1]


def test_the_loss_is_the_formula() -> None:
    from edgecxr.lab.train import distill

    random = np.random.default_rng(2)
    labels = np.eye(3, dtype=np.float32)[[2, 0]]
    theirs, ours = random.normal(0, 3, (2, 2, 3)).astype(np.float32)
    their_features, our_features = random.uniform(0, 1, (2, 2, 5)).astype(np.float32)

    def softmax(values: npt.NDArray[np.float32], heat: float) -> npt.NDArray[np.float64]:
        shares = np.exp(values.astype(np.float64) / heat)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    hard = -(np.log(softmax(ours, 1)) * (0.9 * labels + 0.1 / 3)).sum(axis=1)
    p, q = softmax(theirs, 4), softmax(ours, 4)
    lengths = np.linalg.norm(their_features, axis=1) * np.linalg.norm(our_features, axis=1)
    cosine = (their_features * our_features).sum(axis=1) / lengths
    expected = 0.25 * hard + 0.75 * 16 * (p * np.log(p / q)).sum(axis=1) + 2 * (1 - cosine)
    found = distill.loss(recipes.Distillation(temperature=4.0, labels=0.25, features=2.0), 0.1, 3)(
        np.concatenate([labels, theirs, their_features], axis=1), np.concatenate([ours, our_features], axis=1)
    )
    assert np.allclose(np.asarray(found), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [71, 72, 75])
def test_which_sides_the_poolings_meet(size: int) -> None:
    from edgecxr.lab.train import xception

    backbone = xception.backbone(size, 1)
    sides = [backbone.get_layer(f"block{number}_pool").input.shape[1] for number in (2, 3, 4, 13)]
    assert xception._parities(size) == [side % 2 for side in sides]


def test_sizes_that_differ_by_32_px_fit() -> None:
    from edgecxr.lab.train import xception

    assert all(xception.aligned(size, 224) for size in (192, 160, 128, 96))
    assert [size for size in range(200, 299) if xception.aligned(size, 299)] == [203, 204, 235, 236, 267, 268]


@pytest.mark.parametrize(
    ("recipe", "theirs", "words"),
    [
        (student(), {"labels": ("bright", "grey")}, "tell apart what the data does, bright, dark; it tells apart b"),
        (student(), {"head": "flatten-dense16"}, "must have this recipe's head and scaling, pooled and .*, got flat"),
        (student(blocks=3), {}, "at most the teacher's 2 middle blocks, got 3"),
        (student(135), {}, "the input of this teacher's student is 103 px or smaller, got 135"),
        (student(267), {"input_size": 299}, "the input of this teacher's student is 224 px or smaller, got 267"),
        (student(80), {}, "must meet odd and even sides where the teacher's of 103 px do, as those of 71 and 72 px"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    films: Path, tmp_path: Path, recipe: recipes.Recipe, theirs: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        fit(films, tmp_path / "student", write_teacher(tmp_path / "teacher", **theirs), tmp_path, recipe)
    assert not (tmp_path / "student").exists()


def test_a_teacher_is_a_run(films: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe edge needs the RUN of a teacher, got imagenet"):
        fit(films, tmp_path / "student", Path("imagenet"), tmp_path, student())


TOGETHER = ("--recipe", "edge", "--teacher", "RUN")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--recipe", "edge"), "--recipe edge and --teacher go together"),
        (("--teacher", "RUN"), "--recipe edge and --teacher go together"),
        ((*TOGETHER, "--backbone-weights", "none"), "leave --backbone-weights out"),
        ((*TOGETHER, "--folds", "2"), "leave --folds out, or give --leave-one-out COLUMN=VALUE"),
        ((*TOGETHER, "--leave-one-out", "source"), "leave --folds out, or give --leave-one-out COLUMN=VALUE"),
        ((*TOGETHER, "--feature-views", "0"), "a recipe with a teacher needs .* 1 view or more"),
    ],
)
def test_what_a_teacher_does_not_go_with_is_one_sentence(more: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(cli.app, ["train", "DATA", "-o", "OUT", *more])
    assert isinstance(done.exception, UsageError)
    with pytest.raises(UsageError, match=words):
        raise done.exception


@pytest.mark.parametrize("count", ["0", "9"])
def test_middle_blocks_are_1_to_8_on_the_command_line_too(count: str) -> None:
    assert CliRunner().invoke(cli.app, ["train", "DATA", "-o", "OUT", "--middle-blocks", count]).exit_code == 2
