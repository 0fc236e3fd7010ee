"""The repository's files, and what its Python models answer in a stand-in for Triton's Python backend.

The server itself is met in test_served.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

import edgecxr as package
import tiny
from edgecxr.bundle import load, network
from edgecxr.errors import BundleError, UnavailableError, UsageError
from edgecxr_export.triton import repository

MODELS = ("tiny", "tiny_preprocess", "tiny_network", "tiny_record", "tiny_ensemble")
Edgecxr = Callable[..., subprocess.CompletedProcess[str]]


class Refusal(Exception):  # noqa: N818  as the server calls it
    """TritonModelException of the stand-in."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What a model sees of the server, as NVIDIA's triton_python_backend_utils has it, over plain arrays."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.TritonModelException = Refusal
    module.Tensor = lambda name, array: SimpleNamespace(name=name, as_numpy=lambda: array)
    module.get_input_tensor_by_name = lambda request, name: request[name]
    module.InferenceResponse = lambda tensors, error=None: error or {tensor.name: tensor for tensor in tensors}
    module.TritonError = str
    module.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    return module  # type: ignore[no-any-return]


@pytest.fixture
def opened(server: ModuleType) -> Callable[[Path], Any]:
    """A Python model of a repository, as the server makes one of its folder."""

    def make(folder: Path) -> Any:
        spec = importlib.util.spec_from_file_location("model", folder / "1" / "model.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        said = [{"string_value": value} for value in parameters(folder).values()]
        configuration = {"parameters": dict(zip(parameters(folder), said, strict=True))}
        model.initialize(
            {"model_config": json.dumps(configuration), "model_repository": str(folder), "model_version": "1"}
        )
        return model

    return make


@pytest.fixture(scope="module")
def abstaining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that abstains from the lighter samples."""
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny.edgecxr", abstain_at=2.65)


def parameters(folder: Path) -> dict[str, str]:
    text = (folder / "config.pbtxt").read_text()
    found = re.findall(r'parameters \{\n  key: (".*")\n  value \{\n    string_value: (".*")', text)
    return {json.loads(key): json.loads(value) for key, value in found}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class Request(dict[str, Any]):
    """A request of the stand-in, which is its own sender."""

    def get_response_sender(self) -> Any:
        return self

    def send(self, response: Any, flags: int) -> None:
        assert flags == 1
        assert not hasattr(self, "response")
        self.response = response


def ask(model: Any, server: Any, *requests: dict[str, Any]) -> Any:
    given = [Request({name: server.Tensor(name, array) for name, array in request.items()}) for request in requests]
    found = model.execute(given)
    model.finalize()  # nothing is left unanswered
    responses = found if found is not None else [request.response for request in given]
    return [{name: tensor.as_numpy() for name, tensor in response.items()} for response in responses]


def strings(*texts: bytes) -> Any:
    return np.array([[text] for text in texts], dtype=np.object_)


def kept(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs from one answer to the same file to the next."""
    return {name: value for name, value in record.items() if name not in ("path", "mtime_ns", "time_utc")}


@pytest.fixture(scope="session")
def sent(samples: Path) -> list[bytes]:
    """Files that are scored, and some that are rejected, each for a reason of its own."""
    pictures = [path.read_bytes() for path in sorted(samples.iterdir())]
    return [*pictures, b"", b"no picture", pictures[0][: len(pictures[0]) // 2]]


def test_each_model_has_what_it_needs_and_the_bundle_is_whole(tmp_path: Path, tiny_bundle: Path) -> None:
    out = tmp_path / "repository"
    assert repository.write(tiny_bundle, out) == MODELS
    assert sorted(path.name for path in out.iterdir()) == sorted(MODELS)
    golden = {f"warmup/golden-{i}" for i in range(1, 9)}
    whole = {f"1/bundle.edgecxr/{file}" for file in files(tiny_bundle)}
    assert files(out / "tiny") == {"config.pbtxt", "1/model.py"} | whole | golden
    assert files(out / "tiny_network") == {"config.pbtxt", "1/model.onnx", "labels.txt"} | golden
    for step in ("tiny_preprocess", "tiny_record"):
        assert files(out / step) == {"config.pbtxt", "1/model.py", "1/bundle.edgecxr/bundle.json"}
    bundle = load(out / "tiny" / "1" / "bundle.edgecxr")
    for file in bundle.files:
        bundle.read(file)
    said = parameters(out / "tiny_network")
    assert said["bundle_sha256"] == bundle.digest == load(tiny_bundle).digest
    assert json.loads(said["contract"]) == tiny.CONTRACT.to_json()
    assert (said["temperature"], said["abstain_at"], said["edgecxr"]) == ("2.0", "none", package.__version__)
    assert said["precision"] == "int8"  # the preferred one, as `infer` takes it
    assert (out / "tiny_network" / "labels.txt").read_text() == "".join(f"{label}\n" for label in tiny.LABELS)
    assert np.frombuffer((out / "tiny_network/warmup/golden-2").read_bytes(), np.uint8).tolist() == (
        tiny.golden_inputs()[1].ravel().tolist()
    )


@pytest.mark.parametrize("model", ["tiny", "with_ood", "deep", "embedded"])
def test_tensors_are_read_from_the_file_as_its_engine_reads_them(model: str) -> None:
    """Triton's ONNX backend refuses a configuration whose outputs have other dimensions than the session says."""
    made = {"tiny": tiny.tiny_model, "with_ood": tiny.with_ood, "deep": tiny.deep_model}
    data = made[model]() if model in made else load().read(load().artifacts[0].file)
    session = onnxruntime.InferenceSession(data)
    kinds = {"tensor(float)": "TYPE_FP32", "tensor(uint8)": "TYPE_UINT8"}
    theirs = [
        {tensor.name: (kinds[tensor.type], tuple(tensor.shape[1:])) for tensor in tensors}
        for tensors in (session.get_inputs(), session.get_outputs())
    ]
    assert list(network.onnx_tensors(data)) == theirs


def test_the_film_model_answers_as_the_classifier_does(
    tmp_path: Path, abstaining: Path, server: Any, opened: Any, sent: list[bytes]
) -> None:
    repository.write(abstaining, tmp_path / "r")
    first, second = ask(
        opened(tmp_path / "r" / "tiny"), server, {"FILE": strings(*sent[:3])}, {"FILE": strings(*sent[3:])}
    )
    assert (len(first["RECORD"]), len(second["RECORD"])) == (3, len(sent) - 3)
    answers = [json.loads(text) for text in np.concatenate([first["RECORD"], second["RECORD"]])[:, 0]]
    classifier = package.Classifier(abstaining)
    expected = [classifier.predict(data).to_record(classifier.labels) for data in sent]
    assert list(map(kept, answers)) == list(map(kept, expected))
    assert {answer["status"] for answer in answers} == {"scored", "abstained", "rejected"}


def test_an_engine_that_fails_leaves_nobody_waiting(
    tmp_path: Path, tiny_bundle: Path, server: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write(tiny_bundle, tmp_path / "r")
    model = opened(tmp_path / "r" / "tiny")

    def fail(images: object) -> None:
        raise UnavailableError("the engine is gone")

    monkeypatch.setattr(model._role._classifier.session.engine, "run", fail)
    picture = (tmp_path / "r/tiny/warmup/golden-8").read_bytes()[4:]
    requests = [Request({"FILE": server.Tensor("FILE", strings(*files))}) for files in ([picture, b""], [b""])]
    assert model.execute(requests) is None
    model.finalize()
    assert requests[0].response == "UnavailableError: the engine is gone"
    assert b"the file is empty" in requests[1].response["RECORD"].as_numpy()[0, 0]


def test_golden_inputs_as_files_give_the_golden_logits(
    tmp_path: Path, tiny_bundle: Path, server: Any, opened: Any
) -> None:
    repository.write(tiny_bundle, tmp_path / "r")
    warm = [(tmp_path / f"r/tiny/warmup/golden-{i}").read_bytes() for i in range(1, 9)]
    assert all(int.from_bytes(data[:4], "little") == len(data) - 4 for data in warm)
    (found,) = ask(opened(tmp_path / "r" / "tiny"), server, {"FILE": strings(*(data[4:] for data in warm))})
    records = [json.loads(text) for text in found["RECORD"][:, 0]]
    logits = [[record[f"logit_{label}"] for label in tiny.LABELS] for record in records]
    np.testing.assert_allclose(logits, [tiny.tiny_logits(i[:, :, 0]) for i in tiny.golden_inputs()], atol=1e-3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_steps_of_the_ensemble_answer_as_the_classifier_does(
    tmp_path: Path, abstaining: Path, server: Any, opened: Any, sent: list[bytes], device: str
) -> None:
    out = tmp_path / "r"
    repository.write(abstaining, out, precision="fp32", device=device)
    (prepared,) = ask(opened(out / "tiny_preprocess"), server, {"FILE": strings(*sent)})
    session = onnxruntime.InferenceSession(out / "tiny_network" / "1" / "model.onnx")
    rows = [session.run(["logits", "ood"], {"image": image[None]}) for image in prepared["IMAGE"]]  # as one by one
    logits, ood = (np.concatenate(found) for found in zip(*rows, strict=True))
    given = {"ABOUT": prepared["ABOUT"], "LOGITS": logits, "OOD": ood}
    (found,) = ask(opened(out / "tiny_record"), server, given)
    answers = [json.loads(text) for text in found["RECORD"][:, 0]]
    classifier = package.Classifier(abstaining, "cpu", precision="fp32")
    expected = [classifier.predict(data).to_record(classifier.labels) for data in sent]
    where = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    assert list(map(kept, answers)) == [kept({**row, "provider": where, "device": device}) for row in expected]


def test_an_answer_that_is_no_number_is_rejected(tmp_path: Path, tiny_bundle: Path, server: Any, opened: Any) -> None:
    repository.write(tiny_bundle, tmp_path / "r")
    about = json.dumps({**dict.fromkeys(("sha256", "bytes", "width", "height", "bits", "rendering")), "rejected": None})
    given = {"ABOUT": strings(about.encode()), "LOGITS": np.full((1, 3), np.nan, dtype=np.float32)}
    (found,) = ask(opened(tmp_path / "r" / "tiny_record"), server, given)
    record = json.loads(found["RECORD"][0, 0])
    assert (record["status"], record["error"]["code"], record["label"]) == ("rejected", "not_finite", None)


def test_wrong_answers_of_a_device_keep_the_film_model_back(tmp_path: Path, opened: Any) -> None:
    bundle = tiny.write_bundle(tmp_path / "tiny.edgecxr", tiny.tiny_model(tiny.BIAS + 1))
    repository.write(bundle, tmp_path / "r")
    with pytest.raises(Refusal, match="the self-test failed, this device doesn't give the bundle's answers"):
        opened(tmp_path / "r" / "tiny")


def test_a_damaged_bundle_in_the_repository_is_one_sentence(tmp_path: Path, tiny_bundle: Path, opened: Any) -> None:
    repository.write(tiny_bundle, tmp_path / "r")
    for model, file in (("tiny", "model.int8.onnx"), ("tiny_record", "bundle.json")):
        path = tmp_path / "r" / model / "1" / "bundle.edgecxr" / file
        path.write_bytes(path.read_bytes().replace(b"covid", b"civod").replace(b"Conv", b"Cnov"))
        with pytest.raises(Refusal, match="the bundle is damaged or was changed") as refused:
            opened(tmp_path / "r" / model)
        assert "\n" not in str(refused.value)


def test_another_edgecxr_or_a_numpy_that_the_server_cannot_read_is_one_sentence(
    tmp_path: Path, tiny_bundle: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write(tiny_bundle, tmp_path / "r")
    model = opened(tmp_path / "r" / "tiny_record")
    check = type(model).initialize.__globals__["refuse_others"]
    with pytest.raises(Refusal, match=rf"that wrote this repository, 9\.9\.9.* got edgecxr {package.__version__}$"):
        check("9.9.9")
    backend = tmp_path / "stub"
    backend.write_bytes(b"\x7fELF numpy.core.multiarray")
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(Refusal, match=r"arrays of numpy 1 only.* got numpy 2\.4\.6$"):
        check(package.__version__, backend)
    monkeypatch.setattr(np, "__version__", "1.26.4")
    check(package.__version__, backend)


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(folder: Path) -> None:
        raise Stopped

    monkeypatch.setattr(repository.storage, "sync_folder", stop)
    with pytest.raises(Stopped):
        repository.write(tiny_bundle, tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "r").mkdir()
    repository.write(tiny_bundle, tmp_path / "r")  # an empty folder gives way
    before = files(tmp_path / "r")
    with pytest.raises(UsageError, match=r"new or empty, got: .*r$"):
        repository.write(tiny_bundle, tmp_path / "r")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"new or empty, got: .*file$"):
        repository.write(tiny_bundle, tmp_path / "file")
    assert files(tmp_path / "r") == before


def test_what_cannot_be_made_is_said(tmp_path: Path, tiny_bundle: Path) -> None:
    def refused(error: type[Exception], said: str, source: Path = tiny_bundle, **options: str) -> None:
        with pytest.raises(error, match=said):
            repository.write(source, tmp_path / "r", **options)

    refused(UsageError, r"one network, of fp32, fp16, int8, int8-symmetric, got 'fp32,int8'$", precision="fp32,int8")
    refused(UsageError, "one of cpu, cuda, got tensorrt$", device="tensorrt")
    refused(UsageError, "give --name, got 'a b'$", name="a b")
    refused(UnavailableError, "no fp16 ONNX artifact", precision="fp16")
    refused(UnavailableError, "int8 artifacts are for CPUs", precision="int8", device="cuda")
    damaged = tiny.write_bundle(tmp_path / "damaged.edgecxr")
    (damaged / "MODEL_CARD.md").write_bytes(b"# Tony\n")
    refused(BundleError, r"MODEL_CARD.md doesn't have its listed hash", damaged)
    renamed = tiny.write_bundle(tmp_path / "renamed.edgecxr", tiny.tiny_model().replace(b"evidence", b"evidense"))
    refused(BundleError, "got image, logits, evidense$", renamed)
    # onnx.proto: elem_type 2 is UINT8, 8 a string.
    kind = tiny.tiny_model().replace(b"\x12\x17\n\x15\x08\x02", b"\x12\x17\n\x15\x08\x08")
    refused(BundleError, "of which kind and shape", tiny.write_bundle(tmp_path / "kind.edgecxr", kind))
    assert not (tmp_path / "r").exists()


def test_the_command_tells_a_bundle_from_a_run_by_what_it_holds(
    tmp_path: Path, tiny_bundle: Path, edgecxr: Edgecxr
) -> None:
    out = tmp_path / "r"
    done = edgecxr("export", tiny_bundle, "--to", "triton", "-o", out, "--name", "chest", "--precisions", "fp32")
    assert (done.returncode, done.stdout) == (0, "")
    assert (
        done.stderr == f"model repository written to {out}: {', '.join(m.replace('tiny', 'chest') for m in MODELS)}\n"
    )
    assert parameters(out / "chest")["precision"] == "fp32"

    def refused(*arguments: object) -> str:
        failed = edgecxr("export", *arguments)
        assert (failed.returncode, failed.stderr.count("\n")) == (2, 1)
        return failed.stderr

    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    assert f"got a RUN: {run}" in refused(run, "--to", "triton", "-o", tmp_path / "other")
    assert f"got a bundle: {tiny_bundle}" in refused(tiny_bundle, "-o", tmp_path / "b.edgecxr")
    said = refused(tiny_bundle, "--to", "triton", "-o", tmp_path / "other", "--opset", "17", "--max-drop", "1")
    assert said.endswith(": --max-drop, --opset\n")
    assert refused(run, "-o", tmp_path / "b.edgecxr", "--device", "cuda").endswith(": --device\n")


def test_the_base_installation_writes_it(tmp_path: Path, tiny_bundle: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgecxr_export.triton import repository\n"
        f"repository.write({str(tiny_bundle)!r}, Path({str(tmp_path / 'r')!r}))\n"
        "print({'tensorflow', 'keras', 'onnx', 'tf2onnx', 'onnxruntime', 'google'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
