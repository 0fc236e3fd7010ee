"""Properties that hold for whatever comes: preprocessing, and how a run's work is spread over batches and workers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from common import noisy
from edgecxr.bundle import load
from edgecxr.engines.select import Asked
from edgecxr.pictures.preprocess import Contract, bit_depth, preprocess, to_uint8
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Plan, Session, make_plan, open_session

SMALL = Contract(height=48, width=40, source_size=None)
pictures = hnp.arrays(np.uint8, st.tuples(st.integers(33, 70), st.integers(33, 70)))
deep_pictures = hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(deep_pictures, st.none() | st.integers(1, 20))
def test_scaling_keeps_order_and_the_depth_holds_every_sample(pixels: np.ndarray, declared: int | None) -> None:
    bits = bit_depth(pixels, declared)
    assert int(pixels.max()) < 1 << bits <= 1 << 16
    scaled = to_uint8(pixels, bits)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(scaled.ravel()[order].astype(int)) >= 0).all()
    assert (scaled[pixels == 0] == 0).all()


@settings(max_examples=40)
@given(pictures, st.sampled_from([None, 36, 300]))
def test_resizing_invents_no_grey_and_takes_any_layout(pixels: np.ndarray, source_size: int | None) -> None:
    contract = replace(SMALL, source_size=source_size)
    made = preprocess(pixels, contract)
    assert (made.shape, made.dtype) == ((48, 40), np.uint8)
    # A triangle filter's weights are positive and sum to 1 (Pillow, "Filters"), up to the rounding of each pass.
    assert int(pixels.min()) - 1 <= int(made.min()) <= int(made.max()) <= int(pixels.max()) + 1
    np.testing.assert_array_equal(made, preprocess(np.asfortranarray(pixels), contract))
    np.testing.assert_array_equal(made, preprocess(pixels.copy(), contract))


@settings(max_examples=40)
@given(pictures)
def test_inverting_and_mirroring_commute_with_resizing(pixels: np.ndarray) -> None:
    made = preprocess(pixels, SMALL).astype(int)
    inverted = 255 - preprocess(255 - pixels, SMALL).astype(int)
    assert np.abs(made - inverted).max() <= 2  # each of the two passes rounds halves up, and so not to the same side
    mirrored = preprocess(pixels[:, ::-1], SMALL)[:, ::-1].astype(int)
    assert np.abs(made - mirrored).max() <= 2


@given(
    st.integers(32, 4096), st.integers(32, 4096), st.none() | st.integers(32, 4096), st.sampled_from([0, *range(2, 17)])
)
def test_a_contract_comes_back_from_json(height: int, width: int, source: int | None, scale: int) -> None:
    contract = Contract(height=height, width=width, source_size=source, jpeg_scale=scale)
    assert Contract.from_json(contract.to_json()) == contract


asked = st.none() | st.integers(1, 4096)


@given(st.sampled_from(["cpu", "cuda"]), st.integers(1, 256), asked, asked, asked, st.booleans())
def test_a_plan_is_what_was_asked_for_and_never_empty(
    device: str, cpus: int, workers: int | None, threads: int | None, batch_size: int | None, shared_pool: bool
) -> None:
    plan = make_plan(device, cpus, workers=workers, threads=threads, batch_size=batch_size, shared_pool=shared_pool)
    assert plan.workers == (workers or plan.workers) >= 1
    assert plan.threads == (threads or plan.threads) >= 1
    assert plan.batch_size == (batch_size or plan.batch_size) >= 1
    if device == "cpu" and workers is None and threads is None:  # every CPU is used, and none twice
        assert plan.workers * plan.threads == cpus


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Session:
    return open_session(load(tiny_bundle), Asked(engine="onnxruntime", device="cpu"), workers=1, threads=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five pictures, one that is none, and one that isn't there."""
    folder = tmp_path_factory.mktemp("properties")
    made = [folder / f"{seed}.png" for seed in range(5)]
    for seed, path in enumerate(made):
        Image.fromarray(noisy((70, 66), seed)).save(path)
    (folder / "text.png").write_text("none")
    return [*made, folder / "text.png", folder / "absent.png"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 5), st.integers(1, 9), st.integers(0, 45))
def test_every_file_comes_out_once_in_its_place_however_batched(
    session: Session, files: list[Path], chosen: list[int], workers: int, batch_size: int, stop_after: int
) -> None:
    spread = replace(session, plan=Plan(workers, 1, batch_size))
    paths, seen = [files[index] for index in chosen], []
    for prediction in pipeline.stream(spread, iter(paths), lambda: len(seen) >= stop_after):
        seen.append(prediction)
    names = [str(path) for path in paths]
    assert [prediction.path for prediction in seen] == names[: len(seen)]
    assert len(seen) >= min(stop_after, len(paths))  # and what was in hand besides
    assert stop_after < len(paths) or len(seen) == len(paths)
    statuses = ["scored" if index < 5 else "rejected" for index in chosen]
    assert [prediction.status for prediction in seen] == statuses[: len(seen)]
