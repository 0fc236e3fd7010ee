"""What is written, met by NVIDIA's own parser and server: `pytest -m triton`; docs/triton.md says in which environment.

That server has no ONNX backend: in the ensemble that it serves, a Python model stands in for the network's.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from common import ROOT
from edgecxr.bundle import load
from edgecxr_export.triton import repository

pytestmark = pytest.mark.triton

spec = importlib.util.spec_from_file_location("triton_benchmark", ROOT / "benchmarks" / "triton.py")
assert spec is not None and spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
sys.modules["triton_benchmark"] = benchmark
spec.loader.exec_module(benchmark)

# The network's model as the ONNX backend would serve it, a picture at a time.
STAND_IN = """
import numpy as np, onnxruntime, pathlib, triton_python_backend_utils as server
class TritonPythonModel:
    def initialize(self, args):
        file = pathlib.Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(file))
        self.names = [output.name for output in self.session.get_outputs()]
    def execute(self, requests):
        found = []
        for request in requests:
            images = server.get_input_tensor_by_name(request, "image").as_numpy()
            rows = [self.session.run(self.names, {"image": image[None]}) for image in images]
            arrays = [np.concatenate(each) for each in zip(*rows)]
            found.append(server.InferenceResponse([server.Tensor(n, a) for n, a in zip(self.names, arrays)]))
        return found
"""


@pytest.fixture(scope="module")
def sent(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, and of files that are rejected."""
    folder = tmp_path_factory.mktemp("sent")
    for path in samples.iterdir():
        shutil.copy(path, folder)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no picture")
    (folder / "cut.png").write_bytes((samples / "phantom-1.png").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that abstains from the lighter samples."""
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny.edgecxr", abstain_at=2.65)


@pytest.fixture(scope="module")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of the tiny bundle, of the embedded one, of a damaged one, and of what another version wrote."""
    if reason := benchmark.installed():
        pytest.skip(reason)
    models = tmp_path_factory.mktemp("served") / "models"
    repository.write(bundle, models)
    for name, source in (("embedded", "full"), ("damaged", bundle), ("other", bundle)):
        repository.write(source, models.with_name(name), name=name)
        shutil.move(models.with_name(name) / name, models / name)
    damaged = models / "damaged" / "1" / repository.BUNDLE / "model.int8.onnx"
    damaged.write_bytes(damaged.read_bytes().replace(b"Conv", b"Cnov"))
    for model, old, new in (("other", '"0.1.0"', '"9.9.9"'), ("tiny_network", '"onnxruntime"', '"python"')):
        configuration = models / model / "config.pbtxt"
        text = configuration.read_text()
        assert text.count(old) == 1
        configuration.write_text(text.replace(old, new))
    (models / "tiny_network" / "1" / "model.py").write_text(STAND_IN)
    with benchmark.Server(models, "tiny", "tiny_ensemble", "embedded", "damaged", "other") as server:
        yield server


def kept(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("path", "mtime_ns", "time_utc")}


def inferred(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], bundle: object, folder: Path, *options: str
) -> list[dict[str, Any]]:
    """What `infer` answers, in its order."""
    done = edgecxr("infer", folder, "-m", bundle, "-q", "-o", "-", "--device", "cpu", *options)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("options", [{}, {"precision": "fp32", "device": "cuda"}], ids=["cpu", "cuda"])
