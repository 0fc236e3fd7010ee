"""`edgecxr export`: from a RUN to a bundle, every artifact compared with the trained model on the way."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
from rich.console import Console
from rich.progress import Progress

import edgecxr
from edgecxr import bundle as bundles
from edgecxr.bench import spread
from edgecxr.bundle import Bundle, OperatingPoint
from edgecxr.dataset import Dataset, folds, read_dataset, with_splits, without_origin
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.errors import BundleError, DataError, GateError, UnavailableError, UsageError
from edgecxr.evaluation.operating import fit_operating_points
from edgecxr.evaluation.report import SCHEMA as EVALUATION_SCHEMA
from edgecxr.evaluation.report import evaluate_logits
from edgecxr.evaluation.temperature import Calibration, fit_temperature
from edgecxr.machine import cpus
from edgecxr.postprocess import probabilities
from edgecxr.terminal import progress
from edgecxr.train import pictures as training_pictures
from edgecxr.train.fit import default_cache
from edgecxr.train.run import CURVES, Logits, Run, read_run
from edgecxr_export import onnx_graph, parity, quantize, reports
from edgecxr_export.card import model_card
from edgecxr_export.deploy import deploy_model, reference_model
from edgecxr_export.golden import expected_json, golden_inputs, golden_logits
from edgecxr_export.publish import publish

PRECISIONS = ("fp32", "int8")
PREFERENCE = ("int8", "fp32")  # on a CPU: 2.9 times faster at equal answers
KERAS_BATCH = 32


@dataclass(frozen=True)
class _Data:
    """The run's labelled pictures, decoded."""

    dataset: Dataset
    pictures: npt.NDArray[np.uint8]  # (N, H, W), in the order of dataset.examples

    def rows(self, split: str) -> list[int]:
        return [row for row, example in enumerate(self.dataset.examples) if example.split == split]


@dataclass(frozen=True)
class _Artifact:
    """One network file in the making."""

    precision: str
    model: bytes
    engine: OnnxRuntimeEngine
    parity: parity.Parity
    dev_logits: npt.NDArray[np.float32]

    @property
    def file(self) -> str:
        return f"model.{self.precision}.onnx"


