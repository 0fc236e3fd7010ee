"""From a RUN to a bundle: everything at its place, nothing left over, and refusals before any work."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from rich.console import Console

from edgecxr.bundle import reader as bundles
from edgecxr.device.verify import verify
from edgecxr.engines import Engine, ov
from edgecxr.engines.litert import LiteRtEngine
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.engines.select import Asked, choose
from edgecxr.errors import DataError, GateError, StorageError, UsageError
from edgecxr.lab.audit import audit
from edgecxr.lab.dataset import Dataset, folds, read_dataset, without_value
from edgecxr.lab.run import Logits, read_run
from edgecxr_export.bundle.golden import TOLERANCES, golden_inputs
from edgecxr_export.graphs import tflite, tflite_graph
from edgecxr_export.int8.ways import CHANGES
from edgecxr_export.labelled import CHOOSING, DECIDING, run_splits
from edgecxr_export.parity import compare as parities
from edgecxr_export.parity.compare import Parity
from edgecxr_export.parity.gates import Gates
from edgecxr_export.phantoms import draw
from edgecxr_export.stage import Options, export

from .conftest import EPOCHS
from .graphs.test_litert_conversion import BACKBONE

pytestmark = [pytest.mark.lab, pytest.mark.slow]  # a whole network in every format, four times


# Random weights pass rounding on as trained ones don't, and one flip of eight test pictures is 12.5 %.
LENIENT = Gates(max_drop=1, max_flips=1, int8_p99_logits=9, fp16_max_dp=1)
EVERYTHING = Options(formats=("onnx", "tflite"), precisions=("fp32", "fp16", "int8"), gates=LENIENT)
FEW = CHANGES[:2]  # ways to quantize: each takes seconds, and test_ways tries them all
FILES = ["model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx", "model.fp32.tflite", "model.int8.tflite"]


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    """What the export of `made` says."""
    return io.StringIO()


@pytest.fixture(scope="module")
def elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of two classes that the run knows, and one that it doesn't."""
    target = tmp_path_factory.mktemp("elsewhere") / "originals"
    for number, label in enumerate(("covid", "covid", "normal", "flu")):
        (target / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw((140, 100), 900 + number).astype(np.uint8)).save(target / label / f"{number}.png")
    return target


