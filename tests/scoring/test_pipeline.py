"""The loop: order, bounds, isolation of bad pictures, and the plan."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dicoms
import tiny
from common import ROOT
from edgecxr.bundle import load
from edgecxr.engines import Outputs
from edgecxr.engines.select import Asked
from edgecxr.errors import UsageError
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Plan, Session, make_plan, open_session


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Session:
    return open_session(load(tiny_bundle), Asked(device="cpu"), workers=2, batch_size=3)


def expected(path: Path) -> np.ndarray:
    """Logits by hand, from the same network input."""
    image = images.prepare(images.decode(path.read_bytes(), tiny.CONTRACT), tiny.CONTRACT)
    return tiny.tiny_logits(image)


def test_logits_and_probabilities_are_those_computed_by_hand(session: Session, picture: Callable[..., Path]) -> None:
    path = picture()
    prediction = pipeline.score(session, [path])[0]
    logits = expected(path)
    assert list(prediction.logits) == list(tiny.LABELS)
    np.testing.assert_allclose(list(prediction.logits.values()), logits, atol=1e-4)
    weights = np.exp(logits.astype(float) / tiny.TEMPERATURE)
    np.testing.assert_allclose(list(prediction.probabilities.values()), weights / weights.sum(), atol=1e-5)
    assert prediction.label == tiny.LABELS[int(logits.argmax())]
    assert (prediction.width, prediction.height, prediction.bits) == (96, 80, 8)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_order_is_the_input_order_and_bad_pictures_change_nothing(
    tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path, workers: int, batch_size: int, engine: str
) -> None:
    good = [picture(f"{i}.png", seed=i) for i in range(20)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(good[0].read_bytes()[:200])
    session = open_session(load(tiny_bundle), Asked(engine=engine), workers=workers, batch_size=batch_size)

    def run(third: Path) -> list[Prediction]:
        paths = [third if i % 3 == 2 else path for i, path in enumerate(good)]
        predictions = list(pipeline.stream(session, paths))
        assert [p.path for p in predictions] == [str(path) for path in paths]
        return [replace(p, time_utc="") for p in predictions]

    whole, damaged = run(picture("whole.png", seed=99)), run(broken)
    assert {p.error_code for p in damaged[2::3]} == {"corrupt"}
    assert {p.status for p in whole} == {"scored"}
    for index in range(20):
        if index % 3 != 2:
            assert damaged[index] == whole[index]  # bit for bit


def test_the_stream_reads_no_further_ahead_than_it_says(session: Session, picture: Callable[..., Path]) -> None:
    path = picture()
    taken = 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield path

    stream = pipeline.stream(session, paths())
    for _ in range(10):
        next(stream)
    stream.close()
    assert taken <= 10 + 2 * session.plan.workers * session.plan.batch_size + session.plan.batch_size


def test_stop_finishes_what_is_in_hand(session: Session, picture: Callable[..., Path]) -> None:
    path = picture()
    stop = threading.Event()
    got = 0
    for _ in pipeline.stream(session, [path] * 500, stop.is_set):
        got += 1
        if got == 10:
            stop.set()
    assert 10 <= got < 50
    assert got % session.plan.batch_size == 0


def test_the_next_picture_is_read_while_one_is_run(
    session: Session, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk's time is not added to the processor's: here, one worker's first run waits for the next read's begin."""
    first, second = picture("0.png", seed=0), picture("1.png", seed=1)
    begun = threading.Event()
    real = files._read

    def read(path: Path) -> object:
        if path == second:
            begun.set()
        return real(path)

    class Waiting:
        name, provider, device, precision, threads = "fake", "fake", "cpu", "fp32", 1

        def run(self, inputs: np.ndarray) -> Outputs:
            assert begun.wait(30), "the second picture's read didn't begin while the first was run"
            return tiny.outputs(np.zeros((len(inputs), 3)))

    monkeypatch.setattr(files, "_read", read)
    one = replace(session, engine=Waiting(), plan=Plan(1, 1, 1))
    assert [p.status for p in pipeline.stream(one, [first, second])] == ["scored"] * 2


