"""--self-test, and what a network says of itself: a lone .onnx, and one that isn't its bundle's."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from edgecxr import Classifier
from edgecxr.bundle import load, manifest_digest
from edgecxr.bundle import network as modelfile
from edgecxr.device.golden import self_test
from edgecxr.engines.select import Asked
from edgecxr.errors import BundleError, GateError
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session

Run = Callable[..., subprocess.CompletedProcess[str]]


def with_metadata(**changes: str | None) -> bytes:
    """The tiny network with what `edgecxr export` writes into its own; values are JSON, None leaves one out."""
    said: dict[str, str | None] = {
        "name": '"tiny"',
        "version": '"1"',
        "labels": json.dumps(tiny.LABELS),
        "preprocessing": json.dumps(tiny.CONTRACT.to_json()),
        "temperature": str(tiny.TEMPERATURE),
        **changes,
    }
    model = onnx.load_from_string(tiny.tiny_model())
    for key, value in said.items():
        if value is not None:
            model.metadata_props.add(key=f"edgecxr.{key}", value=value)
    return model.SerializeToString()


def wrong(folder: Path) -> Path:
    """A bundle whose golden vectors are of another network, all hashes right."""
    tiny.write_bundle(folder)
    expected = json.loads((folder / "golden" / "expected.json").read_text())
    expected[1]["logits"][0][0] += 0.5
    data = json.dumps(expected).encode()
    (folder / "golden" / "expected.json").write_bytes(data)
    manifest = json.loads((folder / "bundle.json").read_text())
    row = next(row for row in manifest["files"] if row["file"] == "golden/expected.json")
    row.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    manifest["digest"] = manifest_digest(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def test_right_answers_pass_and_wrong_ones_do_not(tiny_bundle: Path, tmp_path: Path) -> None:
    right = open_session(load(tiny_bundle), Asked(engine="onnxruntime"))
    assert self_test(right.bundle, right.artifact, right.engine).pictures == 8
    session = open_session(load(wrong(tmp_path / "w.edgecxr")), Asked(engine="onnxruntime"))
    with pytest.raises(GateError, match=r"off by up to 0\.5 on onnxruntime"):
        self_test(session.bundle, session.artifact, session.engine)
    Classifier(tiny_bundle, self_test=True)
    with pytest.raises(GateError, match="self-test failed"):
        Classifier(session.bundle, self_test=True)


def test_wrong_answers_end_the_run_before_the_first_picture(
    edgecxr: Run, picture: Callable[..., Path], tmp_path: Path
) -> None:
    bundle, path = wrong(tmp_path / "w.edgecxr"), picture()
    done = edgecxr("infer", path, "-m", bundle, "-o", tmp_path / "out.jsonl", "--self-test")
    assert done.returncode == 5
    assert "the self-test failed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_a_lone_onnx_scores_as_in_its_bundle(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    path, alone = picture(), tmp_path / "alone.onnx"
    alone.write_bytes(with_metadata())
    whole = pipeline.score(open_session(load(tiny_bundle), Asked(engine="onnxruntime")), [path])[0]
    opened = load(alone)
    session = open_session(opened, Asked(engine="onnxruntime"))
    found = pipeline.score(session, [path])[0]
    assert found.logits == whole.logits
    assert found.probabilities == whole.probabilities
    assert opened.digest == hashlib.sha256(alone.read_bytes()).hexdigest()
    assert opened.artifacts[0].precision == "fp32"
    with pytest.raises(BundleError, match="golden vectors are in a whole bundle"):
        self_test(session.bundle, session.artifact, session.engine)
    done = edgecxr("infer", path, "-m", alone, "-o", "-", "-v")
    assert json.loads(done.stdout)["bundle_sha256"] == opened.digest
    assert "first record after" in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": None, "temperature": None}, "doesn't say its labels, temperature"),
        ({"labels": '["a", "b"'}, "garbles its metadata"),
        ({"labels": '["a", "a", "b"]'}, "all different"),
        ({"labels": "3"}, "no list"),
        ({"temperature": "NaN"}, "temperature must be"),
        ({"preprocessing": '{"version": 99}'}, "preprocessing"),
        ({"name": '"a\\u001bb"'}, "name isn't a plain one"),
        ({"labels": "[" * 5000}, "garbles its metadata"),
    ],
)
def test_a_lone_onnx_that_says_something_else_is_refused(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    (tmp_path / "a.onnx").write_bytes(with_metadata(**changes))
    with pytest.raises(BundleError, match=words):
        load(tmp_path / "a.onnx")


def test_a_lone_onnx_is_one_plain_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(with_metadata())
    (tmp_path / "link.onnx").symlink_to("a.onnx")
    (tmp_path / "a b.onnx").write_bytes(with_metadata())
    (tmp_path / "cut.onnx").write_bytes(with_metadata()[:-7])
    for name, words in (("link.onnx", "symlink"), ("a b.onnx", "must have a name"), ("cut.onnx", "no whole onnx")):
        with pytest.raises(BundleError, match=words):
            load(tmp_path / name)
    opened = load(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").write_bytes(with_metadata(temperature="9.0"))  # changed since it was opened
    with pytest.raises(BundleError, match=r"longer than it should be|listed hash"):
        opened.read("a.onnx")


def test_a_network_that_names_other_classes_is_refused(tmp_path: Path) -> None:
    model = with_metadata(labels=json.dumps(["normal", "covid", "viral_pneumonia"]))
    with pytest.raises(BundleError, match="the bundle says otherwise"):
        load(tiny.write_bundle(tmp_path / "s.edgecxr", model)).read("model.int8.onnx")
    load(tiny.write_bundle(tmp_path / "r.edgecxr", with_metadata())).read("model.int8.onnx")


@pytest.mark.parametrize(
    ("kind", "zero", "precision"),
    [
        (np.float32, np.float32, "fp32"),
        (np.float16, np.float32, "fp16"),
        (np.int8, np.uint8, "int8"),
        (np.int8, np.int8, "int8-symmetric"),
    ],
)
def test_the_precision_is_that_of_the_weights(kind: type, zero: type, precision: str) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((2, 2), dtype=kind), "w")
    zeros = numpy_helper.from_array(np.zeros((), dtype=zero), "z")
    shape = numpy_helper.from_array(np.array([1], dtype=np.int64), "s")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value], [shape, weights, zeros]
    )
    model = helper.make_model(graph)
    model.metadata_props.add(key="k", value="v" * 300)
    data = model.SerializeToString()
    assert modelfile.precision(data) == precision
    assert modelfile.metadata(data) == {"k": "v" * 300}
