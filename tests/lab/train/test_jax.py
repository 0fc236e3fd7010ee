"""The same training under Keras's JAX backend, on one device and on two that share each batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_resumed_training import write_films

from edgecxr.lab.run import Run, read_run

pytestmark = pytest.mark.lab  # XLA compiles each fit in a process of its own

# The default recipe, small: the head on features, then the exit flow; weight decay, dropout.
FIT = """
import sys
from dataclasses import replace
from pathlib import Path
from edgecxr.lab.train.fit import fit
from edgecxr.lab.train.recipes import recipe
chosen = recipe("default")
head, rest = chosen.stages
stages = (replace(head, epochs=2), replace(rest, epochs=2, trainable_from="block14"))
chosen = replace(chosen, stages=stages, input_size=71, middle_blocks=1, batch_size=8, mixed_precision=False)
data, run, cache = map(Path, sys.argv[1:4])
fit(data, run, chosen, backbone_weights="none", seed=2, cache=cache, device="cpu", workers=2)
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # 36 to learn from, in batches of 8 and one of 4; 9 to watch, which two devices can't share evenly.
    return write_films(tmp_path_factory.mktemp("data") / "films", {"dark": 40, "bright": 20})


def fitted(films: Path, folder: Path, devices: int) -> Run:
    pytest.importorskip("jax")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-c", FIT, *map(str, (films, folder / "run", folder / "cache"))]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900, env=environment)
    assert result.returncode == 0, result.stderr
    return read_run(folder / "run")


@pytest.fixture(scope="module")
def one(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(films, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def two(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(films, tmp_path_factory.mktemp("two"), 2)


@pytest.mark.slow
def test_weights_fitted_under_jax_answer_the_same_under_tensorflow(two: Run, films: Path) -> None:
    import keras

    from edgecxr.lab.train import model as models
    from edgecxr.pictures import decode as images

    assert keras.backend.backend() == "tensorflow"
    assert two.description["versions"]["backend"] == "jax"
    loaded, fresh = models.load_run(two), models.build(two.recipe, 2)
    for split in ("dev", "test"):
        stored = two.logits(split)
        inputs = np.stack([images.network_input(films / file, two.contract) for file in stored.files])[..., None]
        largest = np.abs(stored.logits).max()  # small, after a few steps from random weights
        assert np.abs(loaded.predict(inputs, verbose=0) - stored.logits).max() < 1e-5 * largest
        assert np.abs(fresh.predict(inputs, verbose=0) - stored.logits).max() > 0.1 * largest  # it is the weights


def history(run: Run) -> list[dict[str, float]]:
    with (run.folder / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_fit_on_two_devices_learns(two: Run) -> None:
    assert two.description["training"]["device"] == "2 x cpu (jax)"
    assert history(two)[-1]["loss"] < history(two)[0]["loss"]
    assert [row["stage"] for row in history(two)] == [0, 0, 1, 1]


@pytest.mark.long
def test_two_devices_share_each_batch_and_end_where_one_does(one: Run, two: Run) -> None:
    from edgecxr.lab.train import model as models

    assert one.description["training"]["device"] == "cpu (jax)"
    # Sums in another order, and Adam divides by their square root: measured 3e-8 apart.
    for ours, theirs in zip(history(two), history(one), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-4)
    ours, theirs = models.load_run(two).get_weights(), models.load_run(one).get_weights()
    for one_device, two_devices in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(two_devices, one_device, atol=1e-4)
    np.testing.assert_allclose(two.logits("test").logits, one.logits("test").logits, atol=1e-4)