@pytest.mark.parametrize("abstain_at", [None, 1.0], ids=["two outputs", "ood"])
def test_tritons_own_parser_reads_every_configuration(
    tmp_path: Path, options: dict[str, str], abstain_at: float | None
) -> None:
    parser = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    models = tmp_path / "models"
    names = repository.write(tiny.write_bundle(tmp_path / "b", abstain_at=abstain_at), models, **options)
    read = {n: text_format.Parse((models / n / "config.pbtxt").read_text(), parser.ModelConfig()) for n in names}
    assert all(name == configuration.name for name, configuration in read.items())
    network = read["tiny_network"]
    kinds = parser.ModelInstanceGroup
    assert network.instance_group[0].kind == (kinds.KIND_GPU if options else kinds.KIND_CPU)
    assert (network.backend, network.HasField("dynamic_batching")) == ("onnxruntime", True)
    assert [list(output.dims) for output in network.output] == [[3], [4, 4, 3]] + [[1]] * (abstain_at is not None)
    assert {sample.inputs["image"].input_data_file for sample in network.model_warmup} == {
        f"golden-{i}" for i in range(1, 9)
    }
    assert json.loads(network.parameters["contract"].string_value) == tiny.CONTRACT.to_json()
    steps = read["tiny_ensemble"].ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["tiny_preprocess", "tiny_network", "tiny_record"]
    # Each step's tensors are its model's, and each is of one kind and shape wherever it stands.
    seen: dict[str, set[tuple[int, tuple[int, ...]]]] = {}
    for step in steps:
        model = read[step.model_name]
        given = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in model.input}
        gives = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in model.output}
        assert set(step.input_map) == set(given)
        for tensors, names_of in ((given, step.input_map), (gives, step.output_map)):
            for theirs, ours in names_of.items():
                seen.setdefault(ours, set()).add(tensors[theirs])
    assert all(len(kind) == 1 for kind in seen.values())
    assert set(seen) == {"FILE", "IMAGE", "ABOUT", "LOGITS", "RECORD"} | ({"OOD"} if abstain_at is not None else set())


def test_golden_inputs_give_the_golden_logits(served: Any, bundle: Path) -> None:
    found = benchmark.golden(load(bundle), served, "tiny")
    assert (found["pictures"], found["max_difference"] <= 1e-3) == (8, True)


@pytest.mark.parametrize("model", ["tiny", "tiny_ensemble"])
def test_records_are_those_of_infer(
    served: Any, bundle: Path, sent: Path, edgecxr: Callable[..., subprocess.CompletedProcess[str]], model: str
) -> None:
    assert served.why(model) == ""
    expected = inferred(edgecxr, bundle, sent)
    answers = [served.ask(model, [Path(record["path"]).read_bytes()])[0] for record in expected]
    assert list(map(kept, answers)) == list(map(kept, expected))
    assert {answer["status"] for answer in answers} == {"scored", "abstained", "rejected"}
    # Several files in one request, of different lengths, in its order.
    together = served.ask(model, [Path(record["path"]).read_bytes() for record in expected])
    assert list(map(kept, together)) == list(map(kept, expected))


def test_the_embedded_models_records_are_those_of_infer(
    served: Any, sent: Path, edgecxr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    expected = inferred(edgecxr, "full", sent)
    answers = [served.ask("embedded", [Path(record["path"]).read_bytes()])[0] for record in expected]
    assert list(map(kept, answers)) == list(map(kept, expected))
    found = benchmark.golden(load("full"), served, "embedded")
    assert found["max_difference"] is None or found["max_difference"] <= found["tolerance"]


def test_each_of_many_at_a_time_gets_its_own_answer(served: Any, sent: Path) -> None:
    files = [path.read_bytes() for path in sorted(sent.iterdir())] * 6
    alone = {data: served.ask("tiny", [data])[0] for data in set(files)}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda data: served.ask("tiny", [data])[0], files))
    assert list(map(kept, answers)) == [kept(alone[data]) for data in files]


def test_what_cannot_be_served_is_one_sentence(served: Any) -> None:
    assert "the bundle is damaged or was changed: model.int8.onnx doesn't have its listed hash" in served.why("damaged")
    assert "must have the edgecxr that wrote this repository, 9.9.9; install that" in served.why("other")


def test_the_configuration_that_is_served_says_what_it_is(served: Any, bundle: Path) -> None:
    said = served.client.get_model_config("tiny", as_json=True)["config"]["parameters"]
    assert said["bundle_sha256"]["string_value"] == load(bundle).digest
    assert float(said["abstain_at"]["string_value"]) == 2.65
    assert np.isclose(float(said["temperature"]["string_value"]), tiny.TEMPERATURE)
