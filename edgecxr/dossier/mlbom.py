"""The model of a bundle, as CycloneDX: its files with their hashes, its card, data and figures (extra: report)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6

from edgecxr.bundle import MANIFEST, Bundle
from edgecxr.bundle.reader import NAMED

USE = "Research on classifying frontal chest X-rays, and on running such a classifier on small devices."
LIMIT = "Not a medical device and no basis for a diagnosis; no conformity with any regulation is claimed."


def mlbom(bundle: Bundle, figures: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """A CycloneDX 1.6 document. `figures` are (what it is of, a report of eval's figures), the bundle's own or given.

    The library has no model card (https://cyclonedx.org/docs/1.6/json/#components_items_modelCard), so it is put into
    what the library writes.
    """
    bom = Bom()
    bom.metadata.tools.components.add(this_component())
    bom.metadata.component = _model(bundle)
    bom.register_dependency(bom.metadata.component)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"]["component"]["modelCard"] = _card(bundle, figures)
    return document


def _model(bundle: Bundle) -> Component:
    files = {MANIFEST: (bundle.manifest_sha256, 0), **bundle.files}
    precisions = {artifact.file: f"{artifact.format} {artifact.precision}" for artifact in bundle.artifacts}
    embedded = bundle.folder in NAMED.values()
    return Component(
        name=bundle.name,
        version=bundle.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"{bundle.name} {bundle.version}",
        description=f"Classifier of chest X-rays: {', '.join(bundle.labels)}",
        licenses=[DisjunctiveLicense(name="LICENSE-weights of edgecxr")] if embedded else [],
        properties=[Property(name="edgecxr:bundle-sha256", value=bundle.digest)],
        components=[
            Component(
                name=file,
                type=ComponentType.FILE,
                bom_ref=f"file {file}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
                description=precisions.get(file),
            )
            for file, (sha256, _) in files.items()
        ],
    )


def _card(bundle: Bundle, figures: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    contract = bundle.preprocessing
    outputs = ["logits, float32 (N, K)", "evidence, float32 (N, h, w, K), its sum the logit less a constant"]
    if bundle.abstention is not None:
        outputs.append("ood, float32 (N, 1), how far from frontal chest films")
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "image classification",
            "architectureFamily": "convolutional neural network",
            "modelArchitecture": "Xception",
            "datasets": _data(bundle),
            "inputs": [{"format": f"grey picture, uint8 (N, {contract.height}, {contract.width}, 1)"}],
            "outputs": [{"format": text} for text in outputs],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [row for name, report in figures for row in _metrics(name, report)]
        },
        "considerations": {"useCases": [USE], "technicalLimitations": [LIMIT, *_notes(bundle)]},
    }


def training(bundle: Bundle) -> Mapping[str, Any]:
    """What the bundle says of its training; empty where it says nothing, or in another version's words."""
    if "reports/training.json" not in bundle.files:
        return {}
    try:
        run = json.loads(bundle.read("reports/training.json"))["run"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return run if isinstance(run, dict) else {}


def _data(bundle: Bundle) -> list[dict[str, Any]]:
    data = training(bundle).get("data")
    data = data if isinstance(data, dict) else {}
    splits = data.get("splits") or {}
    counts = [f"{split}: {sum(labels.values())} pictures" for split, labels in splits.items()]
    about = "; ".join([*counts, f"fingerprint {data['fingerprint']}"]) if "fingerprint" in data else ""
    names = [str(name) for name in data.get("sources") or []]
    return [{"type": "dataset", "name": name, **({"description": about} if about else {})} for name in names]


def _notes(bundle: Bundle) -> list[str]:
    provenance = bundle.manifest.get("provenance")
    return [str(note) for note in (provenance.get("notes") or [])] if isinstance(provenance, dict) else []


def _metrics(name: str, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [("accuracy", report["accuracy"]), ("macro AUROC", report["macro_auroc"])]
    rows += [
        (f"{kind}, {label}", figure)
        for kind in ("sensitivity", "specificity")
        for label, figure in report[kind].items()
    ]
    return [
        {
            "type": kind,
            "value": f"{figure['value']:.6g}",
            "slice": name,
            **({"confidenceInterval": _bounds(figure["interval95"])} if figure["interval95"] else {}),
        }
        for kind, figure in rows
        if figure["value"] is not None
    ]


def _bounds(interval: list[float]) -> dict[str, str]:
    return {"lowerBound": f"{interval[0]:.6g}", "upperBound": f"{interval[1]:.6g}"}