def test_a_picture_whose_logits_are_not_finite_is_rejected(session: Session, picture: Callable[..., Path]) -> None:
    class Broken:
        name, provider, device, precision, threads = "broken", "broken", "cpu", "fp32", 1
        input_shape, classes = (tiny.SIZE, tiny.SIZE, 1), 3

        def run(self, images: np.ndarray) -> Outputs:
            logits = np.zeros((len(images), 3))
            logits[len(images) // 2, 2] = np.nan
            return tiny.outputs(logits)

    paths = [picture(f"{i}.png", seed=i) for i in range(3)]
    predictions = pipeline.score(replace(session, engine=Broken()), paths)
    assert [p.status for p in predictions] == ["scored", "rejected", "scored"]
    assert predictions[1].error_code == "not_finite"
    assert predictions[1].label is None
    assert not predictions[1].probabilities
    prediction, evidence = pipeline.explain(replace(session, engine=Broken()), paths[0])
    assert (prediction.error_code, evidence) == ("not_finite", None)


def test_a_prediction_and_its_evidence_come_of_one_run(session: Session, picture: Callable[..., Path]) -> None:
    calls: list[np.ndarray] = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(session.engine, name)

        def run(self, images: np.ndarray) -> Outputs:
            calls.append(images)
            return session.engine.run(images)

    path = picture()
    prediction, evidence = pipeline.explain(replace(session, engine=Watched()), path)
    assert len(calls) == 1
    assert replace(prediction, time_utc="") == replace(pipeline.score(session, [path])[0], time_utc="")
    assert evidence is not None
    assert evidence.shape == (4, 4, 3)
    np.testing.assert_allclose(evidence.sum((0, 1)) + tiny.BIAS, list(prediction.logits.values()), atol=1e-4)
    rejected, nothing = pipeline.explain(replace(session, engine=Watched()), b"no picture")
    assert (rejected.status, nothing, len(calls)) == ("rejected", None, 1)


@pytest.mark.parametrize(
    ("device", "cpus", "asked", "plan"),
    [
        ("cpu", 2, {}, (2, 1, 1)),
        ("cpu", 1, {}, (1, 1, 1)),
        ("cpu", 8, {"threads": 4}, (5, 4, 1)),
        ("cpu", 2, {"threads": 4}, (1, 4, 1)),
        ("cpu", 8, {"workers": 1}, (1, 8, 1)),
        ("cpu", 4, {"workers": 3, "threads": 2, "batch_size": 8}, (3, 2, 8)),
        ("cuda", 16, {}, (16, 1, 32)),
        ("cuda", 2, {"batch_size": 64}, (2, 1, 64)),
    ],
)
def test_plan(device: str, cpus: int, asked: dict[str, int], plan: tuple[int, int, int]) -> None:
    assert make_plan(device, cpus, **asked) == Plan(*plan)


@pytest.mark.parametrize(
    ("cpus", "asked", "plan"),
    [
        (2, {}, (2, 1, 1)),
        (8, {"threads": 4}, (2, 4, 1)),
        (8, {"workers": 3}, (3, 2, 1)),
        (8, {"workers": 1}, (1, 8, 1)),
        (2, {"threads": 4}, (1, 4, 1)),
        (2, {"workers": 4}, (4, 1, 1)),
    ],
)
def test_plan_where_each_worker_has_threads_of_its_own(
    cpus: int, asked: dict[str, int], plan: tuple[int, int, int]
) -> None:
    assert make_plan("cpu", cpus, shared_pool=False, **asked) == Plan(*plan)


def test_an_impossible_plan_is_refused() -> None:
    with pytest.raises(UsageError, match="workers must be between"):
        make_plan("cpu", 2, workers=0)


def test_twelve_bit_samples_score_like_their_eight_bit_twin(session: Session, picture: Callable[..., Path]) -> None:
    from common import noisy

    eight = noisy((96, 80))
    eight[0, 0] = 255
    twelve = np.rint(eight / 255 * 4095).astype(np.uint16)
    a, b = (pipeline.score(session, [array])[0] for array in (eight, twelve))
    assert (a.bits, b.bits) == (8, 12)
    np.testing.assert_allclose(list(a.logits.values()), list(b.logits.values()), atol=0.02)
    assert a.path is None
    assert a.sha256 != b.sha256


def test_a_dicom_film_scores_like_its_png_twin_and_says_how(session: Session, picture: Callable[..., Path]) -> None:
    path = picture("grey.png")
    with Image.open(path) as image:
        grey = np.asarray(image)
    twin = path.with_name("no-suffix")
    twin.write_bytes(dicoms.film(255 - grey, PhotometricInterpretation="MONOCHROME1", PatientName="Roe"))
    lateral = path.with_name("lateral.png")
    lateral.write_bytes(dicoms.film(grey, ViewPosition="LL"))
    rows = [
        prediction.to_record(session.bundle.labels) for prediction in pipeline.score(session, [path, twin, lateral])
    ]
    assert [row["rendering"] for row in rows] == [None, "full_range+inverted", None]
    assert [row["logit_covid"] for row in rows[:2]] == [rows[0]["logit_covid"]] * 2
    assert rows[2]["error"]["code"] == "not_frontal"


def test_a_bundle_of_contract_1_rejects_dicom_and_answers_as_it_did(
    session: Session, picture: Callable[..., Path]
) -> None:
    path = picture("grey.png")
    film = dicoms.film(WindowCenter=2048, WindowWidth=4096)
    kept = Session(load(ROOT / "tests/bundles/1-first.edgecxr"), session.artifact, session.engine, session.plan)
    old, rejected = pipeline.score(kept, [path, film])
    assert old.logits == pipeline.score(session, [path])[0].logits
    assert rejected.error_code == "dicom"
    assert "export it anew" in str(rejected.error_message)


def test_real_originals_come_out_in_order(session: Session, real_data: Path) -> None:
    paths = files.find([real_data / "fullres"]).paths[:20]
    predictions = list(pipeline.stream(session, paths))
    assert [p.path for p in predictions] == [str(path) for path in paths]
    assert all(p.status == "scored" for p in predictions)
    assert all(a.time_utc <= b.time_utc for a, b in pairwise(predictions)) or session.plan.workers > 1
