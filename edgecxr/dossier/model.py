"""What a bundle says of itself: its manifest, its own evaluations and its card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgecxr.bundle import CARD, MANIFEST, Bundle
from edgecxr.dossier.claims import Claim, Section, Source, listed, said, size
from edgecxr.dossier.reports import figures

EVALUATION = "reports/evaluation.json"
_OTHER_SOURCE = re.compile(r"reports/other-source-\d+\.json")


def described(bundle: Bundle) -> Section:
    """The model, as its manifest has it."""
    contract = bundle.preprocessing
    claims = [
        said("name and version", f"{bundle.name} {bundle.version}"),
        said("digest, SHA-256", bundle.digest),
        said("classes", list(bundle.labels), listed(bundle.labels)),
        said("input", [contract.height, contract.width], f"grey, {contract.height} x {contract.width} px, uint8"),
        said("preprocessing, version of the contract", contract.version),
        said("temperature of the probabilities", bundle.temperature, f"{bundle.temperature:.5g}"),
        _abstention(bundle),
        *(_point(bundle, index) for index in range(len(bundle.operating_points))),
        *_artifacts(bundle),
        *_made(bundle),
    ]
    return Section(
        "The model", Source(f"edgecxr info {bundle.path.name}", MANIFEST, bundle.manifest_sha256), tuple(claims)
    )


def _abstention(bundle: Bundle) -> Claim:
    said_of = bundle.manifest.get("abstention")
    if not said_of:
        return said(
            "pictures that are no chest films", None, "every picture gets an answer: this bundle can't tell", "warn"
        )
    kept = f"fitted on {said_of['pictures']} films of {said_of['split']} to keep {100 * said_of['kept']:g} %"
    shown = f"get no answer; {kept}"
    return said("pictures that are no chest films", dict(said_of), shown)


def _point(bundle: Bundle, index: int) -> Claim:
    row = bundle.manifest["operating_points"][index]
    shown = f"p at least {row['threshold']:.4f}: sensitivity {100 * row['sensitivity']:.1f} %, "
    shown += f"specificity {100 * row['specificity']:.1f} % on {row['pictures']} of {row['split']}"
    return said(f"operating point, {row['label']}, sensitivity {row['target_sensitivity']:g}", dict(row), shown)


def _artifacts(bundle: Bundle) -> Iterator[Claim]:
    for artifact in bundle.artifacts:
        parity = artifact.details.get("parity")
        against = ""
        if isinstance(parity, Mapping) and {"flips", "pictures", "split"} <= set(parity):
            against = (
                f"; {parity['flips']} of {parity['pictures']} answers on {parity['split']} aren't the trained model's"
            )
        yield said(artifact.file, {"bytes": artifact.bytes, "parity": parity}, f"{size(artifact.bytes)}{against}")
        yield said(f"{artifact.file}, SHA-256", artifact.sha256)


def _made(bundle: Bundle) -> Iterator[Claim]:
    provenance = bundle.manifest.get("provenance")
    if not isinstance(provenance, dict):
        return
    run = provenance.get("run")
    for what in ("recipe", "seed", "data_fingerprint", "weights_sha256", "created_utc"):
        if isinstance(run, dict) and what in run:
            yield said(f"trained: {what.replace('_', ' ')}", run[what])
    for note in provenance.get("notes") or []:
        yield said("its maker's note", str(note))


def evaluations(bundle: Bundle) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(what it is of, a report with eval's figures, its file) of each evaluation that is part of the bundle."""
    for file in bundle.files:
        if file == EVALUATION:
            models = _json(bundle, file).get("models")
            for report in models if isinstance(models, list) else []:
                if report.get("in_full"):
                    yield f"{report['model']} on {report['split']}", report, file
        elif _OTHER_SOURCE.fullmatch(file):
            report = _json(bundle, file)
            yield f"{report.get('data', 'another source')}, {report.get('split', 'all')}", report, file


def own_evaluations(bundle: Bundle) -> list[tuple[Section, str, Mapping[str, Any]]]:
    """A section of each, with (what it is of, the report); those in the words of another version are left out."""
    found = []
    for name, report, file in evaluations(bundle):
        source = Source("edgecxr export RUN", file, bundle.files[file][0])
        try:
            found.append(
                (Section(f"Of the bundle's own reports: {name}", source, tuple(figures(report))), name, report)
            )
        except (KeyError, TypeError, AttributeError, IndexError):
            continue
    return found


def card(bundle: Bundle) -> tuple[Source, str] | None:
    """The model card, Markdown, and where it is from; None where the bundle has none."""
    if CARD not in bundle.files:
        return None
    return Source("edgecxr export RUN", CARD, bundle.files[CARD][0]), bundle.read(CARD).decode("utf-8", "replace")


def _json(bundle: Bundle, file: str) -> dict[str, Any]:
    try:
        report = json.loads(bundle.read(file))
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}
