"""Which artifact runs where, and what an engine refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bundle import Bundle, load
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.engines.select import Choice, choose_artifact, choose_device, open_engine
from edgecxr.errors import BundleError, UnavailableError
from edgecxr.preprocess import Contract


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load(tiny_bundle)  # holds fp32 and int8, int8 preferred


def only(bundle: Bundle, precision: str) -> Bundle:
    return replace(bundle, artifacts=tuple(a for a in bundle.artifacts if a.precision == precision))


def test_auto_takes_a_gpu_only_for_an_artifact_that_suits_it(bundle: Bundle) -> None:
    both = ("cpu", "cuda")
    assert choose_device(bundle, "auto", "auto", both) == "cuda"
    assert choose_device(bundle, "auto", "auto", ("cpu",)) == "cpu"
    assert choose_device(bundle, "auto", "int8", both) == "cpu"
    assert choose_device(only(bundle, "int8"), "auto", "auto", both) == "cpu"
    assert choose_device(bundle, "cpu", "auto", both) == "cpu"


def test_a_device_that_was_asked_for_is_used_or_the_call_fails(bundle: Bundle) -> None:
    assert choose_device(bundle, "cuda", "auto", ("cpu", "cuda")) == "cuda"
    with pytest.raises(UnavailableError, match="cuda was asked for"):
        choose_device(bundle, "cuda", "auto", ("cpu",))


def test_artifact_for_a_device(bundle: Bundle) -> None:
    assert choose_artifact(bundle, "cpu", "auto").precision == "int8"
    assert choose_artifact(bundle, "cuda", "auto").precision == "fp32"
    assert choose_artifact(bundle, "cpu", "fp32").precision == "fp32"
    assert choose_artifact(only(bundle, "fp32"), "cpu", "auto").precision == "fp32"


def test_what_the_bundle_does_not_hold_is_said_with_the_way_to_get_it(bundle: Bundle) -> None:
    with pytest.raises(UnavailableError, match="export --precisions fp32"):
        choose_artifact(only(bundle, "int8"), "cuda", "auto")
    with pytest.raises(UnavailableError, match="no fp16"):
        choose_artifact(bundle, "cpu", "fp16")
    with pytest.raises(UnavailableError, match="for CPUs"):
        choose_artifact(bundle, "cuda", "int8")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 7])
def test_the_engine_computes_the_network(threads: int, batch: int) -> None:
    engine = OnnxRuntimeEngine(tiny.tiny_model(), "cpu", "fp32", threads)
    inputs = np.random.default_rng(0).integers(0, 256, (batch, tiny.SIZE, tiny.SIZE, 1)).astype(np.uint8)
    expected = np.stack([tiny.tiny_logits(image[:, :, 0]) for image in inputs])
    np.testing.assert_allclose(engine.run(inputs), expected, atol=1e-4)
    np.testing.assert_allclose(engine.evidence(inputs).sum((1, 2)) + tiny.BIAS, expected, atol=1e-4)


@pytest.mark.parametrize("change", [{"labels": ["a", "b"]}, {"preprocessing": Contract(height=80, width=80).to_json()}])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_network_that_does_not_fit_its_manifest_is_refused(
    tmp_path: Path, change: dict[str, object], engine: str
) -> None:
    bundle = load(tiny.write_bundle(tmp_path / "t.edgecxr", **change))
    with pytest.raises(BundleError, match="doesn't fit the bundle"):
        open_engine(bundle, Choice(bundle.artifacts[0], engine, "cpu", "fp32"), 1)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(BundleError, match="can't load"):
        OnnxRuntimeEngine(b"not a network", "cpu", "fp32", 1)


def test_a_provider_that_the_build_lacks_is_said() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("a CUDA build is installed here")
    with pytest.raises(UnavailableError, match="no CUDAExecutionProvider"):
        OnnxRuntimeEngine(tiny.tiny_model(), "cuda", "fp32", 1)


def test_a_silent_fallback_to_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession

    def falls_back(model: bytes, options: object, providers: object) -> object:
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(UnavailableError, match="onnxruntime uses CPUExecutionProvider instead"):
        OnnxRuntimeEngine(tiny.tiny_model(), "cuda", "fp32", 1)
