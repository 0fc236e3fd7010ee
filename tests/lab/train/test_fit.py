"""Training: a real fit of the real network, small, on drawn pictures."""

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from common import noisy
from edgecxr.cli import app, extras
from edgecxr.errors import DataError, UnavailableError, UsageError
from edgecxr.lab.run import read_run
from edgecxr.lab.train import recipes

pytestmark = pytest.mark.lab

LABELS = ("bright", "dark")


def tiny_recipe(name: str) -> recipes.Recipe:
    chosen = recipes.recipe(name)
    stages = tuple(replace(stage, epochs=1) for stage in chosen.stages)
    return replace(chosen, stages=stages, input_size=71, batch_size=8, middle_blocks=1)


def write_data(folder: Path, count: int = 10) -> Path:
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for i in range(count):
            shift = 60 if label == "bright" else -60
            pixels = np.clip(noisy((90, 90), i).astype(int) + shift, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "films")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgecxr.lab.train.fit import fit

    folder, cache = tmp_path_factory.mktemp("runs") / "run", tmp_path_factory.mktemp("cache")
    fit(data, folder, tiny_recipe("default"), backbone_weights="none", cache=cache)
    # The frozen backbone's features, which no other fit is likely to read, are gone.
    assert {file.name.partition("-")[0] for file in cache.iterdir()} == {"pictures"}
    return folder


