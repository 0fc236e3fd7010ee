"""LiteRT: the answers of ONNX Runtime from TFLite files, whatever their order of outputs."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tiny
from edgecxr.bundle import network
from edgecxr.engines.litert import LiteRtEngine
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.errors import BundleError, UnavailableError

# int8: the input is exact; pooled levels are rounded to 1 in 255 and weights to 1 in 127: about 0.03 of a logit of 4.
TOLERANCE = {"fp32": 1e-4, "int8": 0.1}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_it_computes_the_network(
    tflite: dict[str, bytes], inputs: np.ndarray, expected: np.ndarray, precision: str, threads: int, batch: int
) -> None:
    engine = LiteRtEngine(tflite[precision], "cpu", precision, threads)
    found = engine.run(inputs[:batch])
    logits, evidence = found.logits, found.evidence
    assert (logits.dtype, logits.shape, evidence.shape) == (np.float32, (batch, 3), (batch, 4, 4, 3))
    np.testing.assert_allclose(logits, expected[:batch], atol=TOLERANCE[precision])
    np.testing.assert_allclose(evidence.sum((1, 2)) + tiny.BIAS, expected[:batch], atol=TOLERANCE[precision])
    assert (engine.precision, engine.threads, engine.device) == (precision, threads, "cpu")
    assert (engine.input_shape, engine.classes) == ((tiny.SIZE, tiny.SIZE, 1), 3)


def test_it_agrees_with_onnxruntime(tflite: dict[str, bytes], inputs: np.ndarray) -> None:
    engine = LiteRtEngine(tflite["fp32"], "cpu", "fp32", 1)
    reference = OnnxRuntimeEngine(tiny.tiny_model(), "cpu", "fp32", 1)
    np.testing.assert_allclose(engine.run(inputs).logits, reference.run(inputs).logits, atol=1e-5)


def test_batch_sizes_may_follow_in_any_order(
    tflite: dict[str, bytes], inputs: np.ndarray, expected: np.ndarray
) -> None:
    engine = LiteRtEngine(tflite["fp32"], "cpu", "fp32", 1)
    for batch in (3, 1, 8, 1, 2, 3):
        np.testing.assert_allclose(engine.run(inputs[-batch:]).logits, expected[-batch:], atol=1e-4)


def test_answers_stay_what_they_were_when_the_interpreter_is_used_again(
    tflite: dict[str, bytes], inputs: np.ndarray
) -> None:
    engine = LiteRtEngine(tflite["fp32"], "cpu", "fp32", 1)
    first = engine.run(inputs[:1]).logits
    before = first.copy()
    engine.run(inputs[1:2])
    engine.run(inputs)
    assert np.array_equal(first, before)


def test_a_further_output_is_found_by_its_shape(
    tflite_with_ood: bytes, inputs: np.ndarray, expected: np.ndarray
) -> None:
    engine = LiteRtEngine(tflite_with_ood, "cpu", "fp32", 1)
    for batch in (inputs, inputs[:1]):
        found = engine.run(batch)
        np.testing.assert_allclose(found.logits, expected[: len(batch)], atol=1e-4)
        np.testing.assert_allclose(found.evidence.sum((1, 2)) + tiny.BIAS, found.logits, atol=1e-4)
        assert found.ood is not None
        np.testing.assert_allclose(found.ood, [[tiny.tiny_ood(image[:, :, 0])] for image in batch], atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_several_workers_get_the_answers_of_one(tflite: dict[str, bytes], inputs: np.ndarray, precision: str) -> None:
    engine = LiteRtEngine(tflite[precision], "cpu", precision, 1)
    batches = [inputs[: 1 + i % 8] for i in range(400)]  # of changing size, so that a shared interpreter would show
    alone = [engine.run(batch).logits for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = [found.logits for found in pool.map(engine.run, batches)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))  # bit for bit
    assert 1 <= len(engine._interpreters._free) <= 4


def test_threads_reach_the_interpreter(tflite: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import interpreter

    asked = []

    class Watched(interpreter.Interpreter):
        def __init__(self, **options: Any) -> None:
            asked.append(options["num_threads"])
            super().__init__(**options)

    monkeypatch.setattr(interpreter, "Interpreter", Watched)
    LiteRtEngine(tflite["fp32"], "cpu", "fp32", 2)
    assert asked == [2]


class Details:
    """Stands in for an interpreter whose details are of the test's making."""

    def __init__(self, **_: Any) -> None:
        pass

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, Any]]:
        return [detail(0, (1, 64, 64, 1), np.uint8, (1.0, 0))]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [detail(1, (1, 3)), detail(2, (1, 4, 4, 3))]


def detail(index: int, shape: tuple[int, ...], dtype: Any = np.float32, quantization: Any = (0.0, 0)) -> dict[str, Any]:
    return {"index": index, "shape": np.array(shape), "dtype": dtype, "quantization": quantization}


