"""The loop in the shape for GPUs, on an engine that stands in for one: batches of one size, order, memory, stops."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bundle import load
from edgecxr.engines import Outputs
from edgecxr.engines.select import Asked
from edgecxr.errors import DeviceMemoryError
from edgecxr.pictures import decode as images
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Plan, Session, open_session


class Gpu:
    """Computes the tiny network by hand, in batches that its memory holds, and keeps the shapes it was given."""

    name, provider, device, precision, threads = "onnxruntime", "CUDAExecutionProvider", "cuda", "fp16", 1
    input_shape, classes = (tiny.SIZE, tiny.SIZE, 1), 3

    def __init__(self, holds: int = 4096) -> None:
        self.holds, self.batches, self.within = holds, [], threading.Lock()

    def run(self, inputs: np.ndarray) -> Outputs:
        assert self.within.acquire(blocking=False), "two calls at a time"
        try:
            self.batches.append(len(inputs))
            if len(inputs) > self.holds:
                raise DeviceMemoryError(f"the memory of the GPU doesn't suffice for batches of {len(inputs)}")
            return tiny.outputs(np.stack([tiny.tiny_logits(image[:, :, 0]) for image in inputs]))
        finally:
            self.within.release()


@pytest.fixture(scope="module")
def opened(tiny_bundle: Path) -> Session:
    return open_session(load(tiny_bundle), Asked(engine="onnxruntime", device="cpu"))


def on(gpu: Gpu, opened: Session, batch_size: int, workers: int = 2) -> Session:
    return replace(opened, engine=gpu, plan=Plan(workers, 1, batch_size), notes=[])


@pytest.mark.parametrize(("pictures", "batches"), [(1, 1), (7, 1), (8, 1), (9, 2), (24, 3), (25, 4)])
def test_every_batch_has_the_one_size(
    opened: Session, picture: Callable[..., Path], pictures: int, batches: int
) -> None:
    """A folder smaller than a batch too: the kernels that were tuned for one shape meet no other."""
    gpu = Gpu()
    paths = [picture(f"{i:02}.png", seed=i) for i in range(pictures)]
    predictions = list(pipeline.stream(on(gpu, opened, 8), paths))
    assert gpu.batches == [8] * batches
    assert [p.path for p in predictions] == [str(path) for path in paths]
    for path, prediction in zip(paths, predictions, strict=True):
        image = images.network_input(path, tiny.CONTRACT)
        np.testing.assert_allclose(list(prediction.logits.values()), tiny.tiny_logits(image), atol=1e-4)


def test_rejected_pictures_keep_their_place_and_an_empty_batch_is_not_run(
    opened: Session, picture: Callable[..., Path], tmp_path: Path
) -> None:
    gpu = Gpu()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    good = picture()
    predictions = list(pipeline.stream(on(gpu, opened, 4), [good, broken, good, broken] + [broken] * 4 + [good]))
    assert [p.status == "scored" for p in predictions] == [True, False, True, False] + [False] * 4 + [True]
    assert gpu.batches == [4, 4]


def test_too_little_memory_halves_the_batch_once_and_says_so(opened: Session, picture: Callable[..., Path]) -> None:
    gpu = Gpu(holds=4)
    session = on(gpu, opened, 8)
    paths = [picture(f"{i:02}.png", seed=i) for i in range(18)]
    predictions = list(pipeline.stream(session, paths))
    assert [p.path for p in predictions] == [str(path) for path in paths]
    assert all(p.status == "scored" for p in predictions)
    assert gpu.batches == [8, 4, 4, 4, 4, 4]  # and never 8 again
    assert session.notes == [
        "the memory of the GPU doesn't suffice for batches of 8; batches of 4 are used from here on"
    ]


@pytest.mark.parametrize(("holds", "size", "tried"), [(3, 8, [8, 4]), (0, 1, [1])])
def test_too_little_memory_for_that_too_is_an_error(
    opened: Session, picture: Callable[..., Path], holds: int, size: int, tried: list[int]
) -> None:
    gpu = Gpu(holds)
    with pytest.raises(DeviceMemoryError, match="doesn't suffice") as caught:
        list(pipeline.stream(on(gpu, opened, size), [picture()] * 20))
    assert gpu.batches[: len(tried)] == tried
    assert caught.value.exit_code == 4


def test_the_folder_is_read_no_further_ahead_than_a_few_batches(opened: Session, picture: Callable[..., Path]) -> None:
    path, taken = picture(), 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield path

    stream = pipeline.stream(on(Gpu(), opened, 4), paths())
    for _ in range(10):
        next(stream)
    stream.close()
    assert taken <= 10 + 4 * 4


def test_a_stop_finishes_what_is_in_hand(opened: Session, picture: Callable[..., Path]) -> None:
    stop, got = threading.Event(), 0
    for prediction in pipeline.stream(on(Gpu(), opened, 4), [picture()] * 500, stop.is_set):
        assert prediction.status == "scored"
        got += 1
        if got == 10:
            stop.set()
    assert 10 <= got < 50
