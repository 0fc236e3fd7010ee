"""From a RUN to a bundle: everything at its place, nothing left over, and refusals before any work."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecxr import bundle as bundles
from edgecxr.dataset import Dataset, folds, read_dataset, without_origin
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.errors import DataError, GateError, UsageError
from edgecxr.train.run import read_run
from edgecxr.verify import verify
from edgecxr_export.golden import TOLERANCES, golden_inputs
from edgecxr_export.labelled import run_splits
from edgecxr_export.stage import export

from .conftest import EPOCHS

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def made(run_folder: Path, folder: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    output = tmp_path_factory.mktemp("bundles") / "phantoms.edgecxr"
    return export(run_folder, output, folder, name="phantoms", version="1.2.3", cache=cache, notes=["drawn pictures"])


def test_the_bundle_loads_and_verifies(made: bundles.Bundle) -> None:
    assert (made.name, made.version, made.labels) == ("phantoms", "1.2.3", ("covid", "normal", "viral_pneumonia"))
    assert [(a.file, a.precision, a.preferred) for a in made.artifacts] == [
        ("model.fp32.onnx", "fp32", False),
        ("model.int8.onnx", "int8", True),
    ]
    found = verify(made, device="cpu", threads=2)
    assert found.passed
    own = [check for check in found.golden if check.engine == "onnxruntime"]  # any other engine here is checked, too
    assert [check.artifact for check in own] == ["model.fp32.onnx", "model.int8.onnx"]
    assert {check.label_flips for check in found.golden} == {0}
    assert {path.name for path in made.path.parent.iterdir()} == {"phantoms.edgecxr"}  # nothing partial is left
    on_disk = {path.relative_to(made.path).as_posix() for path in made.path.rglob("*") if path.is_file()}
    assert on_disk == {*made.files, "bundle.json"}


def test_fp32_answers_as_the_run_does(made: bundles.Bundle, run_folder: Path, folder: Path) -> None:
    """Independent of the stage's own figures: pictures from their files, through the bundle's bytes."""
    from edgecxr import images

    stored = read_run(run_folder).logits("dev")
    engine = OnnxRuntimeEngine(made.read("model.fp32.onnx"), "cpu", "fp32", 1)
    decoded = [images.decode((folder / file).read_bytes(), made.preprocessing) for file in stored.files]
    inputs = np.stack([images.prepare(picture, made.preprocessing) for picture in decoded])[..., None]
    assert np.abs(engine.run(inputs) - stored.logits).max() < 1e-4


def test_the_reports_say_what_was_measured(made: bundles.Bundle, folder: Path) -> None:
    parity = json.loads(made.read("reports/parity.json"))
    fp32, int8 = parity["artifacts"]
    assert (fp32["pictures"], fp32["flips"]) == (12, 0)
    assert fp32["max_dp"] <= 1e-4
    assert int8["evidence_residual_max"] < 1e-4
    assert len(int8["flipped_files"]) == int8["flips"]
    assert parity["reference"]["spot_check"]["recomputed"] is False
    assert made.artifacts[0].details["parity"]["max_dp"] == fp32["max_dp"]
    quantization = json.loads(made.read("reports/quantization.json"))
    assert quantization["pictures"] == 24  # all of train: fewer than the 128 that were asked for
    assert [group["pictures"] for group in quantization["groups"]] == [6, 6, 6, 6]
    evaluation = json.loads(made.read("reports/evaluation.json"))
    assert [(model["model"], model["split"]) for model in evaluation["models"]] == [
        ("Keras float32", "dev"),
        ("Keras float32", "test"),
        ("fp32 artifact", "dev"),
        ("int8 artifact", "dev"),
        ("int8 artifact", "test"),
    ]
    training = json.loads(made.read("reports/training.json"))
    assert len(training["history"]) == EPOCHS
    assert made.read("reports/curves.png")[:4] == b"\x89PNG"
    card = made.read("MODEL_CARD.md").decode()
    assert "- drawn pictures" in card
    assert "viral pneumonia against paediatric normal" in card
    for file in made.files:
        if not file.endswith((".onnx", ".npy", ".png")):
            assert str(folder.parent).encode() not in made.read(file)


def test_golden_inputs_reach_the_whole_range_and_repeat(made: bundles.Bundle) -> None:
    inputs = made.golden_inputs()
    assert inputs.shape == (8, 96, 96, 1)
    assert np.array_equal(inputs, golden_inputs(made.preprocessing))
    assert (inputs.min(), inputs.max()) == (0, 255)
    rows = made.golden_expected()
    assert [(row.artifact, row.engine, row.tolerance) for row in rows] == [
        ("model.fp32.onnx", "onnxruntime", TOLERANCES["fp32"]),
        ("model.int8.onnx", "onnxruntime", TOLERANCES["int8"]),
    ]


def test_an_int8_bundle_alone_and_over_another(
    made: bundles.Bundle, run_folder: Path, folder: Path, cache: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.edgecxr"
    shutil.copytree(made.path, output)
    again = export(
        run_folder,
        output,
        folder,
        name="phantoms",
        version="1.2.3",
        precisions=["int8"],
        overwrite=True,
        cache=cache,
    )
    assert [(a.precision, a.preferred) for a in again.artifacts] == [("int8", True)]
    assert not (output / "model.fp32.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.edgecxr"]
    fp32, int8 = json.loads(again.read("reports/parity.json"))["artifacts"]
    assert (fp32["kept"], int8["kept"]) == (False, True)
    # The same RUN gives the same bytes.
    assert again.read("model.int8.onnx") == made.read("model.int8.onnx")


def test_a_failed_gate_leaves_what_was_there(
    made: bundles.Bundle, run_folder: Path, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "a.edgecxr"
    shutil.copytree(made.path, output)
    before = (output / "bundle.json").read_bytes()
    monkeypatch.setattr("edgecxr_export.parity.FP32_MAX_DP", -1.0)
    with pytest.raises(GateError, match="fp32 artifact must agree"):
        export(run_folder, output, folder, precisions=["fp32"], overwrite=True, cache=cache)
    assert (output / "bundle.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.edgecxr"]


def test_an_output_that_exists_is_refused(run_folder: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.edgecxr"
    output.mkdir()
    with pytest.raises(UsageError, match="the output exists"):
        export(run_folder, output, folder)
    # --overwrite is for bundles: a folder of something else stays.
    (output / "letters.txt").write_text("dear")
    with pytest.raises(UsageError, match="this is none"):
        export(run_folder, output, folder, overwrite=True)
    assert (output / "letters.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "a.onnx"}, "NAME.edgecxr"),
        ({"output": "absent/a.edgecxr"}, "folder doesn't exist"),
        ({"precisions": ["fp64"]}, "must be of fp32, int8, got fp64"),
        ({"precisions": []}, "got none"),
        ({"opset": 3}, "opset must be one of"),
        ({"data": None}, "give --data DIR"),
    ],
)
def test_calls_that_are_refused(
    run_folder: Path, folder: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    values = {"data": folder, **options}
    output = tmp_path / str(values.pop("output", "a.edgecxr"))
    data = values.pop("data")
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    description = json.loads((copy / "run.json").read_text())
    description["data"].pop("folder", None)
    (copy / "run.json").write_text(json.dumps(description))
    with pytest.raises(UsageError, match=message):
        export(copy, output, data, **values)  # type: ignore[arg-type]
    assert not output.exists()


def test_damaged_and_absent_weights(run_folder: Path, folder: Path, cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    weights = copy / "model.weights.h5"
    os.truncate(weights, weights.stat().st_size // 2)
    with pytest.raises(UsageError, match="weights are damaged or don't fit"):
        export(copy, tmp_path / "a.edgecxr", folder, cache=cache)
    weights.unlink()
    with pytest.raises(UsageError, match=r"has no model\.weights\.h5"):
        export(copy, tmp_path / "a.edgecxr", folder, cache=cache)


def test_other_pictures_than_the_run_s_are_refused(run_folder: Path, folder: Path, cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    picture = next((copy / "covid").iterdir())
    picture.write_bytes(next((folder / "normal").iterdir()).read_bytes())
    with pytest.raises(DataError, match="aren't those the run was fitted on"):
        export(run_folder, tmp_path / "a.edgecxr", copy, cache=cache)


def test_the_splits_are_made_again_as_the_run_had_them(run_folder: Path, folder: Path) -> None:
    data, run = read_dataset(folder), read_run(run_folder)

    def splits(dataset: Dataset) -> dict[str, str | None]:
        return {example.file: example.split for example in dataset.examples}

    def of_a_run(**described: object) -> dict[str, str | None]:
        about = {**run.description, "data": {**run.description["data"], **described}}
        return splits(run_splits(data, replace(run, description=about)))

    assert of_a_run() == splits(data)
    assert of_a_run(fold=2, folds=3) == splits(folds(data, 3, run.description["seed"])[1])
    held_out = of_a_run(hold_out_origin="adult, B")
    assert held_out == splits(without_origin(data, "adult, B", run.description["seed"]))
    assert {file for file, split in held_out.items() if split == "test"} == {f"normal/1-{n:02}.png" for n in range(11)}


def test_a_label_that_no_bundle_can_hold(run_folder: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    description = json.loads((copy / "run.json").read_text())
    description["labels"][0] = "covid\n"
    (copy / "run.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="a label of a bundle is a plain name"):
        export(copy, tmp_path / "a.edgecxr", folder)
