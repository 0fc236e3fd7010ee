"""Checkpoints: read back as they were written, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecxr.errors import UsageError
from edgecxr.lab.train import checkpoint
from edgecxr.lab.train.checkpoint import Checkpoint, Variables
from edgecxr.lab.train.recipes import recipe

IDENTITY: dict[str, Any] = {"seed": 1, "labels": ("a", "b"), "recipe": recipe("default").to_json()}


def made(**changes: Any) -> Checkpoint:
    # More than ten of them: their names must not sort as text does.
    model = [np.full((2, 3), i, np.float32) for i in range(12)] + [np.array([7, 9], np.uint32)]
    variables = Variables(model, [np.array(5, np.int32), np.ones(3, np.float32)], [np.array(0.5, np.float32)])
    values = {"identity": IDENTITY, "epoch": 3, "step": 2, "history": [{"epoch": 0, "loss": 0.1 + 0.2}]}
    return Checkpoint(**{**values, "variables": variables, "seconds": 1.5, **changes})


def parts(found: Checkpoint) -> list[list[np.ndarray]]:
    return [found.variables.model, found.variables.optimizer, found.variables.metrics]


def test_a_checkpoint_is_read_back_to_the_bit(tmp_path: Path) -> None:
    made().save(tmp_path)
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert (found.epoch, found.step, found.seconds) == (3, 2, 1.5)
    assert found.history == [{"epoch": 0, "loss": 0.1 + 0.2}]
    for theirs, ours in zip(parts(found), parts(made()), strict=True):
        assert [a.dtype for a in theirs] == [a.dtype for a in ours]
        assert all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True))
    checkpoint.check_identity(found.identity, IDENTITY)


def test_another_call_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    made().save(tmp_path)
    found = checkpoint.load(tmp_path)
    assert found is not None
    with pytest.raises(UsageError, match=r"what differs from the run's: recipe, seed$"):
        checkpoint.check_identity(found.identity, {**IDENTITY, "seed": 2, "recipe": recipe("seed").to_json()})
    with pytest.raises(UsageError, match=r"what differs from the run's: device$"):
        checkpoint.check_identity(found.identity, {**IDENTITY, "device": "gpu"})


def test_no_checkpoint_is_a_beginning_only_where_nothing_else_stands(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "absent") is None
    assert checkpoint.load(tmp_path) is None
    (tmp_path / "checkpoint.npz.partial").write_bytes(b"killed in the first of them")
    assert checkpoint.load(tmp_path) is None
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="no checkpoint to go on from, and the folder isn't empty"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_of_another_schema_is_refused(tmp_path: Path) -> None:
    made().save(tmp_path)
    with np.load(tmp_path / checkpoint.FILE) as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays["about"]))
    arrays["about"] = np.array(json.dumps({**about, "schema": 99}))
    np.savez(tmp_path / checkpoint.FILE, **arrays)
    with pytest.raises(UsageError, match="schema is 99, this version reads 1"):
        checkpoint.load(tmp_path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_checkpoint_is_refused_or_gives_the_same(tmp_path: Path, place: float, flip: int, cut: bool) -> None:
    file = tmp_path / checkpoint.FILE
    made().save(tmp_path)
    data = bytearray(file.read_bytes())
    at = int(place * len(data))
    if cut:
        del data[at:]
    else:
        data[at] ^= flip
    file.write_bytes(data)
    try:
        found = checkpoint.load(tmp_path)
    except UsageError as error:
        assert "the checkpoint can't be read" in str(error)
        return
    assert found is not None  # a byte that nobody reads: a date in the archive's directory, say
    assert not cut
    for theirs, ours in zip(parts(found), parts(made()), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True))


def test_values_that_do_not_fit_the_model_are_refused() -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(UsageError, match="doesn't fit the model"):
        made().variables.assign_model(model)


def test_infinities_are_seen() -> None:
    assert made().variables.finite()
    broken = made().variables
    broken.optimizer[1][2] = np.nan
    assert not broken.finite()
