"""The files of a bundle of which more is told: its card and reports with what was measured since.

What a bundle does on data from elsewhere is measured with the bundle, and stands first in its card. Networks, golden
vectors and all else that was exported stay to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecxr.bundle import CARD, MANIFEST, Bundle, load, manifest_digest
from edgecxr.errors import UsageError
from edgecxr.lab.audit.report import SCHEMA as AUDIT_SCHEMA
from edgecxr.lab.evaluation.report import SCHEMA as EVALUATION_SCHEMA
from edgecxr.lab.publish import check_place, publish
from edgecxr.lab.site_bundle import REPORT as SITE
from edgecxr_export.bundle import reports
from edgecxr_export.bundle.card import model_card, thumbnails_of

NEEDED = ("training", "evaluation", "parity")
OTHER_SOURCE, LEFT_OUT, AUDIT = "other-source", "left-out", "audit"  # and a number


def numbered(name: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Reports of one kind by the names that they have in reports/."""
    return {f"{name}-{number}": report for number, report in enumerate(found, start=1)}


def check_reports(
    other_sources: Sequence[Mapping[str, Any]],
    left_out: Sequence[Mapping[str, Any]],
    audits: Sequence[Mapping[str, Any]],
) -> None:
    """Raise UsageError for what isn't a report of `edgecxr eval`, or of `edgecxr audit`."""
    for what, verb, reports_, schema, key in (
        ("on another source", "eval", other_sources, EVALUATION_SCHEMA, "confusion"),
        ("on a source left out", "eval", left_out, EVALUATION_SCHEMA, "confusion"),
        ("on data", "audit", audits, AUDIT_SCHEMA, "findings"),
    ):
        for report in reports_:
            given = report.get("schema")
            if given != schema or not {"data", key} <= report.keys():
                raise UsageError(
                    f"a report {what} must be one of edgecxr {verb}, schema {schema}; run it again, got schema {given}"
                )


def contents(
    bundle: Bundle,
    *,
    notes: Sequence[str] = (),
    twins: Mapping[str, Any] | None = None,
    other_sources: Sequence[Mapping[str, Any]] = (),
    left_out: Sequence[Mapping[str, Any]] = (),
    audits: Sequence[Mapping[str, Any]] = (),
) -> dict[str, bytes]:
    """Every file of `bundle`, by name, with a card that tells these too; what isn't given stays as it is told.

    `notes` come after those that are there. Reports of a kind take the place of those that are there. Raises UsageError
    for a bundle whose card can't be made again, and for a report of another model.
    """
    if SITE in bundle.files:
        raise UsageError(f"a site's bundle keeps its card: add to the bundle that it was made from: {bundle.path}")
    files = {file: bundle.read(file) for file in bundle.files}
    held = {
        file.removeprefix("reports/").removesuffix(".json"): file
        for file in files
        if file.startswith("reports/") and file.endswith(".json")
    }
    lacking = [name for name in NEEDED if name not in held]
    if lacking:
        raise UsageError(f"a card is made of reports, and the bundle has none of its {lacking[0]}: {bundle.path}")
    for report in other_sources:
        if report.get("model") != f"{bundle.name} {bundle.version}":
            raise UsageError(
                f"the report must be of {bundle.name} {bundle.version}, got one of {str(report.get('model'))[:80]}"
            )

    def stored(name: str) -> Any:
        return json.loads(files[held[name]]) if name in held else None

    def all_stored(name: str) -> list[Any]:
        count = sum(other.startswith(f"{name}-") for other in held)
        return [stored(f"{name}-{number}") for number in range(1, count + 1)]

    provenance = dict(bundle.manifest["provenance"])
    provenance["notes"] = [*provenance.get("notes", []), *notes]
    others = list(other_sources) or all_stored(OTHER_SOURCE)
    fits = list(left_out) or all_stored(LEFT_OUT)
    thumbnails = [thumbnails_of(report) for report in audits] or all_stored(AUDIT)
    twins = twins or stored("twins")
    try:
        card = model_card(
            name=bundle.name,
            version=bundle.version,
            labels=bundle.labels,
            preprocessing=bundle.manifest["preprocessing"],
            artifacts=bundle.manifest["artifacts"],
            quantization=stored("quantization"),
            abstention=stored("abstention"),
            twins=twins,
            other_sources=others,
            left_out=fits,
            audits=thumbnails,
            notes=provenance["notes"],
            **{name: stored(name) for name in NEEDED},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"a report, or one that the bundle holds, is of another version of edgecxr ({error}): {bundle.path}"
        ) from None
    replaced = tuple(f"reports/{name}-" for name in (OTHER_SOURCE, LEFT_OUT, AUDIT))
    files = {file: content for file, content in files.items() if not file.startswith(replaced)}
    told = {**numbered(OTHER_SOURCE, others), **numbered(LEFT_OUT, fits), **numbered(AUDIT, thumbnails)}
    told |= {"twins": twins} if twins else {}
    files |= {f"reports/{name}.json": reports.to_bytes(report) for name, report in told.items()}
    files[CARD] = card.encode("utf-8")
    networks = {artifact.file for artifact in bundle.artifacts}
    manifest = {
        **bundle.manifest,
        "files": [{"file": file, **reports.identity(files[file])} for file in sorted(files.keys() - networks)],
        "provenance": provenance,
    }
    manifest["digest"] = manifest_digest(manifest)
    return {**files, MANIFEST: reports.to_bytes(manifest)}


def tell(
    source: Path,
    output: Path,
    *,
    notes: Sequence[str] = (),
    twins: Mapping[str, Any] | None = None,
    other_sources: Sequence[Mapping[str, Any]] = (),
    left_out: Sequence[Mapping[str, Any]] = (),
    audits: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
) -> Bundle:
    """Write `contents` of the bundle `source` to `output`, all or nothing; raises BundleError and StorageError too."""
    check_place(output, overwrite=overwrite)
    check_reports(other_sources, left_out, audits)
    more = contents(
        load(source), notes=notes, twins=twins, other_sources=other_sources, left_out=left_out, audits=audits
    )
    return publish(output, more, overwrite)
