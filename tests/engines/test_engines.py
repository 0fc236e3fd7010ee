"""Which artifact runs where, and what an engine refuses."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bundle import Bundle, load
from edgecxr.engines import Outputs, ort, select
from edgecxr.engines.ort import OnnxRuntimeEngine, provider_options
from edgecxr.engines.select import ANYTHING, Asked, Choice, choose, choose_artifact, choose_device, open_engine
from edgecxr.errors import BundleError, DeviceMemoryError, UnavailableError
from edgecxr.pictures.preprocess import Contract
from edgecxr.scoring.session import make_plan, open_session
from edgecxr.system import machine


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load(tiny_bundle)  # holds fp32 and int8, int8 preferred


def only(bundle: Bundle, precision: str) -> Bundle:
    return replace(bundle, artifacts=tuple(a for a in bundle.artifacts if a.precision == precision))


def test_auto_takes_a_gpu_only_for_an_artifact_that_suits_it(bundle: Bundle) -> None:
    both = ("cpu", "cuda")
    assert choose_device(bundle, ANYTHING, both) == "cuda"
    assert choose_device(bundle, ANYTHING, ("cpu",)) == "cpu"
    assert choose_device(bundle, Asked(precision="int8"), both) == "cpu"
    assert choose_device(only(bundle, "int8"), ANYTHING, both) == "cpu"
    assert choose_device(bundle, Asked(device="cpu"), both) == "cpu"


def test_a_device_that_was_asked_for_is_used_or_the_call_fails(bundle: Bundle) -> None:
    assert choose_device(bundle, Asked(device="cuda"), ("cpu", "cuda")) == "cuda"
    with pytest.raises(UnavailableError, match="cuda was asked for"):
        choose_device(bundle, Asked(device="cuda"), ("cpu",))


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
    found = engine.run(inputs)
    np.testing.assert_allclose(found.logits, expected, atol=1e-4)
    np.testing.assert_allclose(found.evidence.sum((1, 2)) + tiny.BIAS, expected, atol=1e-4)
    assert found.ood is None


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_further_output_is_handed_through(engine: str) -> None:
    opened = select.make_engine(engine, tiny.with_ood(), "cpu", "fp32", 1)
    inputs = np.random.default_rng(0).integers(0, 256, (3, tiny.SIZE, tiny.SIZE, 1)).astype(np.uint8)
    runs = [opened.run(inputs), opened.run(inputs[:1])]
    if isinstance(opened, OnnxRuntimeEngine):
        runs.append(opened._run_bound(inputs, "cpu"))
    for found in runs:
        assert found.ood is not None
        batch = inputs[: len(found)]
        expected = np.stack([tiny.tiny_logits(image[:, :, 0]) for image in batch])
        np.testing.assert_allclose(found.logits, expected, atol=1e-4)
        np.testing.assert_allclose(found.evidence.sum((1, 2)) + tiny.BIAS, expected, atol=1e-4)
        np.testing.assert_allclose(found.ood, [[tiny.tiny_ood(image[:, :, 0])] for image in batch], atol=1e-4)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny.with_ood("score"), "logits and evidence, got .*score"),
        (tiny.with_ood(keepdims=0), r"ood must be \(N, 1\)"),
    ],
)
def test_a_further_output_of_another_name_or_shape_is_refused(engine: str, model: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        select.make_engine(engine, model, "cpu", "fp32", 1)


def test_outputs_are_cut_and_joined_together() -> None:
    logits, evidence = np.arange(8.0).reshape(4, 2), np.arange(48.0).reshape(4, 2, 3, 2)
    ood = np.arange(4.0)[:, None]
    for whole in (Outputs(logits, evidence), Outputs(logits, evidence, ood)):  # type: ignore[arg-type]
        again = Outputs.joined([whole[:1], whole[1:3], whole[3:]])
        assert len(again) == 4
        assert np.array_equal(again.logits, logits)
        assert np.array_equal(again.evidence, evidence)
        assert (again.ood is None) is (whole.ood is None)
        assert whole.ood is None or np.array_equal(again.ood, ood)  # type: ignore[arg-type]
        assert whole[2].logits.tolist() == [4, 5]
        assert whole[2].evidence.shape == (2, 3, 2)


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

    def falls_back(model: bytes, options: object, providers: object, **others: object) -> object:
        assert others == {"enable_fallback": 0}  # which would go on after any error of a run, too
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    monkeypatch.setattr(ort, "_preload", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(UnavailableError, match="onnxruntime uses CPUExecutionProvider instead"):
        OnnxRuntimeEngine(tiny.tiny_model(), "cuda", "fp32", 1)


def test_an_int8_only_bundle_on_a_gpu_names_the_export_that_helps(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through `open_session`, as `infer --device cuda` calls it, where the build has CUDA."""
    monkeypatch.setattr(ort, "available_devices", lambda: ("cpu", "cuda"))
    with pytest.raises(UnavailableError, match=r"on cuda, only: int8; edgecxr export --precisions fp32 makes one"):
        open_session(only(bundle, "int8"), Asked(device="cuda"))
    with pytest.raises(UnavailableError, match="int8 artifacts are for CPUs; on tensorrt take fp16 or fp32"):
        choose_artifact(bundle, "tensorrt", "int8")