def export(
    run_folder: Path,
    output: Path,
    data: Path | None = None,
    *,
    name: str = "xception-cxr",
    version: str = edgecxr.__version__,
    precisions: Sequence[str] = PRECISIONS,
    opset: int = 17,
    calibration_pictures: int = 128,
    overwrite: bool = False,
    notes: Sequence[str] = (),
    twins: Mapping[str, Any] | None = None,
    other_sources: Sequence[Mapping[str, Any]] = (),
    cache: Path | None = None,
    console: Console | None = None,
) -> Bundle:
    """Make the bundle `output` (NAME.edgecxr) of the RUN in `run_folder`, and return it opened and checked.

    `data` is the folder of labelled pictures that the run was fitted on (default: the one the run names); its
    pictures calibrate the int8 artifact and show what every artifact answers. `precisions` says which artifacts the
    bundle keeps; fp32 is made and compared in any case. `notes`, `twins` (of benchmarks/twins.py) and `other_sources`
    (reports of `edgecxr eval` on data from elsewhere) go into the model card; the last two into reports/ as well.

    Either the whole bundle stands at `output` afterwards, or what was there before. Raises UsageError, DataError
    (labels or pictures that can't be used), UnavailableError, GateError (an artifact strays from the trained model).
    """
    console = console or Console(stderr=True, highlight=False)
    _check_call(output, precisions, opset, overwrite)
    _check_reports(other_sources)
    run = read_run(run_folder)
    for label in run.labels:
        if not bundles.LABEL.fullmatch(label):
            raise DataError(f"a label of a bundle is a plain name of at most 64 characters, got {label[:80]!r}")
    loaded = _load_data(run, data, cache or default_cache(), console)

    console.print("rebuilding the trained model …")
    reference = reference_model(run)
    stored = _ordered(run.logits("dev"), loaded, "dev")
    dev_rows = loaded.rows("dev")

    def recompute(places: Sequence[int]) -> npt.NDArray[np.float32]:
        chosen = loaded.pictures[np.asarray([dev_rows[place] for place in places])]
        return np.asarray(reference.predict(chosen[..., None], batch_size=KERAS_BATCH, verbose=0), dtype=np.float32)

    dev, spot_check = parity.checked_reference(stored, recompute)
    calibration = fit_temperature(dev.logits, dev.classes)
    console.print(
        f"temperature {calibration.temperature:.3f}: negative log-likelihood {calibration.nll_before:.4f} -> "
        f"{calibration.nll_after:.4f} on {calibration.pictures} pictures"
    )
    calibrated = probabilities(dev.logits, calibration.temperature)
    points = fit_operating_points(run.labels, dev.classes, calibrated, split="dev")

    metadata = _metadata(run, name, version, calibration)
    console.print("converting to ONNX …")
    fp32 = onnx_graph.convert(deploy_model(reference, run.recipe), opset)
    made = [_artifact("fp32", fp32, metadata, loaded, dev, calibration, console)]
    quantization = None
    if "int8" in precisions:
        console.print("quantizing …")
        rows = quantize.calibration_rows(loaded.dataset.examples, calibration_pictures)
        int8 = quantize.quantize(fp32, quantize.calibration_inputs(loaded.pictures, rows))
        quantization = reports.quantization_report(loaded.dataset, rows)
        made.append(_artifact("int8", int8, metadata, loaded, dev, calibration, console))
    for artifact in made:
        parity.gate(artifact.parity)
    kept = [artifact for artifact in made if artifact.precision in precisions]
    preferred = min(kept, key=lambda artifact: PREFERENCE.index(artifact.precision))

    evaluation = _evaluation_report(run, loaded, dev, kept, preferred, calibration, points, console)
    parity_report = {
        "schema": 1,
        "split": "dev",
        "reference": {"model": "Keras float32", "spot_check": spot_check},
        "artifacts": [{**asdict(a.parity), "kept": a in kept} for a in made],
    }
    training = reports.training_report(run)
    rows_json = [_artifact_json(artifact, artifact is preferred, opset) for artifact in kept]
    files = {
        "reports/training.json": reports.to_bytes(training),
        "reports/parity.json": reports.to_bytes(parity_report),
        "reports/evaluation.json": reports.to_bytes(evaluation),
        **({"reports/quantization.json": reports.to_bytes(quantization)} if quantization else {}),
        **({"reports/twins.json": reports.to_bytes(twins)} if twins else {}),
        **{f"reports/other-source-{i}.json": reports.to_bytes(other) for i, other in enumerate(other_sources, start=1)},
        **_golden_files(run, kept),
        bundles.CARD: model_card(
            name=name,
            version=version,
            labels=run.labels,
            preprocessing=run.contract.to_json(),
            training=training,
            evaluation=evaluation,
            parity=parity_report,
            artifacts=rows_json,
            quantization=quantization,
            twins=twins,
            other_sources=other_sources,
            notes=notes,
        ).encode("utf-8"),
    }
    if (run.folder / CURVES).is_file():
        files["reports/curves.png"] = (run.folder / CURVES).read_bytes()
    manifest = {
        "schema": bundles.SCHEMA,
        "name": name,
        "version": version,
        "labels": list(run.labels),
        "preprocessing": run.contract.to_json(),
        "temperature": calibration.temperature,
        "abstention": None,
        "operating_points": [asdict(point) for point in points],
        "artifacts": rows_json,
        "files": [{"file": file, **reports.identity(content)} for file, content in sorted(files.items())],
        "provenance": reports.provenance(run, notes),
    }
    manifest["digest"] = bundles.manifest_digest(manifest)
    contents = (
        {artifact.file: artifact.model for artifact in kept} | files | {bundles.MANIFEST: reports.to_bytes(manifest)}
    )
    opened = publish(output, contents, overwrite)
    size = sum(length for _, length in opened.files.values())
    console.print(f"bundle written to {output}: {len(opened.files) + 1} files, {size / 1e6:.1f} MB", markup=False)
    return opened


