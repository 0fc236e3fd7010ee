"""Never lost: whatever stops a fit, it goes on from where it was and ends with the same bits."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from PIL import Image

from common import command_line, noisy
from edgecxr.errors import DataError, DivergedError, Interrupted, StorageError, UsageError
from edgecxr.lab.run import read_run
from edgecxr.lab.train import checkpoint, recipes
from full_disk import files_unlimited_afterwards, limit_files

pytestmark = pytest.mark.lab

# `edgecxr …` that gets a signal from nobody but itself, right after a certain step: no race, whatever the machine.
KILLED = """
import sys
from test_resumed_training import signalled
sys.argv = ["edgecxr", *sys.argv[1:]]
from edgecxr.__main__ import main
with signalled(9, 3, 2):
    main()
"""


@contextmanager
def signalled(number: int, epoch: int, step: int) -> Iterator[None]:
    """A fit within sends that signal to its own process right after that step."""
    from edgecxr.lab.train import loop

    before = loop._Watch.on_train_batch_end

    def on_train_batch_end(self: Any, batch: int, logs: Any = None) -> None:
        if self.title.startswith(f"epoch {epoch} ") and self.step + 1 == step:
            os.kill(os.getpid(), number)
        before(self, batch, logs)

    with mock.patch.object(loop._Watch, "on_train_batch_end", on_train_batch_end):
        yield


def write_films(folder: Path, counts: dict[str, int]) -> Path:
    for place, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(noisy((90, 90), 1000 * place + i).astype(int) - 60 + 120 * place, 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of two classes, one twice as frequent: 36 to learn from, in 3 batches of 16."""
    return write_films(tmp_path_factory.mktemp("data") / "films", {"dark": 40, "bright": 20})


def chosen() -> recipes.Recipe:
    """The default recipe, all of it: features of a frozen backbone, then two epochs of fine-tuning."""
    default = recipes.recipe("default")
    assert default.dropout
    assert default.balance_sources
    assert default.feature_views
    assert default.augmentation != recipes.Augmentation()
    assert [stage.trainable_from is None for stage in default.stages] == [True, False]
    stages = (default.stages[0], replace(default.stages[1], epochs=2))
    return replace(default, input_size=71, stages=stages, middle_blocks=1)


def fit(data: Path, folder: Path, recipe: recipes.Recipe, **options: Any) -> None:
    from edgecxr.lab.train.fit import fit

    fit(data, folder, recipe, **{"backbone_weights": "none", "seed": 3, **options})


class Interruptions:
    """One call of `edgecxr train`, stopped three times in three ways, and what it left each time.

    What is killed is a process of its own, so that in between another begins with nothing but the files.
    """

    def __init__(self, films: Path, folder: Path) -> None:
        """Told to stop in the head's epoch."""
        self.run = folder / "run"
        self.call = ["train", str(films), "-o", str(self.run), "--cache", str(folder / "cache")]
        self.call += ["--backbone-weights", "none", "--input-size", "71", "--middle-blocks", "1"]
        self.call += ["--epochs", "2", "--seed", "3"]
        with signalled(signal.SIGTERM, 1, 2):
            self.terminated = command_line(self.call)
        self.halfway = Path(shutil.copytree(self.run, folder / "halfway"))

    def go_on(self) -> None:
        """Killed in fine-tuning, interrupted there, and finished."""
        command = [sys.executable, "-c", KILLED, *self.call, "--resume"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.killed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, env=environment)
        self.after_kill = checkpoint.load(self.run)
        with signalled(signal.SIGINT, 3, 1):
            self.interrupted = command_line([*self.call, "--resume", "-j", "2"])
        self.after_interrupt = checkpoint.load(self.run)
        self.finished = command_line([*self.call, "--resume"])