def test_what_is_computed_on_a_gpu_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "available_devices", lambda: ("cpu", "cuda", "tensorrt"))
    assert choose(bundle).device == "cuda"  # `auto` never takes TensorRT, whose first start takes minutes
    assert choose(bundle).precision == "fp32"
    assert choose(bundle, Asked(precision="tf32")).device == "cuda"
    assert choose(bundle, Asked(device="cuda", precision="tf32")).artifact.precision == "fp32"
    assert choose(bundle, Asked(device="tensorrt")).precision == "tf32"  # it rounds by itself
    with pytest.raises(UnavailableError, match="tf32 is computed on NVIDIA GPUs only"):
        choose(bundle, Asked(device="cpu", precision="tf32"))
    monkeypatch.setattr(ort, "available_devices", lambda: ("cpu",))
    with pytest.raises(UnavailableError, match="tf32 is computed on NVIDIA GPUs, and here there is only cpu"):
        choose(bundle, Asked(precision="tf32"))
    with pytest.raises(
        UnavailableError, match=r"device cuda was asked for.* only cpu; run: .*pip install 'edgecxr\[gpu"
    ):
        choose(bundle, Asked(device="cuda"))


def test_tf32_is_off_unless_it_was_asked_for() -> None:
    assert provider_options("cuda", "fp32") == [("CUDAExecutionProvider", {"use_tf32": "0"})]
    assert provider_options("cuda", "tf32") == [("CUDAExecutionProvider", {"use_tf32": "1"})]
    with pytest.raises(UnavailableError, match="tf32 is computed on NVIDIA GPUs only"):
        OnnxRuntimeEngine(tiny.tiny_model(), "cpu", "tf32", 1)


def test_tensorrt_keeps_its_engines_by_gpu_model_and_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "gpu_identity", lambda: ["driver 1", "one GPU"])
    (name, options), (fallback, _) = provider_options("tensorrt", "fp16", b"network")
    assert (name, fallback) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert (options["trt_fp16_enable"], options["trt_engine_cache_enable"]) == ("1", "1")
    in_integers = [provider_options("tensorrt", p)[0][1]["trt_int8_enable"] for p in ("fp16", "int8-symmetric")]
    assert in_integers == ["0", "1"]
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path / "edgecxr" / "tensorrt")
    assert folder.stat().st_mode & 0o077 == 0  # what lies there is run
    assert ort.tensorrt_cache(b"network") == folder
    others = [ort.tensorrt_cache(b"another network")]
    monkeypatch.setattr(machine, "gpu_identity", lambda: ["driver 2", "one GPU"])
    others.append(ort.tensorrt_cache(b"network"))
    monkeypatch.setattr(machine, "package_version", lambda name: f"{name} 9")
    others.append(ort.tensorrt_cache(b"network"))
    assert len({folder, *others}) == 4
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UnavailableError, match="TensorRT's engines can't be kept"):
        ort.tensorrt_cache(b"network")