@pytest.fixture(scope="module")
def outliers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of noise, of two kinds."""
    target = tmp_path_factory.mktemp("outliers") / "noise"
    rng = np.random.default_rng(0)
    for number in range(4):
        file = target / ("coarse", "fine")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (12, 12) if number % 2 == 0 else (128, 112), dtype=np.uint8)
        Image.fromarray(noise).resize((112, 128)).save(file)
    return target


@pytest.fixture(scope="module")
def made(
    run_folder: Path,
    folder: Path,
    elsewhere: Path,
    outliers: Path,
    cache: Path,
    said: io.StringIO,
    tmp_path_factory: pytest.TempPathFactory,
) -> bundles.Bundle:
    output = tmp_path_factory.mktemp("bundles") / "phantoms.edgecxr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgecxr_export.int8.ways.CHANGES", FEW)
        return export(
            run_folder,
            output,
            folder,
            options=EVERYTHING,
            name="phantoms",
            version="1.2.3",
            cache=cache,
            notes=["drawn pictures"],
            parity_on=[elsewhere],
            outliers=outliers,
            audits=[audit(read_dataset(folder), {}, workers=2, seed=0)],
            console=Console(file=said, width=1000),
        )


def test_the_bundle_loads_and_verifies(made: bundles.Bundle) -> None:
    assert (made.name, made.version, made.labels) == ("phantoms", "1.2.3", ("covid", "normal", "viral_pneumonia"))
    assert [a.file for a in made.artifacts] == FILES
    found = verify(made, Asked(device="cpu"), threads=2)
    assert found.passed
    assert not found.notes  # every engine's answers are compared with its own
    assert {check.engine for check in found.golden} == {"onnxruntime", "openvino", "litert"}
    assert {check.artifact for check in found.golden} == set(FILES)
    assert {check.label_flips for check in found.golden} == {0}
    assert {path.name for path in made.path.parent.iterdir()} == {"phantoms.edgecxr"}  # nothing partial is left
    on_disk = {path.relative_to(made.path).as_posix() for path in made.path.rglob("*") if path.is_file()}
    assert on_disk == {*made.files, "bundle.json"}


def test_every_artifact_says_when_it_is_silent(made: bundles.Bundle) -> None:
    """In the manifest, in the file itself, with golden values, in the report and in the card."""
    assert made.abstention is not None
    assert (made.abstention.split, made.abstention.pictures) == ("dev", 6)
    rows = {(row.artifact, row.engine, row.precision): row.threshold for row in made.abstention.thresholds}
    golden = {(row.artifact, row.engine, row.precision): row for row in made.golden_expected()}
    assert set(rows) == set(golden)
    assert {artifact for artifact, _, _ in rows} == set(FILES)
    for row in golden.values():
        assert row.ood is not None
        assert row.ood.shape == (8, 1)
    for file in FILES:
        own = {engine: threshold for (artifact, engine, p), threshold in rows.items() if artifact == file and p in file}
        if file.endswith(".onnx"):
            lone = bundles.load(made.path / file)
            assert lone.abstention is not None
            assert {row.engine: row.threshold for row in lone.abstention.thresholds} == own
        else:
            said = json.loads(tflite_graph.read_metadata(made.read(file))["abstention"])
            assert (said["thresholds"], said["pictures"]) == (own, 6)
    report = json.loads(made.read("reports/abstention.json"))
    assert report["split"] == DECIDING
    assert report["fitted_on"]["films"] == 24
    assert [(row["kind"], row["pictures"]) for row in report["fitted_on"]["outliers"]["kinds"]] == [
        ("coarse", 2),
        ("fine", 2),
    ]
    card = made.read("MODEL_CARD.md").decode()
    assert "| fine | not stated | none stated | 2 |" in card
    assert "no detector of an unfamiliar hospital" in card


def test_measured_speed_sets_what_is_preferred(made: bundles.Bundle) -> None:
    for kind in ("onnx", "tflite"):
        mine = [artifact for artifact in made.artifacts if artifact.format == kind and "speed" in artifact.details]
        fastest = min(mine, key=lambda artifact: artifact.details["speed"]["p50_ms"])
        assert [artifact.file for artifact in mine if artifact.preferred] == [fastest.file]
    halves = made.artifacts[1]
    assert (halves.preferred, "speed" in halves.details) == (False, False)
    # No GPU has seen it: this machine's tests run without one.
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert halves.details["unverified"] is True
        assert "`model.fp16.onnx` is for GPUs and has run on none yet" in made.read("MODEL_CARD.md").decode()


def test_int8_files_are_small_and_hold_integers(made: bundles.Bundle) -> None:
    for artifact in made.artifacts:
        if artifact.precision == "int8":
            assert artifact.bytes <= 12_000_000
            assert artifact.details["float_nodes"] == []
    assert made.artifacts[1].bytes < 0.51 * made.artifacts[0].bytes
    for file in ("model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx"):
        model = onnx.load_from_string(made.read(file))
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == 8  # ONNX Runtime reads it since 1.10, of 2021
        assert [opset.version for opset in model.opset_import] == [17]
        assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_fp32_answers_as_the_run_does(made: bundles.Bundle, run_folder: Path, folder: Path) -> None:
    """Independent of the stage's own figures: pictures from their files, through the bundle's bytes."""
    from edgecxr.pictures import decode as images

    stored = read_run(run_folder).logits("dev")
    decoded = [images.decode((folder / file).read_bytes(), made.preprocessing) for file in stored.files]
    inputs = np.stack([images.prepare(picture, made.preprocessing) for picture in decoded])[..., None]
    onnx_engine = OnnxRuntimeEngine(made.read("model.fp32.onnx"), "cpu", "fp32", 1)
    lite_engine = LiteRtEngine(made.read("model.fp32.tflite"), "cpu", "fp32", 1)
    answers, theirs = (engine.run(inputs) for engine in (onnx_engine, lite_engine))
    for answer in (answers, theirs):
        assert np.abs(answer.logits - stored.logits).max() < 1e-4
    assert np.abs(theirs.evidence - answers.evidence).max() < 1e-4
    found = tflite.check(made.read("model.fp32.tflite"), "fp32")
    convolutions = {kind: BACKBONE[kind] for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "RELU")}
    convolutions["CONV_2D"] += 1  # the pooled head is one; ood has none
    assert {kind: found.operators[kind] for kind in convolutions} == convolutions


def test_the_reports_say_what_was_measured(made: bundles.Bundle, folder: Path) -> None:
    parity = json.loads(made.read("reports/parity.json"))
    assert [row["file"] for row in parity["artifacts"]] == FILES
    assert parity["gates"]["max_flips"] == 1
    for row, artifact in zip(parity["artifacts"], made.artifacts, strict=True):
        assert (row["split"], row["pictures"]) == ("test", 8)
        assert [row[half]["pictures"] for half in ("choosing", "deciding")] == [6, 6]  # of 12 in dev
        assert (row["choosing"]["split"], row["deciding"]["split"]) == (CHOOSING, DECIDING)
        assert row["exceeds_on_test"] == []
        assert row["exceeds_defaults"] == Gates().breaches(row["precision"], Parity(**row["deciding"]))
        assert len(row["flipped_files"]) == row["flips"]
        assert row["evidence"]["residual_max"] < 1e-4
        assert row["evidence"]["correlation_mean"] > (0.5 if row["precision"] == "int8" else 0.999)
        assert artifact.details["parity"]["max_dp"] == row["max_dp"]
        if row["precision"] == "fp32":
            assert (row["flips"], row["max_dp"] <= 1e-4, row["deciding"]["max_dp"] <= 1e-4) == (0, True, True)
            assert row["ece"] == pytest.approx(row["reference_ece"], abs=1e-4)
    assert parity["reference"]["spot_check"]["recomputed"] is False
    quantization = json.loads(made.read("reports/quantization.json"))
    assert quantization["pictures"] == 24  # all of train: fewer than the 128 that were asked for
    assert [group["pictures"] for group in quantization["groups"]] == [6, 6, 6, 6]
    trials = quantization["onnx"]["trials"]
    assert len(trials) == len(FEW) + 2  # as it was, and with corrected biases
    best = min(trials, key=lambda trial: trial["mean_logits"])
    assert quantization["onnx"]["chosen"] == {key: best[key] for key in ("clip", "channels", "rounding", "biases")}
    assert [step["float_nodes"] for step in quantization["tflite"]["steps"]] == [[]]
    evaluation = json.loads(made.read("reports/evaluation.json"))
    assert [(model["model"], model["split"]) for model in evaluation["models"]] == [
        (model, split) for model in ("Keras float32", *FILES) for split in ("dev", "test")
    ]
    assert sum(model["in_full"] for model in evaluation["models"]) == 1
    training = json.loads(made.read("reports/training.json"))
    assert len(training["history"]) == EPOCHS
    assert made.read("reports/curves.png")[:4] == b"\x89PNG"
    (other,) = parity["elsewhere"]
    assert (other["data"], other["pictures"], other["left_out"]) == ("originals", 3, 1)
    assert [(row["file"], row["pictures"]) for row in other["artifacts"]] == [(file, 3) for file in FILES]
    assert other["artifacts"][0]["p99_logits"] < 1e-4
    card = made.read("MODEL_CARD.md").decode()
    assert "- drawn pictures" in card
    assert "originals (1 of other classes left out)" in card
    assert card.count("## What a thumbnail tells") == 1
    assert "viral pneumonia against paediatric normal" in card
    for file in made.files:
        if not file.endswith((".onnx", ".tflite", ".npy", ".png")):
            assert str(folder.parent).encode() not in made.read(file)


def test_what_is_said_on_the_way(made: bundles.Bundle, said: io.StringIO) -> None:
    lines = said.getvalue()
    assert "note: what backbone.weights.h5 was fitted on isn't known; where it has learnt from pictures of dev" in lines
    for part in (DECIDING, "test"):
        assert f"pictures of {part} 0 flips (0.00%, 0.00%–" in lines
    assert "model.int8.onnx on 3 pictures of originals" in lines
    # Six pictures of three classes hold no promise of 90 %, and no interval excludes it either, or it is said.
    assert lines.count("than promised") == made.read("MODEL_CARD.md").decode().count("than promised")


def test_test_decides_nothing(
    run_folder: Path,
    folder: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every answer on test is wrong by far, and the bundle is written and says so."""
    exact = parities.compare

    def wrong(engine: Engine, split: str, reference: Logits, logits: np.ndarray, *rest: Any) -> parities.Parity:
        return exact(engine, split, reference, -logits if split == "test" else logits, *rest)

    monkeypatch.setattr("edgecxr_export.parity.compare.compare", wrong)
    options = Options(precisions=("fp32",))
    made = export(run_folder, tmp_path / "a.edgecxr", folder, options=options, cache=cache)
    (row,) = json.loads(made.read("reports/parity.json"))["artifacts"]
    assert row["flips"] > 0
    assert len(row["exceeds_on_test"]) == 2
    assert "On test, which decides nothing, `model.fp32.onnx` has" in made.read("MODEL_CARD.md").decode()