def _check_call(output: Path, precisions: Sequence[str], opset: int, overwrite: bool) -> None:
    """Everything that can be refused before any work is done."""
    if keras.backend.backend() != "tensorflow":
        raise UnavailableError(
            f"export converts through TensorFlow; unset KERAS_BACKEND, which is {keras.backend.backend()}"
        )
    if not precisions or set(precisions) - set(PRECISIONS):
        raise UsageError(f"the precisions must be of {', '.join(PRECISIONS)}, got {', '.join(precisions) or 'none'}")
    if opset not in onnx_graph.OPSETS:
        raise UsageError(f"the opset must be one of {', '.join(map(str, onnx_graph.OPSETS))}, got {opset}")
    if output.suffix != bundles.SUFFIX:
        raise UsageError(f"the output must be named NAME{bundles.SUFFIX}, got {output}")
    if not output.parent.is_dir():
        raise UsageError(f"the output's folder doesn't exist: {output.parent}")
    if os.path.lexists(output):
        if not overwrite:
            raise UsageError(f"the output exists; give --overwrite to replace it: {output}")
        if output.is_symlink() or not (output / bundles.MANIFEST).is_file():
            raise UsageError(f"--overwrite replaces a bundle, and this is none: {output}")


def _check_reports(other_sources: Sequence[Mapping[str, Any]]) -> None:
    for report in other_sources:
        schema = report.get("schema")
        if schema != EVALUATION_SCHEMA or "data" not in report:
            raise UsageError(
                f"a report on another source must be one of edgecxr eval, schema {EVALUATION_SCHEMA}; "
                f"run it again, got schema {schema}"
            )


def _load_data(run: Run, data: Path | None, cache: Path, console: Console) -> _Data:
    """The pictures that the run was fitted on, in the run's splits; refuses others."""
    described = run.description["data"]
    if data is None:
        if not described.get("folder"):
            raise UsageError("the run doesn't say where its pictures are; give --data DIR")
        data = Path(described["folder"])
    dataset = read_dataset(data)
    if described.get("where"):
        dataset = dataset.where(described["where"])
    dataset = run_splits(dataset, run)
    if dataset.labels != run.labels:
        raise DataError(
            f"the pictures must have the run's labels {', '.join(run.labels)}, got {', '.join(dataset.labels)}: {data}"
        )
    fingerprint, contents = training_pictures.fingerprints(dataset.examples)
    if fingerprint != described["fingerprint"]:
        raise DataError(f"the pictures aren't those the run was fitted on, their fingerprint is another: {data}")
    with _bar(console, "decoding", len(dataset.examples)) as advance:
        pictures = training_pictures.load(dataset.examples, run.contract, cache, contents, advance)
    return _Data(dataset, pictures)


def run_splits(dataset: Dataset, run: Run) -> Dataset:
    """The data in the splits that the run was fitted on: the manifest's, made by group, of a fold, or by origin."""
    described, seed = run.description["data"], run.description["seed"]
    if described.get("hold_out_origin"):
        return without_origin(dataset, described["hold_out_origin"], seed)
    if described.get("folds"):
        return folds(dataset, described["folds"], seed)[int(described["fold"]) - 1]
    return with_splits(dataset, seed)


def _ordered(stored: Logits, data: _Data, split: str) -> Logits:
    """`stored` in the order of the data; raises UsageError where it isn't of the same pictures."""
    files = tuple(data.dataset.examples[row].file for row in data.rows(split))
    place = {file: index for index, file in enumerate(stored.files)}
    if set(files) != set(place) or len(stored.logits) != len(files):
        raise UsageError(f"the run's logits must be of the {len(files)} pictures of {split}, got {len(stored.files)}")
    order = [place[file] for file in files]
    return replace(stored, files=files, classes=stored.classes[order], logits=stored.logits[order])


def _metadata(run: Run, name: str, version: str, calibration: Calibration) -> dict[str, str]:
    """What a lone .onnx file needs to be of use: values are JSON."""
    return {
        "labels": json.dumps(list(run.labels)),
        "preprocessing": json.dumps(run.contract.to_json(), sort_keys=True),
        "temperature": json.dumps(calibration.temperature),
        "name": json.dumps(name),
        "version": json.dumps(version),
    }