@pytest.mark.parametrize("turned", [False, True])
def test_outputs_are_found_in_whatever_order(monkeypatch: pytest.MonkeyPatch, turned: bool) -> None:
    class Either(Details):
        def get_output_details(self) -> list[dict[str, Any]]:
            return super().get_output_details()[:: -1 if turned else 1]

    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Either)
    with LiteRtEngine(b"", "cpu", "int8", 1)._interpreters.lent() as interpreter:
        assert interpreter.outputs == {"logits": 1, "evidence": 2}


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([detail(0, (1, 64, 64, 1), np.uint8, (0.886, 0))], None, "scale 1 and zero point 0, got \\(0.886, 0\\)"),
        ([detail(0, (1, 64, 64, 1), np.int8, (1.0, -128))], None, "uint8 or float32, got int8"),
        ([detail(0, (1, 64, 64))], None, "one input"),
        ([], None, "one input"),
        (None, [detail(1, (1, 3)), detail(2, (1, 4, 4, 2))], "logits"),
        (None, [detail(1, (1, 3)), detail(2, (1, 3))], "logits"),
        (None, [detail(1, (1, 3))], "logits"),
        (None, [detail(1, (1, 3)), detail(2, (1, 4, 4, 3)), detail(3, (1, 2))], "logits"),
        (None, [detail(1, (1, 3)), detail(2, (1, 4, 4, 3)), detail(3, (1, 1)), detail(4, (1, 1))], "logits"),
        (None, [detail(1, (1, 1)), detail(2, (1, 4, 4, 1)), detail(3, (1, 1))], "logits"),  # which is which?
        (None, [detail(1, (1, 3)), detail(2, (1, 4, 4, 3)), detail(3, (1, 1), np.uint8)], "must be float32"),
        (None, [detail(1, (1, 3), np.uint8, (0.1, 0)), detail(2, (1, 4, 4, 3))], "must be float32"),
    ],
)
def test_a_network_of_another_form_is_refused(
    monkeypatch: pytest.MonkeyPatch, inputs: Any, outputs: Any, message: str
) -> None:
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Details)
    if inputs is not None:
        monkeypatch.setattr(Details, "get_input_details", lambda self: inputs)
    if outputs is not None:
        monkeypatch.setattr(Details, "get_output_details", lambda self: outputs)
    with pytest.raises(BundleError, match=message):
        LiteRtEngine(b"", "cpu", "int8", 1)


@pytest.mark.parametrize("data", [b"not a network", b"", tiny.tiny_model()])
def test_what_is_no_network_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="can't load the fp32 artifact"):
        LiteRtEngine(data, "cpu", "fp32", 1)


def test_another_device_or_precision_is_refused(tflite: dict[str, bytes]) -> None:
    with pytest.raises(UnavailableError, match="cpu only, got cuda"):
        LiteRtEngine(tflite["fp32"], "cuda", "fp32", 1)
    with pytest.raises(UnavailableError, match="got bf16"):
        LiteRtEngine(tflite["fp32"], "cpu", "bf16", 1)


def test_a_file_tells_without_an_engine_whether_it_gives_ood(tflite: dict[str, bytes], tflite_with_ood: bytes) -> None:
    network.check(tflite_with_ood, "tflite")
    assert network.has_ood(tflite_with_ood, "tflite")
    assert not any(network.has_ood(data, "tflite") for data in tflite.values())
    for cut in range(0, len(tflite_with_ood), 16):  # from its beginning on, as an offset that leads elsewhere would
        with contextlib.suppress(BundleError):
            network.has_ood(tflite_with_ood[:cut], "tflite")
    with pytest.raises(BundleError, match="no whole tflite file"):
        network.has_ood(tflite_with_ood[:32], "tflite")


def test_what_a_file_says_of_itself_is_rewritten_behind_its_end(tflite: dict[str, bytes], inputs: np.ndarray) -> None:
    from edgecxr_export.graphs import tflite_graph

    graph = tflite_graph.aligned(tflite_graph.parse(tflite["fp32"]))
    data = tflite_graph.serialise(graph, {"temperature": "2.0", "name": '"tiny"'})
    found = network.with_metadata(data, "tflite", {"edgecxr.temperature": "1.2345678901234567", "edgecxr.other": "1"})
    network.check(found, "tflite")
    assert tflite_graph.read_metadata(found) == {"temperature": "1.2345678901234567", "name": '"tiny"'}
    changed = [place for place, (a, b) in enumerate(zip(data, found, strict=False)) if a != b]
    assert len(found) > len(data)
    assert 0 < len(changed) <= 4  # one offset
    assert max(changed) - min(changed) < 4
    before, after = (LiteRtEngine(model, "cpu", "fp32", 1).run(inputs).logits for model in (data, found))
    assert np.array_equal(before, after)
    assert network.with_metadata(tflite["int8"], "tflite", {"edgecxr.temperature": "1"}) == tflite["int8"]
