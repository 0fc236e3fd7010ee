"""The Python API."""

import doctest
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgecxr.classifier
import tiny
from common import ROOT, noisy
from edgecxr import Classifier
from edgecxr.errors import PictureRejected, UnavailableError, UsageError


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier(tiny_bundle)


def test_the_documented_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(edgecxr.classifier)
    assert result.attempted >= 3
    assert result.failed == 0


def test_the_readmes_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out.count("phantom") == 2
    assert names["evidence"].shape[2] == 3  # type: ignore[attr-defined]


def test_path_bytes_and_array_of_a_picture_agree(classifier: Classifier, picture: Callable[..., Path]) -> None:
    path = picture()
    answers = [classifier.predict(source) for source in (path, str(path), path.read_bytes(), noisy((96, 80)))]
    assert len({tuple(answer.logits.values()) for answer in answers}) == 1
    assert [answer.path for answer in answers] == [str(path), str(path), None, None]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int64, bool])
def test_other_sample_types_are_refused_in_a_sentence(classifier: Classifier, dtype: type) -> None:
    with pytest.raises(UsageError, match="uint8 or uint16"):
        classifier.predict(np.zeros((80, 80), dtype=dtype))


@pytest.mark.parametrize("shape", [(80, 80, 3), (80,), (1, 80, 80), (0, 80)])
def test_other_shapes_are_refused_in_a_sentence(classifier: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"shape \(H, W\)"):
        classifier.predict(np.zeros(shape, dtype=np.uint8))


def test_something_else_is_refused_in_a_sentence(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="got list"):
        classifier.predict([[1, 2], [3, 4]])  # type: ignore[arg-type]


def test_a_bad_picture_is_a_rejected_prediction(classifier: Classifier, tmp_path: Path) -> None:
    for source in (b"nothing", tmp_path / "absent.png", np.zeros((80, 80), dtype=np.uint8), np.ones((9, 9), np.uint8)):
        prediction = classifier.predict(source)
        assert prediction.status == "rejected"
        assert prediction.label is None
        assert prediction.error_code in ("not_an_image", "unreadable", "blank", "too_small")


def test_stream_takes_paths_as_they_come(classifier: Classifier, picture: Callable[..., Path]) -> None:
    paths = [picture(f"{i}.png", seed=i) for i in range(5)]
    assert [p.path for p in classifier.stream(str(path) for path in paths)] == [str(path) for path in paths]


def test_one_path_is_no_stream_and_no_bytes_are_no_picture(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="several paths"):
        classifier.stream("ab")
    assert classifier.predict(b"").error_code == "empty"


def test_bytes_have_the_limit_of_a_file(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecxr.pictures.files.MAX_BYTES", 3)
    rejected = classifier.predict(b"four")
    assert (rejected.error_code, rejected.sha256, rejected.bytes) == ("too_large", None, None)
    assert classifier.predict(b"six").error_code == "not_an_image"


def test_evidence_sums_to_the_logits_less_the_bias(classifier: Classifier, picture: Callable[..., Path]) -> None:
    path = picture()
    evidence = classifier.evidence(path)
    assert evidence.shape == (4, 4, 3)
    logits = list(classifier.predict(path).logits.values())
    np.testing.assert_allclose(evidence.sum((0, 1)) + tiny.BIAS, logits, atol=1e-4)
    with pytest.raises(PictureRejected):
        classifier.evidence(b"nothing")


def test_a_device_that_is_not_there_fails_at_once(tiny_bundle: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("a CUDA build is installed here")
    with pytest.raises(UnavailableError, match="cuda was asked for"):
        Classifier(tiny_bundle, device="cuda")