@pytest.fixture(scope="module")
def terminated(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Interruptions:
    return Interruptions(films, tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def stopped(terminated: Interruptions) -> Interruptions:
    terminated.go_on()
    return terminated


@pytest.fixture(scope="module")
def whole(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same call, never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    fit(films, folder / "run", chosen(), cache=folder / "cache")
    return folder / "run"


@pytest.fixture(scope="module")
def heads(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished fit of the head alone."""
    folder = tmp_path_factory.mktemp("heads")
    fit(films, folder / "run", head_only(1e-3), cache=folder / "cache")
    return folder / "run"


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return result.stderr.splitlines()[-1]


def test_sigterm_in_an_epoch_saves_it_and_says_so(terminated: Interruptions) -> None:
    assert terminated.terminated.returncode == 128 + signal.SIGTERM
    assert last_line(terminated.terminated) == (
        "edgecxr: stopped in epoch 1 of 3 after 2 of 3 steps; everything is saved, go on with the same call and "
        f"--resume: {terminated.run}"
    )
    assert "Traceback" not in terminated.terminated.stderr
    found = checkpoint.load(terminated.halfway)
    assert found is not None
    assert (found.epoch, found.step, found.history) == (0, 2, [])
    assert [path.name for path in terminated.halfway.iterdir()] == [checkpoint.FILE]


@pytest.mark.slow
def test_a_killed_fit_has_the_checkpoint_of_its_last_epoch(stopped: Interruptions) -> None:
    assert stopped.killed.returncode == -signal.SIGKILL
    assert "going on after 0 epochs and 2 steps" in stopped.killed.stderr
    assert stopped.after_kill is not None
    assert (stopped.after_kill.epoch, stopped.after_kill.step) == (2, 0)
    assert [row["epoch"] for row in stopped.after_kill.history] == [0, 1]


@pytest.mark.slow
def test_ctrl_c_in_an_epoch_saves_it_and_ends_with_130(stopped: Interruptions) -> None:
    assert stopped.interrupted.returncode == 130
    assert "stopped in epoch 3 of 3 after 1 of 3 steps" in last_line(stopped.interrupted)
    assert stopped.after_interrupt is not None
    assert (stopped.after_interrupt.epoch, stopped.after_interrupt.step) == (2, 1)
    assert stopped.after_interrupt.seconds > 0


@pytest.mark.slow  # of the head alone in test_a_fit_of_the_head_that_was_stopped_thrice_ends_bit_equal
def test_a_fit_that_was_stopped_thrice_ends_bit_equal_to_one_that_never_was(
    stopped: Interruptions, whole: Path
) -> None:
    assert stopped.finished.returncode == 0, stopped.finished.stderr
    assert not (stopped.run / checkpoint.FILE).exists()
    assert_same_run(stopped.run, whole)


def assert_same_run(one: Path, other: Path) -> None:
    with h5py.File(read_run(one).weights) as ours, h5py.File(read_run(other).weights) as theirs:
        names: list[str] = []
        ours.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) > 100  # 110 variables: of batch norms four each
        for name in names:
            assert np.array_equal(ours[name][()], theirs[name][()]), name
    for split in ("dev", "test"):
        assert np.array_equal(read_run(one).logits(split).logits, read_run(other).logits(split).logits)
    assert history(one) == history(other)


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_a_finished_run_is_not_resumed_and_not_overwritten(heads: Path, films: Path) -> None:
    before = contents(heads)
    with pytest.raises(UsageError, match="the run is finished, there is nothing to resume"):
        fit(films, heads, head_only(1e-3), resume=True)
    with pytest.raises(UsageError, match="isn't empty"):
        fit(films, heads, head_only(1e-3))
    assert contents(heads) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_resume_with_another_call_is_refused_and_what_differs_is_named(
    terminated: Interruptions, films: Path, tmp_path: Path
) -> None:
    before = contents(terminated.halfway)
    call: dict[str, Any] = {"resume": True, "cache": tmp_path / "cache"}
    with pytest.raises(UsageError, match=r"what differs from the run's: data, seed$"):  # the splits are the seed's
        fit(films, terminated.halfway, chosen(), seed=4, **call)
    with pytest.raises(UsageError, match=r"what differs from the run's: recipe$"):
        fit(films, terminated.halfway, replace(chosen(), dropout=0.3), **call)
    with pytest.raises(UsageError, match=r"what differs from the run's: preprocessing, recipe$"):
        fit(films, terminated.halfway, replace(chosen(), input_size=75), **call)
    other = Path(shutil.copytree(films, tmp_path / "films"))
    (other / "dark" / "0.png").write_bytes((other / "dark" / "1.png").read_bytes())
    with pytest.raises(UsageError, match=r"what differs from the run's: data$"):
        fit(other, terminated.halfway, chosen(), **call)
    with pytest.raises(UsageError, match="isn't empty"):
        fit(films, terminated.halfway, chosen(), cache=tmp_path / "cache")
    assert contents(terminated.halfway) == before


def test_a_damaged_checkpoint_is_refused_and_stays(terminated: Interruptions, films: Path, tmp_path: Path) -> None:
    data = (terminated.halfway / checkpoint.FILE).read_bytes()
    (tmp_path / "run").mkdir()
    for damaged in (b"", data[: len(data) // 2], data[:-1], data[:5_000_000] + b"?" + data[5_000_001:]):
        (tmp_path / "run" / checkpoint.FILE).write_bytes(damaged)
        with pytest.raises(UsageError, match="the checkpoint can't be read"):
            fit(films, tmp_path / "run", chosen(), resume=True, cache=tmp_path / "cache")
        assert contents(tmp_path / "run") == {checkpoint.FILE: damaged}


def test_a_resume_does_not_write_into_a_folder_of_other_things(films: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="no checkpoint to go on from"):
        fit(films, tmp_path / "run", chosen(), resume=True, cache=tmp_path / "cache")
    assert contents(tmp_path / "run") == {"thesis.txt": b"x"}


def head_only(*rates: float, batch_size: int = 16) -> recipes.Recipe:
    """A stage for each learning rate, all of them of the head alone, on features: a second each."""
    stages = tuple(recipes.Stage(epochs=1, learning_rate=rate, trainable_from=None) for rate in rates)
    return replace(chosen(), stages=stages, batch_size=batch_size)


@pytest.mark.slow
def test_keras_takes_the_batches_in_their_own_order(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would draw an order of its own, from a state that no checkpoint holds.
    from edgecxr.lab.train.batches import Epoch

    taken: list[int] = []
    take = Epoch.__getitem__
    monkeypatch.setattr(Epoch, "__getitem__", lambda self, batch: (taken.append(batch), take(self, batch))[1])
    fit(films, tmp_path / "run", head_only(1e-3, batch_size=4), cache=tmp_path / "cache")
    assert taken[-9:] == list(range(9))  # TensorFlow looks at the first two before


@pytest.mark.parametrize(
    ("rate", "batch_size", "words"),
    [
        (1e38, 16, r"^the loss became (nan|inf) in epoch 2 of 2, step 3; the last checkpoint is kept"),
        # One step: its loss is from before the update that ruins the weights.
        (float("inf"), 64, r"^a weight became infinite or not a number in epoch 2 of 2, step 1; the last checkpoint"),
    ],
    ids=["loss", "weights"],
)
def test_a_fit_that_diverges_names_the_step_and_keeps_the_last_checkpoint(
    films: Path, tmp_path: Path, rate: float, batch_size: int, words: str
) -> None:
    with pytest.raises(DivergedError, match=words):
        fit(films, tmp_path / "run", head_only(1e-3, rate, batch_size=batch_size), cache=tmp_path / "cache")
    found = checkpoint.load(tmp_path / "run")
    assert found is not None
    assert (found.epoch, found.step) == (1, 0)
    assert found.variables.finite()
    assert contents(tmp_path / "run").keys() == {checkpoint.FILE}


@pytest.mark.slow
def test_a_fit_of_the_head_that_was_stopped_thrice_ends_bit_equal(
    films: Path, heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.lab.train import features
    from edgecxr.pictures import decode as images

    def telling(work: Any) -> Any:
        return lambda *arguments: (os.kill(os.getpid(), signal.SIGTERM), work(*arguments))[1]

    recipe, cache = head_only(1e-3), tmp_path / "cache"
    places = (
        (images, "prepare", "while the pictures were decoded"),
        (features, "_forward", "while the features of the frozen backbone were computed"),
    )
    for module, name, when in places:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, telling(getattr(module, name)))
            with pytest.raises(Interrupted, match=f"^stopped {when}; the same call with --resume goes on") as left:
                fit(films, tmp_path / "run", recipe, cache=cache, resume=True)
        assert left.value.exit_code == 128 + signal.SIGTERM
        assert not list(cache.glob("*.partial"))
    # Before the first epoch nothing is left half done; in it, two steps are.
    with (
        signalled(signal.SIGTERM, 1, 2),
        pytest.raises(Interrupted, match=r"^stopped in epoch 1 of 1 after 2 of 3 steps; everything is saved"),
    ):
        fit(films, tmp_path / "run", recipe, cache=cache, resume=True)
    fit(films, tmp_path / "run", recipe, cache=cache, resume=True)
    assert_same_run(tmp_path / "run", heads)


def test_a_stop_at_the_end_of_a_frozen_stage_leaves_no_features(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.lab.train import loop

    figures, cache = loop._figures, tmp_path / "cache"

    def told(*arguments: Any) -> dict[str, float]:
        assert sorted(file.name.partition("-")[0] for file in cache.iterdir()) == [*["features"] * 2, *["pictures"] * 2]
        os.kill(os.getpid(), signal.SIGTERM)
        return figures(*arguments)

    recipe = replace(chosen(), stages=(chosen().stages[0], replace(chosen().stages[1], epochs=1)))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_figures", told)
        with pytest.raises(Interrupted, match="stopped after epoch 1 of 2; everything is saved"):
            fit(films, tmp_path / "run", recipe, cache=cache)
    # Of the pictures there are the array, and the hashes of what it holds.
    assert [file.name.partition("-")[0] for file in cache.iterdir()] == ["pictures"] * 2
    if sys.platform == "linux":  # and none is held open, which would keep its room
        assert str(cache / "features-") not in Path("/proc/self/maps").read_text()


@pytest.mark.slow  # one fit, stopped thrice
def test_a_full_disk_is_one_sentence_and_what_was_saved_stays(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecxr.lab.train import fit as module
    from edgecxr.lab.train import loop

    recipe, cache = head_only(1e-3, 1e-3), tmp_path / "cache"
    figures, logits = loop._figures, module._logits
    evaluated: list[int] = []

    def watched(*arguments: Any) -> dict[str, float]:
        evaluated.append(1)
        if len(evaluated) == 2:
            limit_files(100_000)  # while the second checkpoint is written …
        return figures(*arguments)

    with files_unlimited_afterwards(), monkeypatch.context() as patch:
        patch.setattr(loop, "_figures", watched)
        with pytest.raises(StorageError, match=r"^the checkpoint can't be written \(no room left\): "):
            fit(films, tmp_path / "run", recipe, cache=cache)
    found = checkpoint.load(tmp_path / "run")
    assert found is not None
    assert found.epoch == 1
    assert contents(tmp_path / "run").keys() == {checkpoint.FILE}

    # … and at the end, while the weights are; HDF5 wouldn't survive that only its last bytes find no room.
    for limit in (100_000, sum(value.nbytes for value in found.variables.model)):

        def last(*arguments: Any, limit: int = limit) -> Any:
            limit_files(limit)
            return logits(*arguments)

        with files_unlimited_afterwards(), monkeypatch.context() as patch:
            patch.setattr(module, "_logits", last)
            with pytest.raises(StorageError, match=r"^the run's weights can't be written \(no room left\): "):
                fit(films, tmp_path / "run", recipe, cache=cache, resume=True)
        assert contents(tmp_path / "run").keys() == {checkpoint.FILE}
    found = checkpoint.load(tmp_path / "run")
    assert found is not None
    assert found.epoch == 2
    with pytest.raises(UsageError, match="not a run"):
        read_run(tmp_path / "run")
    fit(films, tmp_path / "run", recipe, cache=cache, resume=True)
    assert read_run(tmp_path / "run").logits("test").logits.shape == (15, 2)


def test_data_that_cannot_be_learnt_from_is_named_and_nothing_is_written(films: Path, tmp_path: Path) -> None:
    few = write_films(tmp_path / "few", {"dark": 10, "bright": 2})
    with pytest.raises(DataError, match="the train split has no picture of bright"):
        fit(few, tmp_path / "run", chosen(), cache=tmp_path / "cache")
    broken = Path(shutil.copytree(films, tmp_path / "broken"))
    (broken / "bright" / "7.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a labelled picture can't be used .*7\.png"):
        fit(broken, tmp_path / "run", chosen(), cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()