def test_golden_inputs_reach_the_whole_range_and_repeat(made: bundles.Bundle) -> None:
    inputs = made.golden_inputs()
    assert inputs.shape == (8, 96, 96, 1)
    assert np.array_equal(inputs, golden_inputs(made.preprocessing))
    assert (inputs.min(), inputs.max()) == (0, 255)
    rows = {(row.artifact, row.engine, row.precision): row.tolerance for row in made.golden_expected()}
    expected = {
        ("model.fp32.onnx", "onnxruntime", "fp32"),
        ("model.fp32.onnx", "openvino", "fp32"),
        ("model.fp16.onnx", "onnxruntime", "fp16"),
        ("model.int8.onnx", "onnxruntime", "int8"),
        ("model.int8.onnx", "openvino", "int8"),
        ("model.fp32.tflite", "litert", "fp32"),
        ("model.int8.tflite", "litert", "int8"),
        *([("model.fp32.onnx", "openvino", "bf16")] if ov.has_bf16() else []),
    }
    assert rows == {kind: TOLERANCES[kind[2]] for kind in expected}


def test_another_process_writes_the_same_bytes_over_another_bundle(
    made: bundles.Bundle, run_folder: Path, folder: Path, outliers: Path, cache: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.edgecxr"
    shutil.copytree(made.path, output)
    script = f"""
from pathlib import Path
from edgecxr_export.int8 import ways
from edgecxr_export.parity.gates import Gates
from edgecxr_export.stage import Options, export
ways.CHANGES = ways.CHANGES[:{len(FEW)}]
options = Options(formats=("onnx", "tflite"), precisions=("int8",), gates=Gates(1e-4, 1, 1, 1, 9))
export(Path({str(run_folder)!r}), Path({str(output)!r}), Path({str(folder)!r}), options=options, name="phantoms",
       version="1.2.3", overwrite=True, cache=Path({str(cache)!r}), outliers=Path({str(outliers)!r}))
"""
    subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=900,
        check=True,
    )
    again = bundles.load(output)
    assert [artifact.file for artifact in again.artifacts] == [FILES[2], FILES[4]]
    assert not (output / "model.fp32.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.edgecxr"]
    # By hash: pytest would explain a difference between files of 20 MB for an hour.
    hashes = {artifact.file: artifact.sha256 for artifact in made.artifacts}
    assert {a.file: a.sha256 for a in again.artifacts} == {a.file: hashes[a.file] for a in again.artifacts}


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        # On dev nothing passes, and six convolutions in float don't help.
        (replace(LENIENT, int8_p99_logits=0.0), r"model\.int8\.onnx has logits .* off .*, at most 0%"),
        (replace(LENIENT, fp32_max_dp=-1.0), r"model\.fp32\.onnx has max .Δp. of .*, at most -1"),
    ],
)
def test_a_failed_gate_leaves_what_was_there_and_a_report(
    made: bundles.Bundle,
    run_folder: Path,
    folder: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gates: Gates,
    message: str,
) -> None:
    monkeypatch.setattr("edgecxr_export.int8.ways.MAX_FLOAT", 1)
    monkeypatch.setattr("edgecxr_export.int8.ways.Quantizer.nodes", property(lambda self: ["conv_004", "conv_006"]))
    monkeypatch.setattr("edgecxr_export.int8.ways.CHANGES", ())
    output = tmp_path / "a.edgecxr"
    shutil.copytree(made.path, output)
    before = (output / "bundle.json").read_bytes()
    with pytest.raises(GateError, match=rf"must answer as the trained model does: {message}.*; the report is .*json"):
        export(run_folder, output, folder, options=Options(gates=gates), overwrite=True, cache=cache)
    assert (output / "bundle.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.edgecxr", "a.refused.json"]
    report = json.loads((tmp_path / "a.refused.json").read_text())
    assert len(report["refused_for"]) == 1
    if "int8" in message:
        assert [len(step["float_nodes"]) for step in report["quantization"]["onnx"]["steps"]] == [0, 1]
        assert {row["node"] for row in report["quantization"]["onnx"]["sensitivity"]} == {"conv_004", "conv_006"}
        assert [row["file"] for row in report["artifacts"]] == ["model.fp32.onnx", "model.int8.onnx"]