def test_using_onnxruntime_tells_nobody(tmp_path: Path, tiny_bundle: Path, samples: Path) -> None:
    """Left to itself, version 1.32 keeps an identifier and a queue of reports to Microsoft in the cache folder."""
    # On a CI machine it stays silent by itself; without this, the test would have nothing to find there.
    signs = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TF_BUILD", "ORT_DISABLE_TELEMETRY")
    environment = {key: value for key, value in os.environ.items() if key not in signs}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    for folder in ("cache", "home"):
        (tmp_path / folder).mkdir()
    code = (
        f"import edgecxr; print(edgecxr.Classifier({str(tiny_bundle)!r}).predict({str(samples / 'phantom-1.png')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "onnxruntime" in done.stdout, done.stderr
    assert not [*(tmp_path / "cache").rglob("*"), *(tmp_path / "home").rglob("*")]


def test_the_libraries_are_loaded_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    calls: list[int] = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: calls.append(1))
    ort._preload.cache_clear()
    ort._preload()
    ort._preload()
    ort._preload.cache_clear()
    assert calls == [1]


def test_a_bound_run_gives_the_answers_of_a_plain_one() -> None:
    """What a GPU's batches go through, in this machine's memory."""
    engine = OnnxRuntimeEngine(tiny.tiny_model(), "cpu", "fp32", 1)
    inputs = np.random.default_rng(0).integers(0, 256, (5, tiny.SIZE, tiny.SIZE, 1)).astype(np.uint8)
    for batch in (inputs, inputs[:2], inputs[::-1], inputs):
        bound, plain = engine._run_bound(batch, "cpu"), engine.run(batch)
        assert np.array_equal(bound.logits, plain.logits)
        assert np.array_equal(bound.evidence, plain.evidence)
    first = engine._run_bound(inputs, "cpu").logits
    before = first.copy()
    engine._run_bound(inputs[::-1], "cpu")
    assert np.array_equal(first, before)  # the memory is used again, the answers aren't


@pytest.mark.parametrize(
    ("message", "error"),
    [
        # As they stand in microsoft/onnxruntime issues 16307 and 22702, and hacksider/Deep-Live-Cam issue 584.
        ("bfc_arena.cc:376 AllocateRawInternal Failed to allocate memory for requested buffer of size 939524096",
         DeviceMemoryError),
        ("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; hostname=a", DeviceMemoryError),
        ("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access", UnavailableError),
    ],
)  # fmt: skip
def test_errors_of_a_gpu_are_named(monkeypatch: pytest.MonkeyPatch, message: str, error: type[Exception]) -> None:
    engine = OnnxRuntimeEngine(tiny.tiny_model(), "cpu", "fp32", 1)

    def fails(self: object, images: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(ort._Binding, "run", fails)
    with pytest.raises(UnavailableError) as caught:
        engine._run_bound(np.zeros((3, tiny.SIZE, tiny.SIZE, 1), dtype=np.uint8), "cpu")
    assert type(caught.value) is error


def test_auto_goes_on_without_a_gpu_that_cannot_be_used(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu on a machine without one: `auto` says so and takes the CPU, a name that was given is an error."""
    real = select.make_engine

    def make(engine: str, model: bytes, device: str, *others: object) -> object:
        if device == "cuda":
            raise UnavailableError("CUDAExecutionProvider can't be used (no CUDA-capable device is detected)")
        return real(engine, model, device, *others)

    monkeypatch.setattr(ort, "available_devices", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(select, "make_engine", make)
    session = open_session(bundle)
    assert (session.engine.device, session.engine.precision) == ("cpu", "int8")
    assert session.plan == make_plan("cpu", machine.cpus())
    assert len(session.notes) == 1
    assert "no CUDA-capable device" in session.notes[0]
    with pytest.raises(UnavailableError, match="no CUDA-capable device"):
        open_session(bundle, Asked(device="cuda"))