def test_a_run_holds_what_the_export_needs(run: Path) -> None:
    read = read_run(run)
    assert read.labels == LABELS
    assert read.contract.width == 71
    assert read.contract.source_size is None  # the pictures are larger than the input
    assert read.recipe.to_json() == tiny_recipe("default").to_json()
    assert read.description["data"]["splits"]["train"] == {"bright": 6, "dark": 6}
    with (run / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    with Image.open(run / "curves.png") as curves:
        assert curves.size[0] > 500
    for split in ("dev", "test"):
        logits = read.logits(split)
        assert logits.logits.shape == (len(logits.files), 2)
        assert np.isfinite(logits.logits).all()
        assert [file.split("/")[0] for file in logits.files] == [LABELS[c] for c in logits.classes]


def test_the_logits_are_those_of_the_saved_weights(run: Path, data: Path) -> None:
    from edgecxr.lab.train import model
    from edgecxr.pictures import decode as images

    read = read_run(run)
    rebuilt = model.build(read.recipe, 2)
    rebuilt.load_weights(read.weights)
    dev = read.logits("dev")
    decoded = [images.decode((data / file).read_bytes(), read.contract) for file in dev.files]
    inputs = np.stack([images.prepare(picture, read.contract) for picture in decoded])[..., None]
    np.testing.assert_allclose(rebuilt.predict(inputs, verbose=0), dev.logits, atol=1e-4)


def test_the_command_lines_options_reach_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[recipes.Recipe] = []
    lab = SimpleNamespace(fit=lambda data, output, recipe, **_: seen.append(recipe))
    monkeypatch.setattr(extras, "load_lab", lambda *_: lab)
    options = ("--recipe", "seed", "--feature-views", "0", "--epochs", "3", "--input-size", "96")
    assert CliRunner().invoke(app, ["train", "DATA", "-o", "RUN", *options]).exit_code == 0
    seed = recipes.recipe("seed")
    assert seen == [replace(seed, feature_views=0, input_size=96, stages=(replace(seed.stages[0], epochs=3),))]
    assert CliRunner().invoke(app, ["train", "DATA", "-o", "RUN", "--feature-views", "9"]).exit_code == 2


def test_parameter_counts_are_the_originals() -> None:
    from edgecxr.lab.train import model

    seed = model.build(recipes.recipe("seed"), 3)
    model.freeze(seed, None)
    assert model.parameter_counts(seed) == (24_138_347, 3_276_867)


def test_freezing_takes_a_layer_by_the_start_of_its_name() -> None:
    from edgecxr.lab.train import model

    network = model.build(tiny_recipe("default"), 3)
    model.freeze(network, "block14")
    names = [variable.path.split("/")[0] for variable in network.get_layer(model.BACKBONE).trainable_variables]
    assert names
    assert all(name.startswith("block14") for name in names)
    model.freeze(network, "")
    assert model.parameter_counts(network)[1] > 9_000_000
    with pytest.raises(UsageError, match="no layer"):
        model.freeze(network, "block99")


def test_class_weights_are_inverse_shares_with_mean_one() -> None:
    from edgecxr.lab.train.batches import Targets

    classes = [0] * 6 + [1] * 2
    weights = Targets.of(classes, 2, balance=True).class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([8 / 12, 8 / 4])
    assert weights[classes].mean() == pytest.approx(1)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    from edgecxr.lab.train.batches import Epoch, Targets, augmented

    pictures = np.stack([noisy((71, 71), i) for i in range(14)])
    targets = Targets.of([0, 1] * 5, 2, balance=False)

    def epoch(seed: int, number: int, **options: int) -> list[np.ndarray]:
        source = augmented(pictures, range(2, 12), recipes.recipe("default").augmentation, seed)
        batches = Epoch(source, targets, 4, seed=seed, epoch=number, **options)
        return [batches[i][0] for i in range(len(batches))]

    assert [b.shape for b in epoch(0, 0)] == [(4, 71, 71, 1), (4, 71, 71, 1), (2, 71, 71, 1)]
    for a, b in zip(epoch(0, 1), epoch(0, 1), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(epoch(0, 0)[0], epoch(0, 1)[0])
    assert not np.array_equal(epoch(0, 0)[0], epoch(1, 0)[0])
    for a, b in zip(epoch(0, 1)[1:], epoch(0, 1, first=1), strict=True):  # going on in the middle of an epoch
        assert np.array_equal(a, b)
    assert [len(b) for b in epoch(0, 0, multiple_of=4)] == [4, 4]  # two pictures wait for another epoch's order


def test_a_batch_is_labelled_as_its_pictures_are() -> None:
    from edgecxr.lab.train.batches import Epoch, Targets, augmented

    pictures = np.stack([np.full((71, 71), 10 * i, np.uint8) for i in range(6)])
    classes = [0, 1, 1, 0, 1, 0]
    source = augmented(pictures, range(6), recipes.Augmentation(), 0)
    for inputs, labels in map(
        Epoch(source, Targets.of(classes, 2, balance=False), 4, seed=3, epoch=0).__getitem__, (0, 1)
    ):
        for image, label in zip(inputs, labels, strict=True):
            assert label.argmax() == classes[int(image.mean()) // 10]


def test_predictions_are_of_the_rows_asked_for_whatever_the_last_batch() -> None:
    from edgecxr.lab.train.batches import predict

    class Mean:
        def predict(self, batches: Any, verbose: int) -> np.ndarray:
            parts = [batches[i][0] for i in range(len(batches))]
            assert {part.shape for part in parts} == {(4, 71, 71, 1)}
            return np.concatenate(parts).mean(axis=(1, 2))

    pictures = np.stack([np.full((71, 71), 10 * i, np.uint8) for i in range(9)])
    assert predict(Mean(), pictures, [8, 0, 2, 3, 5], 4)[:, 0].tolist() == [80, 0, 20, 30, 50]


def test_what_cannot_be_trained_on_is_one_sentence_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    from edgecxr.lab.train.fit import fit

    chosen = tiny_recipe("default")
    with pytest.raises(UsageError, match="isn't empty"):
        fit(data, data, chosen, backbone_weights="none")
    with pytest.raises(UsageError, match="expects imagenet, none, an existing file or a RUN"):
        fit(data, tmp_path / "run", chosen, backbone_weights="absent.h5", cache=tmp_path)
    (tmp_path / "garbage.weights.h5").write_bytes(b"garbage")
    with pytest.raises(UsageError, match="no weights of Xception"):
        fit(data, tmp_path / "run", chosen, backbone_weights=str(tmp_path / "garbage.weights.h5"), cache=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["garbage.weights.h5"]  # noticed before anything is decoded
    broken = write_data(tmp_path / "broken")
    (broken / "dark" / "3.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"can't be used .*3\.png"):
        fit(broken, tmp_path / "run", chosen, backbone_weights="none", cache=tmp_path)
    assert not (tmp_path / "run").exists()


def test_imagenet_weights_out_of_reach_are_one_sentence_naming_the_option(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    from edgecxr.lab.train.fit import fit

    def unreachable(*args: object, **options: object) -> str:
        raise Exception("URL fetch failure on …: None -- Name or service not known")

    monkeypatch.setattr(keras.src.applications.xception.file_utils, "get_file", unreachable)
    with pytest.raises(UnavailableError, match="--backbone-weights"):
        fit(data, tmp_path / "run", tiny_recipe("default"), cache=tmp_path)
