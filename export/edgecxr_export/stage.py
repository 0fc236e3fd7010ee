"""`edgecxr export`: from a RUN to a bundle, every artifact compared with the trained model on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import edgecxr
from edgecxr.bundle import Bundle
from edgecxr.bundle import reader as bundles
from edgecxr.engines.select import INTEGERS, SYMMETRIC
from edgecxr.errors import DataError
from edgecxr.lab import ancestry
from edgecxr.lab.evaluation import abstention
from edgecxr.lab.evaluation.operating import fit_operating_points
from edgecxr.lab.evaluation.temperature import fit_temperature
from edgecxr.lab.outliers import read_outliers
from edgecxr.lab.publish import publish
from edgecxr.lab.run import Run, read_run
from edgecxr.lab.train import storage
from edgecxr.lab.train.fit import default_cache
from edgecxr.scoring.postprocess import probabilities
from edgecxr.system.storage import FULL
from edgecxr_export import abstaining, labelled, refusals
from edgecxr_export.abstaining import Outliers
from edgecxr_export.bundle import reports, told
from edgecxr_export.bundle.contents import About, Findings, contents, metadata, parity_report
from edgecxr_export.graphs import half, onnx_graph
from edgecxr_export.graphs import tflite as litert
from edgecxr_export.graphs.artifacts import ONNX, TFLITE, NetworkFile, planned
from edgecxr_export.graphs.deploy import deploy_model
from edgecxr_export.int8 import quantize
from edgecxr_export.int8 import search as int8
from edgecxr_export.int8.networks import Networks
from edgecxr_export.labelled import CHOOSING, DECIDING, Labelled
from edgecxr_export.parity.compare import Parity
from edgecxr_export.parity.gates import Gates
from edgecxr_export.parity.measure import KERAS_BATCH, Comparison, Measured, Reference, bar, evidence_inputs, said

PRECISIONS = ("fp32", "int8")
FORMATS = (ONNX,)


@dataclass(frozen=True)
class Options:
    """What an export is asked for."""

    formats: Sequence[str] = FORMATS
    precisions: Sequence[str] = PRECISIONS
    opset: int = 17
    calibration_pictures: int = 128
    full_range: bool = False  # 8-bit weights, which saturate on x86 CPUs without VNNI; never in an embedded bundle
    gates: Gates = field(default_factory=Gates)


def export(
    run_folder: Path,
    output: Path,
    data: Path | Sequence[Path] = (),
    *,
    options: Options | None = None,
    name: str = "xception-cxr",
    version: str = edgecxr.__version__,
    overwrite: bool = False,
    notes: Sequence[str] = (),
    twins: Mapping[str, Any] | None = None,
    other_sources: Sequence[Mapping[str, Any]] = (),
    left_out: Sequence[Mapping[str, Any]] = (),
    audits: Sequence[Mapping[str, Any]] = (),
    parity_on: Sequence[Path] = (),
    outliers: Path | None = None,
    cache: Path | None = None,
    console: Console | None = None,
) -> Bundle:
    """Make the bundle `output` (NAME.edgecxr) of the RUN in `run_folder`, and return it opened and checked.

    `data` is the folder, or are the folders, of the labelled pictures that the run was fitted on (default: as the run
    names them): its training pictures calibrate int8; on one half of dev int8's ways are chosen, the other half decides
    whether the artifacts may ship, and the whole of it gives temperature and operating points. Test is read once,
    reported, and decides nothing.
    `notes`, `twins` (of benchmarks/twins.py), `other_sources` (reports of `edgecxr eval` on data from elsewhere),
    `left_out` (such of RUNs that a source was left out of) and `audits` (of `edgecxr audit`) go into the model card,
    and but for notes into reports/. On the pictures of the folders `parity_on` the artifacts are compared with the
    trained model too. `outliers` is a folder of pictures that are no frontal films, from which abstention learns beside
    the training films and their altered copies.

    Either the whole bundle stands at `output` afterwards, or what was there before. Raises UsageError, DataError
    (labels or pictures that can't be used), UnavailableError, StorageError, and GateError where an artifact strays from
    the trained model: its report then stands beside the output, NAME.refused.json.
    """
    options = options or Options()
    console = console or Console(stderr=True, highlight=False)
    refusals.check(
        refusals.Asked(
            output, options.formats, options.precisions, options.opset, options.full_range, options.gates, overwrite
        )
    )
    told.check_reports(other_sources, left_out, audits)
    refusals.check_names(parity_on)
    run = read_run(run_folder)
    for label in run.labels:
        if not bundles.LABEL.fullmatch(label):
            raise DataError(f"a label of a bundle is a plain name of at most 64 characters, got {label[:80]!r}")
    about = About(name, version, notes, twins, other_sources, left_out, audits)
    for doubt in ancestry.doubts(run.description):
        console.print(f"note: {doubt}; {ancestry.FLATTER}", markup=False, highlight=False)
    cache = cache or default_cache()
    listed = read_outliers(outliers) if outliers else ()
    try:
        others = {}  # first, since few: a folder that can't be used is told at once
        for folder in parity_on:
            with bar(console, f"decoding {folder.name}") as advance:
                others[folder.resolve().name] = labelled.elsewhere(run, folder, cache, advance)
        with bar(console, "decoding") as advance:
            pictures = labelled.load(run, [data] if isinstance(data, Path) else data, cache, advance)
        unlike = abstaining.decoded(outliers, listed, pictures.dataset.examples, run.contract) if outliers else None
        try:
            found = _found(run, pictures, others, unlike, options, about, console)
        except refusals.Refused as refused:
            raise refusals.refusal(output, refused) from None
        opened = publish(output, contents(found, about, console), overwrite)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise storage.failed("the bundle or its scratch files", output, error) from None
    size = sum(length for _, length in opened.files.values())
    console.print(f"bundle written to {output}: {len(opened.files) + 1} files, {size / 1e6:.1f} MB", markup=False)
    return opened


def _found(
    run: Run,
    data: Labelled,
    others: Mapping[str, tuple[Labelled, int]],
    outliers: Outliers | None,
    options: Options,
    about: About,
    console: Console,
) -> Findings:
    """Rebuild, calibrate the probabilities, convert, quantize, compare; raises Refused.

    `others` are pictures from elsewhere and how many are left out there, by name.
    """
    rows: list[int] = []
    if set(INTEGERS) & set(options.precisions):  # before any conversion: a folder that is too small is told at once
        rows = quantize.calibration_rows(data.dataset.examples, options.calibration_pictures)
    choosing = data.rows(CHOOSING)  # raises DataError where dev can't be halved
    console.print("rebuilding the trained model …")
    reference = Reference(run, data)
    dev = reference.dev
    calibration = fit_temperature(dev.logits, dev.classes)
    console.print(
        f"temperature {calibration.temperature:.3f}: negative log-likelihood {calibration.nll_before:.4f} -> "
        f"{calibration.nll_after:.4f} on {calibration.pictures} pictures"
    )
    calibrated = probabilities(dev.logits, calibration.temperature)
    points = fit_operating_points(run.labels, dev.classes, calibrated, split="dev")

    fitted_on = abstaining.sample(run, reference.model, data, outliers, console)
    score = abstention.fit(fitted_on.films, fitted_on.unlike)

    console.print("converting …")
    deploy = deploy_model(reference.model, run.recipe, score=score)
    maps = deploy.predict(evidence_inputs(data), batch_size=KERAS_BATCH, verbose=0)["evidence"]
    comparison = Comparison(reference, data, calibration.temperature, np.asarray(maps), console)

    def judge(artifact: NetworkFile, part: str = CHOOSING) -> tuple[Parity, list[str]]:
        found = comparison.of(artifact, part)[1]
        return found, options.gates.breaches(artifact.precision, found)

    mirrored = metadata(run, about, calibration)
    graph = onnx_graph.convert(deploy, options.opset)
    float_input = deploy_model(reference.model, run.recipe, "float32", score) if TFLITE in options.formats else None
    made = _float_files(graph, float_input, options, mirrored)
    for artifact in made:
        found, breaches = judge(artifact, DECIDING)
        if breaches:  # nothing made from it can be right
            report = {**parity_report(reference, options.gates, []), artifact.file: asdict(found)}
            raise refusals.Refused([f"{artifact.file} has {breach}" for breach in breaches], report)

    wanted = planned(options.formats, options.precisions)
    quantization: dict[str, Any] | None = None
    if rows:
        console.print("quantizing …")
        task = int8.Task(
            calibration=quantize.calibration_inputs(data.pictures, rows),
            inputs=data.pictures[np.asarray(choosing)][..., None],
            dev=reference.of(CHOOSING),
            metadata=mirrored,
            judge=judge,
            console=console,
        )
        networks = Networks(graph, task.calibration)
        ways: dict[str, Any] = {}
        if (ONNX, "int8") in wanted:
            artifact, ways[ONNX] = int8.onnx_int8(networks, options.opset, task, full_range=options.full_range)
            made.append(artifact)
        if (ONNX, SYMMETRIC) in wanted:
            # What takes such files adds products up in 32 bits, so their weights have all 8 bits.
            artifact, ways[f"{ONNX}-symmetric"] = int8.onnx_int8(
                networks, options.opset, task, full_range=True, zero_point_0=True
            )
            made.append(artifact)
        if (TFLITE, "int8") in wanted:
            artifact, ways[TFLITE] = int8.tflite_int8(float_input, networks, task)
            made.append(artifact)
        quantization = reports.quantization_report(data.dataset, rows, ways)

    kept = {(artifact.format, artifact.precision): artifact for artifact in made}
    measured = [comparison.final(kept[kind]) for kind in wanted]
    _judge_finally(reference, options.gates, measured, quantization)
    elsewhere = [
        _elsewhere(name, *other, reference, comparison, [each.artifact for each in measured], console)
        for name, other in others.items()
    ]
    settled = abstaining.settle(measured, data, abstaining.fitted_on(data, outliers), console)
    measured = [
        replace(each, artifact=each.artifact.saying({**mirrored, "abstention": settled.metadata(each.artifact)}))
        for each in measured
    ]
    return Findings(
        run, data, reference, calibration, points, options.gates, measured, quantization, settled, elsewhere
    )


def _elsewhere(
    name: str,
    other: Labelled,
    left_out: int,
    reference: Reference,
    comparison: Comparison,
    artifacts: Sequence[NetworkFile],
    console: Console,
) -> dict[str, Any]:
    """The artifacts against the trained model on pictures from elsewhere: a part of reports/parity.json."""
    with bar(console, f"Keras on {name}"):
        expected = reference.elsewhere(other)
    rows = []
    for artifact in artifacts:
        found = comparison.elsewhere(artifact, name, other, expected)
        console.print(f"{artifact.file} {said(found)}", markup=False, highlight=False)
        rows.append({"file": artifact.file, "precision": artifact.precision, **asdict(found)})
    return {"data": name, "pictures": len(other.dataset.examples), "left_out": left_out, "artifacts": rows}


def _float_files(graph: Any, float_input: Any, options: Options, mirrored: Mapping[str, str]) -> list[NetworkFile]:
    """The files that aren't quantized. The fp32 ONNX file is always among them: what int8 is made from is compared."""
    versions = {"opset": options.opset, "ir_version": onnx_graph.IR_VERSION}
    wanted = planned(options.formats, options.precisions)
    made = [NetworkFile(ONNX, "fp32", onnx_graph.serialise(graph, mirrored), versions)]
    if (ONNX, "fp16") in wanted:
        # Until it has given its golden answers on a GPU, nobody has seen it do what it is for.
        halves = onnx_graph.serialise(half.half(graph), mirrored)
        made.append(NetworkFile(ONNX, "fp16", halves, {**versions, "unverified": True}))
    if (TFLITE, "fp32") in wanted:
        made.append(NetworkFile(TFLITE, "fp32", litert.convert(float_input, mirrored)))
    return made


def _judge_finally(
    reference: Reference, gates: Gates, measured: Sequence[Measured], quantization: Mapping[str, Any] | None
) -> None:
    """Raise Refused where an artifact exceeds a gate on the half of dev that chose nothing."""
    breaches = [
        f"{each.artifact.file} has {breach}"
        for each in measured
        for breach in gates.breaches(each.artifact.precision, each.deciding)
    ]
    if breaches:
        report = {**parity_report(reference, gates, measured), "quantization": quantization}
        raise refusals.Refused(breaches, report)
