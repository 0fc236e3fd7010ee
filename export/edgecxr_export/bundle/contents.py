"""The files of a bundle, from what was measured: golden vectors, reports, the card, the manifest; none is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from edgecxr.bundle import OperatingPoint
from edgecxr.bundle import reader as bundles
from edgecxr.engines import ort
from edgecxr.lab.evaluation.operating import unkept
from edgecxr.lab.evaluation.report import SCHEMA as EVALUATION_SCHEMA
from edgecxr.lab.evaluation.report import evaluate_logits
from edgecxr.lab.evaluation.temperature import Temperature
from edgecxr.lab.run import CURVES, Run
from edgecxr_export.abstaining import Abstaining
from edgecxr_export.abstaining import report as abstention_report
from edgecxr_export.bundle import reports, told
from edgecxr_export.bundle.card import model_card, thumbnails_of
from edgecxr_export.bundle.golden import golden_files, golden_inputs, golden_rows, passes_on_gpu
from edgecxr_export.graphs import artifacts
from edgecxr_export.labelled import CHOOSING, Labelled
from edgecxr_export.parity.gates import Gates
from edgecxr_export.parity.measure import Measured, Reference


@dataclass(frozen=True)
class About:
    """What the caller says about the model."""

    name: str
    version: str
    notes: Sequence[str] = ()
    twins: Mapping[str, Any] | None = None  # of benchmarks/twins.py
    other_sources: Sequence[Mapping[str, Any]] = ()  # reports of `edgecxr eval` on data from elsewhere
    left_out: Sequence[Mapping[str, Any]] = ()  # such of RUNs that a source was left out of
    audits: Sequence[Mapping[str, Any]] = ()  # reports of `edgecxr audit`


@dataclass(frozen=True)
class Findings:
    """Everything an export has found out."""

    run: Run
    data: Labelled
    reference: Reference
    temperature: Temperature
    points: Sequence[OperatingPoint]
    gates: Gates
    measured: Sequence[Measured]
    quantization: Mapping[str, Any] | None
    abstaining: Abstaining
    elsewhere: Sequence[Mapping[str, Any]] = ()  # the artifacts on pictures that aren't the run's


def metadata(run: Run, about: About, temperature: Temperature) -> dict[str, str]:
    """What a lone file needs to be of use: values are JSON."""
    return {
        "labels": json.dumps(list(run.labels)),
        "preprocessing": json.dumps(run.contract.to_json(), sort_keys=True),
        "temperature": json.dumps(temperature.temperature),
        "name": json.dumps(about.name),
        "version": json.dumps(about.version),
    }


def parity_report(
    reference: Reference, gates: Gates, measured: Sequence[Measured], elsewhere: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """reports/parity.json: every artifact on the test split, which is reported, and on the halves of dev."""
    return {
        "schema": 3,
        "split": "test",
        "reference": {"model": "Keras float32", "spot_check": reference.spot_check},
        "gates": gates.to_json(),
        "artifacts": [
            {
                "file": each.artifact.file,
                "format": each.artifact.format,
                "precision": each.artifact.precision,
                **asdict(each.test),
                "evidence": asdict(each.evidence),
                "deciding": asdict(each.deciding),
                "choosing": asdict(each.parity[CHOOSING]),
                # Nothing unless limits were moved by hand.
                "exceeds_defaults": Gates().breaches(each.artifact.precision, each.deciding),
                "exceeds_on_test": gates.breaches(each.artifact.precision, each.test),
            }
            for each in measured
        ],
        "elsewhere": list(elsewhere),
    }


def contents(found: Findings, about: About, console: Console) -> dict[str, bytes]:
    """Every file of the bundle; runs the golden inputs on each engine, and times the artifacts."""
    run, kept = found.run, [each.artifact for each in found.measured]
    inputs = golden_inputs(run.contract)
    golden = golden_rows(kept, inputs, console)
    speeds = artifacts.latencies(kept, inputs[:1])
    for sentence in artifacts.slower_int8(kept, speeds):
        console.print(f"note: {sentence}")
    chosen = artifacts.preferred(kept, speeds)
    rows = [reports.artifact_row(m.artifact, m.test, chosen[m.artifact.file], speeds) for m in found.measured]
    for row, artifact in zip(rows, kept, strict=True):
        if row.get("unverified") and passes_on_gpu(artifact, inputs, golden, ort.available_devices()):
            row["unverified"] = False
    evaluation = _evaluation(found, chosen)
    for model in evaluation["models"]:
        for sentence in unkept(model["operating_points"]) if model["in_full"] else ():
            console.print(f"note: on {model['split']} of the {model['model']}: {sentence}", markup=False)
    files = {**_reports(found, about, rows, evaluation), **golden_files(inputs, golden)}
    if (run.folder / CURVES).is_file():
        files["reports/curves.png"] = (run.folder / CURVES).read_bytes()
    manifest = _manifest(found, about, rows, files)
    models = {artifact.file: artifact.model for artifact in kept}
    return {**models, **files, bundles.MANIFEST: reports.to_bytes(manifest)}


def _manifest(
    found: Findings, about: About, rows: Sequence[Mapping[str, Any]], files: Mapping[str, bytes]
) -> dict[str, Any]:
    manifest = {
        "schema": bundles.SCHEMA,
        "name": about.name,
        "version": about.version,
        "labels": list(found.run.labels),
        "preprocessing": found.run.contract.to_json(),
        "temperature": found.temperature.temperature,
        "abstention": found.abstaining.manifest,
        "operating_points": [asdict(point) for point in found.points],
        "artifacts": list(rows),
        "files": [{"file": file, **reports.identity(content)} for file, content in sorted(files.items())],
        "provenance": reports.provenance(found.run, about.notes),
    }
    return {**manifest, "digest": bundles.manifest_digest(manifest)}


def _reports(
    found: Findings, about: About, rows: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]
) -> dict[str, bytes]:
    training = reports.training_report(found.run)
    parity = parity_report(found.reference, found.gates, found.measured, found.elsewhere)
    abstention = abstention_report(found.abstaining, found.measured, found.data)
    card = model_card(
        name=about.name,
        version=about.version,
        labels=found.run.labels,
        preprocessing=found.run.contract.to_json(),
        training=training,
        evaluation=evaluation,
        parity=parity,
        artifacts=rows,
        quantization=found.quantization,
        abstention=abstention,
        twins=about.twins,
        other_sources=about.other_sources,
        left_out=about.left_out,
        audits=about.audits,
        notes=about.notes,
    )
    named: dict[str, Any] = {
        "training": training,
        "parity": parity,
        "evaluation": evaluation,
        "quantization": found.quantization,
        "abstention": abstention,
        "twins": about.twins,
        **told.numbered(told.OTHER_SOURCE, about.other_sources),
        **told.numbered(told.LEFT_OUT, about.left_out),
        **told.numbered(told.AUDIT, [thumbnails_of(report) for report in about.audits]),
    }
    files = {f"reports/{name}.json": reports.to_bytes(report) for name, report in named.items() if report}
    return {**files, bundles.CARD: card.encode("utf-8")}


def _evaluation(found: Findings, chosen: Mapping[str, bool]) -> dict[str, Any]:
    """Figures of the reference and of every artifact on dev and test; the card shows in full what a device runs."""
    first = next((file for file, best in chosen.items() if best), found.measured[0].artifact.file)
    scored: list[tuple[str, str, npt.NDArray[np.float32]]] = [
        ("Keras float32", split, found.reference.of(split).logits) for split in ("dev", "test")
    ]
    scored += [(m.artifact.file, split, m.logits[split]) for m in found.measured for split in ("dev", "test")]
    models = [
        {
            "model": model,
            "split": split,
            "in_full": (model, split) == (first, "test"),
            **evaluate_logits(
                found.run.labels,
                found.data.dataset.split(split),
                logits,
                found.temperature.temperature,
                operating_points=found.points,
            ),
        }
        for model, split, logits in scored
    ]
    fitted = {"split": "dev", **asdict(found.temperature), "at_bound": found.temperature.at_bound}
    return {"schema": EVALUATION_SCHEMA, "temperature": fitted, "models": models}