def _artifact(
    precision: str,
    graph: Any,
    metadata: Mapping[str, str],
    data: _Data,
    dev: Logits,
    calibration: Calibration,
    console: Console,
) -> _Artifact:
    """Write the graph, load those bytes as a device does and compare their answers with the reference's on dev."""
    model = onnx_graph.serialise(graph, metadata)
    bias = onnx.numpy_helper.to_array(onnx_graph.bias_tensor(graph))
    try:
        engine = OnnxRuntimeEngine(model, "cpu", precision, cpus())
    except BundleError as error:
        raise GateError(str(error)) from None
    rows = data.rows("dev")
    logits = _scored(engine, data, rows, f"{precision} on dev", console)
    sample = data.pictures[np.asarray(rows)[spread(len(rows), parity.EVIDENCE_PICTURES)]][..., None]
    residual = parity.evidence_residual(engine, sample, bias)
    found = parity.compare(precision, engine, "dev", dev, logits, calibration.temperature, residual, len(sample))
    console.print(
        f"{precision}: {len(model) / 1e6:.1f} MB, {found.flips} flips on {found.pictures} pictures, "
        f"|Δp| at most {found.max_dp:.2g}, accuracy {found.accuracy:.1%} (Keras {found.reference_accuracy:.1%})"
    )
    return _Artifact(precision, model, engine, found, logits)


def _scored(
    engine: OnnxRuntimeEngine, data: _Data, rows: Sequence[int], what: str, console: Console
) -> npt.NDArray[np.float32]:
    with _bar(console, what, len(rows)) as advance:
        return parity.run_logits(engine, data.pictures, rows, advance)


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Any]:
    """A transient progress bar; yields what is to be told how many are done."""
    bar: Progress = progress(console, what)
    with bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def _evaluation_report(
    run: Run,
    data: _Data,
    dev: Logits,
    kept: Sequence[_Artifact],
    preferred: _Artifact,
    calibration: Calibration,
    points: Sequence[OperatingPoint],
    console: Console,
) -> dict[str, Any]:
    """Figures of the reference on dev and test, of every artifact on dev, and of the preferred one on test.

    The test split decides nothing here: nothing that follows depends on these figures.
    """
    scored = [("Keras float32", "dev", dev.logits)]
    scored.append(("Keras float32", "test", _ordered(run.logits("test"), data, "test").logits))
    scored += [(f"{artifact.precision} artifact", "dev", artifact.dev_logits) for artifact in kept]
    final = _scored(preferred.engine, data, data.rows("test"), f"{preferred.precision} on test", console)
    scored.append((f"{preferred.precision} artifact", "test", final))
    models = []
    for model, split, logits in scored:
        found = evaluate_logits(
            run.labels,
            data.dataset.split(split),
            logits,
            calibration.temperature,
            operating_points=points,
        )
        in_full = model == f"{preferred.precision} artifact"  # in the card: what a device will run
        models.append({"model": model, "split": split, "in_full": in_full, **found})
    return {
        "schema": EVALUATION_SCHEMA,
        "temperature": {"split": "dev", **asdict(calibration), "at_bound": calibration.at_bound},
        "models": models,
    }


def _golden_files(run: Run, kept: Sequence[_Artifact]) -> dict[str, bytes]:
    inputs = golden_inputs(run.contract)
    rows = []
    for artifact in kept:
        engine = OnnxRuntimeEngine(artifact.model, "cpu", artifact.precision, 1)
        rows.append(expected_json(artifact.file, artifact.precision, engine.name, golden_logits(engine, inputs)))
    packed = io.BytesIO()
    np.save(packed, inputs, allow_pickle=False)
    return {bundles.GOLDEN_INPUTS: packed.getvalue(), bundles.GOLDEN_EXPECTED: reports.to_bytes(rows)}


def _artifact_json(artifact: _Artifact, preferred: bool, opset: int) -> dict[str, Any]:
    found = artifact.parity
    return {
        "file": artifact.file,
        "format": "onnx",
        "precision": artifact.precision,
        **reports.identity(artifact.model),
        "preferred": preferred,
        "opset": opset,
        "ir_version": onnx_graph.IR_VERSION,
        "parity": {
            "split": found.split,
            "pictures": found.pictures,
            "flips": found.flips,
            "max_dp": found.max_dp,
            "p99_dp": found.p99_dp,
            "max_dlogit": found.max_dlogit,
            "accuracy": found.accuracy,
            "reference_accuracy": found.reference_accuracy,
        },
    }
