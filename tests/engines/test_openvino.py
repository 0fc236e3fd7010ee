"""OpenVINO: the answers of ONNX Runtime, the precision that was asked for, and nothing said to anybody."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from edgecxr.bundle import load
from edgecxr.engines import ov
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.engines.ov import OpenVinoEngine
from edgecxr.errors import BundleError, UnavailableError

bf16_only = pytest.mark.skipif(not ov.has_bf16(), reason="this CPU has no bfloat16 instructions")


@pytest.fixture(scope="module")
def embedded() -> tuple[bytes, np.ndarray]:
    bundle = load()
    return bundle.read("model.int8.onnx"), bundle.golden_inputs()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_it_computes_the_network(inputs: np.ndarray, expected: np.ndarray, threads: int, batch: int) -> None:
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", threads)
    reference = OnnxRuntimeEngine(tiny.tiny_model(), "cpu", "fp32", 1)
    logits = engine.run(inputs[:batch]).logits
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected[:batch], atol=1e-4)
    # Sums of 16 x 256 grey levels in another order: a few units in the last place of numbers near 10.
    np.testing.assert_allclose(logits, reference.run(inputs[:batch]).logits, atol=1e-5)
    np.testing.assert_allclose(engine.run(inputs[:batch]).evidence, reference.run(inputs[:batch]).evidence, atol=1e-5)
    assert (engine.input_shape, engine.classes) == ((tiny.SIZE, tiny.SIZE, 1), 3)


def test_batch_sizes_may_follow_in_any_order(inputs: np.ndarray, expected: np.ndarray) -> None:
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", 1)
    for batch in (3, 1, 8, 1, 2, 3):
        np.testing.assert_allclose(engine.run(inputs[-batch:]).logits, expected[-batch:], atol=1e-4)


def test_answers_stay_what_they_were_when_the_request_is_used_again(inputs: np.ndarray) -> None:
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", 1)
    first = engine.run(inputs[:1]).logits
    before = first.copy()
    second = engine.run(inputs[1:2]).logits
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)


def test_a_picture_that_may_not_be_written_to_is_taken(inputs: np.ndarray, expected: np.ndarray) -> None:
    fixed = inputs[:, :, ::-1][:1].copy()[:, :, ::-1]  # no contiguous memory either
    fixed.flags.writeable = False
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", 1)
    np.testing.assert_allclose(engine.run(fixed).logits, expected[:1], atol=1e-4)


def settings(engine: OpenVinoEngine) -> dict[str, object]:
    """What the compiled network says of itself."""
    with engine._requests(1).lent() as request:
        compiled = request.get_compiled_model()
    names = ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS", "ENABLE_CPU_PINNING")
    return {name: compiled.get_property(name) for name in names}


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (2, 1), (1, 2)])
def test_threads_are_those_that_were_asked_for(threads: int, workers: int) -> None:
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", threads, workers)
    found = settings(engine)
    assert (found["NUM_STREAMS"], found["INFERENCE_NUM_THREADS"]) == (workers, threads * workers)
    assert found["ENABLE_CPU_PINNING"] is False
    assert engine.threads == threads


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_fp32_is_never_turned_into_bfloat16(precision: str) -> None:
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", precision, 1)
    assert settings(engine)["INFERENCE_PRECISION_HINT"].to_string() == "f32"  # type: ignore[attr-defined]
    assert engine.precision == precision


@bf16_only
def test_bfloat16_is_computed_where_it_was_asked_for_and_recorded(inputs: np.ndarray, expected: np.ndarray) -> None:
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", "bf16", 1)
    assert engine.precision == "bf16"
    assert settings(engine)["INFERENCE_PRECISION_HINT"].to_string() == "bf16"  # type: ignore[attr-defined]
    # bfloat16 keeps 8 bits of a number: 16 locations of about 0.24 each, rounded a few times on the way.
    np.testing.assert_allclose(engine.run(inputs).logits, expected, atol=0.1)
    assert not np.array_equal(
        engine.run(inputs).logits, OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", 1).run(inputs).logits
    )


def test_bfloat16_is_refused_where_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov, "has_bf16", lambda: False)
    with pytest.raises(UnavailableError, match="no bfloat16"):
        OpenVinoEngine(tiny.tiny_model(), "cpu", "bf16", 1)


@bf16_only
def test_a_precision_that_was_not_carried_out_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    real = openvino.Core.compile_model

    def turns_it(core: openvino.Core, model: object, device: str, settings: dict[str, object]) -> object:
        return real(core, model, device, {**settings, "INFERENCE_PRECISION_HINT": "bf16"})

    monkeypatch.setattr(openvino.Core, "compile_model", turns_it)
    with pytest.raises(UnavailableError, match="told to compute in f32 and computes in bf16 instead"):
        OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", 1)


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_get_the_answers_of_one(embedded: tuple[bytes, np.ndarray], workers: int) -> None:
    model, pictures = embedded
    engine = OpenVinoEngine(model, "cpu", "int8", 1, workers)
    single = [picture[None] for picture in pictures] * 2
    alone = [engine.run(picture).logits for picture in single]
    with ThreadPoolExecutor(workers) as pool:
        together = [found.logits for found in pool.map(engine.run, single)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))  # bit for bit
    assert len(engine._requests(1)._free) <= workers


def test_first_batches_that_arrive_at_once(inputs: np.ndarray, expected: np.ndarray) -> None:
    engine = OpenVinoEngine(tiny.tiny_model(), "cpu", "fp32", 1, 4)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(engine.run, [inputs] * 8):
            np.testing.assert_allclose(found.logits, expected, atol=1e-4)


def test_the_first_calls_of_a_process_may_overlap() -> None:
    """Without the constructor's own first call, one process in eight stood still for ever."""
    code = (
        "import threading, numpy, tiny\n"
        "from edgecxr.engines.ov import OpenVinoEngine\n"
        "engine = OpenVinoEngine(tiny.tiny_model(), 'cpu', 'fp32', 1, 4)\n"
        "picture = numpy.zeros((1, tiny.SIZE, tiny.SIZE, 1), numpy.uint8)\n"
        "threads = [threading.Thread(target=engine.run, args=[picture]) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], cwd=Path(tiny.__file__).parent, check=True, timeout=60)


@pytest.mark.parametrize("arm", [False, True], ids=["in integers", "in floats, as on ARM"])
def test_the_embedded_network_agrees_with_onnxruntime(
    embedded: tuple[bytes, np.ndarray], arm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecxr.system.machine.is_arm", lambda: arm)
    model, pictures = embedded
    theirs = OnnxRuntimeEngine(model, "cpu", "int8", 1)
    ours = OpenVinoEngine(model, "cpu", "int8", 1)
    for picture in pictures[:4]:
        # One int8 file, other kernels: 0.08 was measured on these inputs, 0.24 with other weights.
        np.testing.assert_allclose(ours.run(picture[None]).logits, theirs.run(picture[None]).logits, atol=0.3)
        evidence = ours.run(picture[None]).evidence
        assert evidence.shape[-1] == 3


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(BundleError, match="can't load the fp32 artifact"):
        OpenVinoEngine(b"not a network", "cpu", "fp32", 1)


def test_external_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO would open the file, whose bytes nobody has hashed."""
    model = onnx.load_from_string(tiny.tiny_model())
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    (tmp_path / "weights.bin").write_bytes(kernel.raw_data)
    onnx.external_data_helper.set_external_data(kernel, "weights.bin", 0, len(kernel.raw_data))
    kernel.ClearField("raw_data")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="external data"):
        OpenVinoEngine(model.SerializeToString(), "cpu", "fp32", 1)


def changed(old: str, new: str) -> bytes:
    """The tiny network with another name for an input or output."""
    model = onnx.load_from_string(tiny.tiny_model())
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    return model.SerializeToString()


def test_outputs_of_other_names_are_refused() -> None:
    with pytest.raises(BundleError, match=r"logits and evidence, got .*scores"):
        OpenVinoEngine(changed("logits", "scores"), "cpu", "fp32", 1)


def test_an_input_of_another_type_is_refused() -> None:
    model = onnx.load_from_string(tiny.tiny_model())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(BundleError, match="must be uint8, got f32"):
        OpenVinoEngine(model.SerializeToString(), "cpu", "fp32", 1)


def test_another_device_is_refused() -> None:
    with pytest.raises(UnavailableError, match="cpu only, got cuda"):
        OpenVinoEngine(tiny.tiny_model(), "cuda", "fp32", 1)


def test_using_it_tells_nobody(tmp_path: Path, tiny_bundle: Path) -> None:
    """Importing openvino by itself reports that to Google Analytics and writes an identifier to the home directory."""
    code = (
        "import socket, sys, time\n"
        "asked = []\n"
        "socket.getaddrinfo = lambda *a, **k: asked.append(a[0]) or (_ for _ in ()).throw(OSError)\n"
        "import edgecxr\n"
        f"assert edgecxr.Classifier({str(tiny_bundle)!r}, engine='openvino').session.engine.name == 'openvino'\n"
        "time.sleep(1)\n"
        "assert not asked, asked\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "import openvino_telemetry\n"  # who wants it has it
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_signal_is_survived_after_another_thread_dropped_the_engine(tmp_path: Path, tiny_bundle: Path) -> None:
    """OpenVINO frees the signal stack that it set for the first thread: the next signal was a segmentation fault."""
    code = (
        "import gc, os, signal, threading\n"
        "import edgecxr\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        f"held = [edgecxr.Classifier({str(tiny_bundle)!r}, engine='openvino')]\n"
        "thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))\n"
        "thread.start()\n"
        "thread.join()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
