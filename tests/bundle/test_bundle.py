"""A bundle is whole or refused; what was hashed is what is returned."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bundle import DEFAULT, NAMED, load, manifest_digest, present
from edgecxr.device.verify import verify
from edgecxr.engines.select import Asked
from edgecxr.errors import BundleError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_bundle(tmp_path / "t.edgecxr")


def test_a_whole_bundle_loads(folder: Path) -> None:
    bundle = load(folder)
    assert bundle.labels == tiny.LABELS
    assert bundle.preprocessing == tiny.CONTRACT
    assert bundle.temperature == tiny.TEMPERATURE
    assert [(a.precision, a.preferred) for a in bundle.artifacts] == [("fp32", False), ("int8", True)]
    assert all(bundle.read(file) for file in bundle.files)
    assert np.array_equal(bundle.golden_inputs(), tiny.golden_inputs())
    assert {(row.artifact, row.engine) for row in bundle.golden_expected()} == {
        ("model.fp32.onnx", "onnxruntime"),
        ("model.int8.onnx", "onnxruntime"),
    }


def test_the_digest_is_the_canonical_json_of_the_rest(folder: Path) -> None:
    import hashlib

    manifest = json.loads((folder / "bundle.json").read_text())
    del manifest["digest"]
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    assert load(folder).digest == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize("file", ["model.int8.onnx", "golden/inputs.npy", "golden/expected.json", "MODEL_CARD.md"])
@pytest.mark.parametrize("change", ["flip", "shorten", "lengthen", "remove", "symlink", "folder"])
def test_a_changed_file_is_never_returned(folder: Path, file: str, change: str) -> None:
    path = folder / file
    data = bytearray(path.read_bytes())
    if change == "flip":
        data[len(data) // 2] ^= 1
    elif change == "shorten":
        del data[-1]
    elif change == "lengthen":
        data.append(0)
    path.unlink()
    if change == "symlink":
        (folder / "elsewhere").write_bytes(data)
        path.symlink_to(folder / "elsewhere")
    elif change == "folder":
        path.mkdir()
    elif change != "remove":
        path.write_bytes(data)
    with pytest.raises(BundleError):
        load(folder).read(file)


def test_any_changed_byte_of_the_manifest_is_noticed_or_means_nothing(folder: Path) -> None:
    path = folder / "bundle.json"
    original = path.read_bytes()
    whole = load(folder)
    rng = np.random.default_rng(0)
    for position, value in zip(rng.integers(0, len(original), 300), rng.integers(1, 256, 300), strict=True):
        changed = bytearray(original)
        changed[position] ^= int(value)
        path.write_bytes(changed)
        try:
            assert load(folder) == whole  # white space, or another spelling of the same JSON
        except BundleError:
            continue


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"schema": "1"}, "no schema version"),
        ({"labels": ["covid"]}, "expected 2 to"),
        ({"labels": ["covid", "covid"]}, "all different"),
        ({"labels": ["covid", "\x1b[2J"]}, "plain name"),
        ({"labels": ["covid", 7]}, "plain name"),
        ({"labels": "abc"}, "no list"),
        ({"name": "a [/b]"}, "the name isn't a plain one"),
        ({"version": "1\x1b[31m"}, "the version isn't a plain one"),
        ({"temperature": 0}, "positive number"),
        ({"temperature": float("nan")}, "positive number"),
        ({"temperature": "warm"}, "lacks or garbles"),
        ({"temperature": 10**400}, "an integer of 401 digits"),
        ({"artifacts": []}, "no artifact"),
        ({"preprocessing": {}}, "preprocessing contract"),
        ({"files": [{"file": "../x", "sha256": "0" * 64, "bytes": 1}]}, "plain relative"),
        ({"files": [{"file": "/etc/passwd", "sha256": "0" * 64, "bytes": 1}]}, "plain relative"),
        ({"files": [{"file": "a/./b", "sha256": "0" * 64, "bytes": 1}]}, "plain relative"),
        ({"files": [{"file": "x", "sha256": "0" * 63, "bytes": 1}]}, "no usable hash"),
        ({"files": [{"file": "x", "sha256": "0" * 64, "bytes": -1}]}, "no usable hash"),
        ({"files": [{"file": "x", "sha256": "0" * 64, "bytes": 1 << 40}]}, "no usable hash"),
        ({"files": None}, "lacks or garbles"),
    ],
)
def test_a_manifest_with_the_right_digest_and_the_wrong_content_is_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        load(tiny.write_bundle(tmp_path / "t.edgecxr", **changes))


POINT = {
    "label": "covid", "target_sensitivity": 0.95, "threshold": 0.31, "sensitivity": 0.96, "specificity": 0.9,
    "split": "dev", "pictures": 1222,
}  # fmt: skip


def test_operating_points_are_read_and_a_bundle_without_any_is_none_the_worse(tmp_path: Path) -> None:
    assert load(tiny.write_bundle(tmp_path / "none.edgecxr")).operating_points == ()
    rows = [POINT, {**POINT, "label": "normal", "threshold": 0, "specificity": 1}]
    first, second = load(tiny.write_bundle(tmp_path / "two.edgecxr", operating_points=rows)).operating_points
    assert asdict(first) == POINT
    assert (second.label, second.threshold) == ("normal", 0)
    old = tiny.write_bundle(tmp_path / "old.edgecxr")  # an exporter that knew of none
    manifest = json.loads((old / "bundle.json").read_text())
    del manifest["operating_points"]
    manifest["digest"] = manifest_digest(manifest)
    (old / "bundle.json").write_text(json.dumps(manifest))
    assert load(old).operating_points == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": 1.01}, "must lie in 0 to 1"),
        ({"threshold": -0.01}, "must lie in 0 to 1"),
        ({"threshold": float("nan")}, "must lie in 0 to 1"),
        ({"threshold": "0.5"}, "must lie in 0 to 1"),
        ({"threshold": True}, "must lie in 0 to 1"),
        ({"target_sensitivity": 95}, "must lie in 0 to 1"),
        ({"sensitivity": None}, "must lie in 0 to 1"),
        ({"specificity": float("inf")}, "must lie in 0 to 1"),
        ({"label": "tuberculosis"}, "one of the labels"),
        ({"label": ["covid"]}, "one of the labels"),
        ({"split": "dev\x1b[2J"}, "and a split"),
        ({"split": 1}, "and a split"),
        ({"pictures": 0}, "on how many pictures"),
        ({"pictures": 3.5}, "on how many pictures"),
        ({"pictures": True}, "on how many pictures"),
    ],
)
def test_an_operating_point_that_can_not_be_one_is_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        load(tiny.write_bundle(tmp_path / "t.edgecxr", operating_points=[POINT, {**POINT, **changes}]))


@pytest.mark.parametrize("points", [None, 7, "covid", [None], [[]], [{"label": "covid"}], {"covid": 0.5}])
def test_garbage_for_operating_points_is_refused(tmp_path: Path, points: object) -> None:
    with pytest.raises(BundleError, match="lacks or garbles"):
        load(tiny.write_bundle(tmp_path / "t.edgecxr", operating_points=points))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"schema": 1}', "\xff"])
def test_garbage_for_a_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError):
        load(folder)


def test_golden_vectors_that_do_not_fit_are_refused(folder: Path) -> None:
    import hashlib

    data = json.dumps(
        [{"artifact": "model.fp32.onnx", "engine": "onnxruntime", "logits": [[1.0]], "tolerance": 0.1}]
    ).encode()
    manifest = json.loads((folder / "bundle.json").read_text())
    for row in manifest["files"]:
        if row["file"] == "golden/expected.json":
            row.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (folder / "golden/expected.json").write_bytes(data)
    manifest["digest"] = manifest_digest(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="don't fit"):
        load(folder).golden_expected()


def test_places_that_are_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file.onnx").touch()
    for place in ("absent", "file.onnx", "."):
        with pytest.raises(BundleError):
            load(tmp_path / place)


@pytest.mark.parametrize(("name", "side", "megabytes"), [("full", 224, 22), ("edge", 192, 12)])
def test_an_embedded_bundle_is_whole_small_and_says_what_it_is(name: str, side: int, megabytes: float) -> None:
    bundle = load(name)
    assert bundle.path == NAMED[name]
    assert bundle.labels == ("covid", "normal", "viral_pneumonia")
    assert [a.precision for a in bundle.artifacts] == ["int8"]
    assert (bundle.preprocessing.width, bundle.preprocessing.height) == (side, side)
    assert bundle.artifacts[0].bytes < 1e6 * megabytes
    assert sum(len(bundle.read(file)) for file in bundle.files) < 1e6 * (megabytes + 2)
    assert "not a medical device" in bundle.read("MODEL_CARD.md").decode()


@pytest.mark.parametrize("name", NAMED)
def test_an_embedded_bundle_answers_here_as_where_it_was_made(name: str) -> None:
    assert verify(load(name), Asked("onnxruntime")).passed


def test_the_embedded_bundles_have_names_and_one_is_the_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(DEFAULT).path == load(Path(DEFAULT)).path == load().path == NAMED[DEFAULT]
    other = next(name for name in NAMED if name != DEFAULT)
    monkeypatch.setitem(NAMED, other, folder)
    assert load(other).path == folder
    assert present() == tuple(NAMED)
    monkeypatch.setitem(NAMED, other, folder / "absent")
    with pytest.raises(BundleError, match=f"^the model '{other}' isn't in this installation, which has {DEFAULT}$"):
        load(other)
