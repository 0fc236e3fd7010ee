"""A picture's answer doesn't depend on its company: not on order, workers or threads, on batches by a last bit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from common import noisy
from edgecxr.bundle import Bundle, load
from edgecxr.engines.select import Asked
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session

# Of a logit, between batches of one size and of another; measured: 4e-6 in fp32 and 1e-6 in int8 with ONNX Runtime,
# where logits reach 45 and 2.4; 0 with OpenVINO.
TOLERANCE = 1e-5

ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("company")
    made = [folder / f"{seed}.png" for seed in range(13)]
    for seed, path in enumerate(made):
        Image.fromarray(noisy((300, 280), seed)).save(path)
    return made


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load(tiny.write_bundle(tmp_path_factory.mktemp("deep") / "deep.edgecxr", tiny.deep_model()))


def logits(bundle: Bundle, paths: list[Path], engine: str, precision: str, order: list[int], **plan: int) -> np.ndarray:
    """(N, K) in the order of `paths`, however they were handed over."""
    session = open_session(bundle, Asked(engine=engine, device="cpu", precision=precision), **plan)
    found = np.full((len(paths), len(bundle.labels)), np.nan, dtype=np.float32)
    predictions = pipeline.stream(session, [paths[index] for index in order])
    for index, prediction in zip(order, predictions, strict=True):
        found[index] = list(prediction.logits.values())
    assert np.isfinite(found).all()
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_fp32(deep: Bundle, paths: list[Path], engine: str) -> None:
    forth = list(range(len(paths)))
    orders = [forth, forth[::-1], np.random.default_rng(1).permutation(len(paths)).tolist()]
    alone = logits(deep, paths, engine, "fp32", forth, workers=1, threads=1, batch_size=1)
    for (workers, threads), order in zip(((4, 1), (1, 2), (3, 2)), orders, strict=True):
        found = logits(deep, paths, engine, "fp32", order, workers=workers, threads=threads, batch_size=1)
        np.testing.assert_array_equal(found, alone)  # bit for bit
    for batch_size, order in zip((2, 5, 13), orders, strict=True):
        found = logits(deep, paths, engine, "fp32", order, workers=2, threads=1, batch_size=batch_size)
        np.testing.assert_allclose(found, alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.long)])
def test_int8_of_the_embedded_model(paths: list[Path], engine: str) -> None:
    few, forth = paths[:4], list(range(4))
    alone = logits(load(), few, engine, "int8", forth, workers=1, threads=1, batch_size=1)
    found = logits(load(), few, engine, "int8", forth[::-1], workers=3, threads=2, batch_size=1)
    np.testing.assert_array_equal(found, alone)
    found = logits(load(), few, engine, "int8", forth, workers=1, threads=2, batch_size=3)  # and a tail of one
    np.testing.assert_allclose(found, alone, rtol=0, atol=TOLERANCE)