def test_symmetric_int8_is_an_artifact_like_the_others(
    run_folder: Path, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gated, verified, told in reports and card, and never what `auto` takes."""
    monkeypatch.setattr("edgecxr_export.int8.ways.CHANGES", ())
    options = Options(precisions=("fp32", "int8-symmetric"), gates=LENIENT)
    made = export(run_folder, tmp_path / "a.edgecxr", folder, options=options, cache=cache)
    fp32, symmetric = made.artifacts
    assert (symmetric.file, symmetric.precision) == ("model.int8-symmetric.onnx", "int8-symmetric")
    assert symmetric.details["weight_bits"] == 8
    assert symmetric.bytes < fp32.bytes / 3
    assert symmetric.details["speed"]["engine"] == "onnxruntime"
    assert not symmetric.preferred
    assert choose(made, Asked(device="cpu")).artifact == fp32
    found = verify(made, Asked(device="cpu", precision="int8-symmetric"), threads=2)
    assert [(check.engine, check.reference) for check in found.golden] == [
        ("onnxruntime", "onnxruntime"),
        ("openvino", "openvino"),
    ]
    assert found.passed
    quantization = json.loads(made.read("reports/quantization.json"))
    assert quantization["onnx-symmetric"]["settings"]["activations"] == "int8, zero point 0"
    assert "onnx" not in quantization
    card = made.read("MODEL_CARD.md").decode()
    assert "`model.int8-symmetric.onnx`: static, weights per channel" in card
    assert "`model.int8-symmetric.onnx` has activations of zero point 0" in card


def test_a_folder_too_small_to_calibrate_is_refused_before_any_work(
    run_folder: Path, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecxr_export.int8.quantize.MIN_PICTURES", 25)
    monkeypatch.setattr("edgecxr_export.stage.Reference", None)  # it isn't come to
    with pytest.raises(DataError, match="got 24: the folder of pictures is too small to calibrate"):
        export(run_folder, tmp_path / "a.edgecxr", folder, cache=cache)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before_any_work(
    run_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100_000_000))
    with pytest.raises(StorageError, match=r"the bundle's files need 0\.1 GB, only 0\.1 GB are free"):
        export(run_folder, tmp_path / "a.edgecxr", folder)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way(
    run_folder: Path, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*parts: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edgecxr_export.stage.onnx_graph.convert", full)  # as where scratch files are written
    with pytest.raises(StorageError, match=r"scratch files can't be written \(no room left\)"):
        export(run_folder, tmp_path / "a.edgecxr", folder, cache=cache)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_don_t_match(run_folder: Path, folder: Path, cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    description = json.loads((copy / "run.json").read_text())
    description["labels"][0] = "measles"
    (copy / "run.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="must have the run's labels measles, normal, viral_pneumonia, got covid"):
        export(copy, tmp_path / "a.edgecxr", folder, cache=cache)
    description["labels"] = ["covid", "normal"]
    (copy / "run.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="must have the run's labels covid, normal, got"):
        export(copy, tmp_path / "a.edgecxr", folder, cache=cache)


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
        ({"precisions": ["fp64"]}, "precisions must be of fp32, fp16, int8, int8-symmetric, got fp64"),
        ({"precisions": []}, "got none"),
        ({"formats": ["h5"]}, "formats must be of onnx, tflite, got h5"),
        ({"formats": ["tflite"], "precisions": ["fp16"]}, "no tflite file is made in fp16"),
        ({"formats": ["tflite"], "precisions": ["int8-symmetric"]}, "no tflite file is made in int8-symmetric"),
        ({"opset": 3}, "opset must be one of"),
        ({"gates": Gates(max_flips=float("nan"))}, "share of flips must be 0 to 100 %, got nan"),
        ({"gates": Gates(int8_p99_logits=float("inf"))}, "error of the logits must be 0 % or more, got inf%"),
        ({"data": None}, "give --data DIR"),
        ({"parity_on": [Path("a"), Path("b/../a")]}, "folders of different names, got twice: a"),
        (
            {"audits": [{"schema": 1, "data": "x"}]},
            "must be one of edgecxr audit, schema 1; run it again, got schema 1",
        ),
        ({"other_sources": [{"schema": 1}]}, "must be one of edgecxr eval, schema 2; run it again, got schema 1"),
    ],
)
def test_calls_that_are_refused(
    run_folder: Path, folder: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    values = {"data": folder, **options}
    asked = {name: values.pop(name) for name in ("precisions", "formats", "opset", "gates") if name in values}
    output = tmp_path / str(values.pop("output", "a.edgecxr"))
    data = values.pop("data")
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    description = json.loads((copy / "run.json").read_text())
    description["data"].pop("folder", None)
    (copy / "run.json").write_text(json.dumps(description))
    with pytest.raises(UsageError, match=message):
        export(copy, output, data, options=Options(**asked), **values)  # type: ignore[arg-type]
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
    held_out = of_a_run(held_out={"column": "origin", "value": "adult, B"})
    assert held_out == splits(without_value(data, "origin", "adult, B", run.description["seed"]))
    assert held_out == of_a_run(hold_out_origin="adult, B")  # as it was called before
    assert {file for file, split in held_out.items() if split == "test"} == {f"normal/1-{n:02}.png" for n in range(11)}


def test_a_label_that_no_bundle_can_hold(run_folder: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    description = json.loads((copy / "run.json").read_text())
    description["labels"][0] = "covid\n"
    (copy / "run.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="a label of a bundle is a plain name"):
        export(copy, tmp_path / "a.edgecxr", folder)


def test_the_embedded_bundle_is_never_of_full_range(run_folder: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="embedded bundle runs on any CPU"):
        export(run_folder, bundles.EMBEDDED, folder, options=Options(full_range=True), overwrite=True)


def test_outliers_that_can_t_be_learnt_from_end_it(run_folder: Path, folder: Path, cache: Path, tmp_path: Path) -> None:
    empty, films = tmp_path / "empty", tmp_path / "films"
    empty.mkdir()
    (films / "hand").mkdir(parents=True)
    film = next((folder / "covid").iterdir())
    shutil.copy(film, films / "hand" / "1.png")
    for outliers, said in (
        (empty, "outliers are expected"),
        (films, "an outlier may not be one of the labelled films"),
    ):
        with pytest.raises(DataError, match=said):
            export(run_folder, tmp_path / "x.edgecxr", folder, outliers=outliers, cache=cache)
    assert not (tmp_path / "x.edgecxr").exists()
