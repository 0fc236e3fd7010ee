"""The files of a site's bundle: those of the bundle that it is made from, with a site's numbers; none is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecxr.bundle import CARD, MANIFEST, METADATA_PREFIX, Artifact, Bundle, OperatingPoint, manifest_digest, network
from edgecxr.lab.evaluation.operating import unkept
from edgecxr.lab.evaluation.site import CONFIDENCE
from edgecxr.system.storage import json_text

REPORT = "reports/site.json"


@dataclass(frozen=True)
class Numbers:
    """What a bundle says of its network's answers."""

    temperature: float
    operating_points: Sequence[OperatingPoint]
    abstention: Mapping[str, Any] | None  # as in the manifest

    @classmethod
    def of(cls, bundle: Bundle) -> Numbers:
        return cls(bundle.temperature, bundle.operating_points, bundle.manifest.get("abstention"))


def contents(bundle: Bundle, numbers: Numbers, told: Mapping[str, Any]) -> dict[str, bytes]:
    """Every file of the site's bundle, by name; `told` is its report, with the site's name.

    Golden vectors and reports are kept, and every network to its last node and weight: what a network's file says of
    itself is other. The version is that of `bundle`, "+" and the site's name. Raises BundleError where a file of
    `bundle` isn't the listed one.
    """
    files = {file: bundle.read(file) for file in bundle.files}
    version = f"{bundle.version}+{told['site']}"
    for artifact in bundle.artifacts:
        said = _said(bundle, numbers, version, artifact)
        files[artifact.file] = network.with_metadata(files[artifact.file], artifact.format, said)
    files[REPORT] = json_text(told).encode("ascii")
    files[CARD] = card(files.get(CARD, b"").decode("utf-8", "replace"), told).encode("utf-8")
    networks = {artifact.file for artifact in bundle.artifacts}
    data = told["data"]
    manifest: dict[str, Any] = {
        **bundle.manifest,
        "version": version,
        "temperature": numbers.temperature,
        "abstention": numbers.abstention,
        "operating_points": [asdict(point) for point in numbers.operating_points],
        "artifacts": [{**row, **_identity(files[row["file"]])} for row in bundle.manifest["artifacts"]],
        "files": [{"file": file, **_identity(files[file])} for file in sorted(files.keys() - networks)],
        "provenance": {
            **bundle.manifest.get("provenance", {}),
            "site": {
                "name": told["site"],
                "created_utc": told["created_utc"],
                "of": told["of"],
                "pictures": data["pictures"],
                "groups": data["groups"],
                "fit": data["fit"],
                "report": data["report"],
                "data_fingerprint": data["fingerprint"],
                "edgecxr": told["edgecxr"],
            },
        },
    }
    manifest["digest"] = manifest_digest(manifest)
    return {**files, MANIFEST: json_text(manifest).encode("ascii")}


def _said(bundle: Bundle, numbers: Numbers, version: str, artifact: Artifact) -> dict[str, str]:
    """What the artifact's file says of itself, as an export writes it."""
    said = {
        "name": json.dumps(bundle.name),
        "version": json.dumps(version),
        "labels": json.dumps(list(bundle.labels)),
        "preprocessing": json.dumps(bundle.preprocessing.to_json(), sort_keys=True),
        "temperature": json.dumps(numbers.temperature),
    }
    if numbers.abstention is not None:
        rows = [row for row in numbers.abstention["thresholds"] if row["artifact"] == artifact.file]
        # Where an engine computes several precisions, the artifact's own comes last and stays.
        rows.sort(key=lambda row: row["precision"] == artifact.precision)
        own = {row["engine"]: row["threshold"] for row in rows}
        about = {key: numbers.abstention[key] for key in ("kept", "split", "pictures")}
        said["abstention"] = json.dumps({**about, "thresholds": own}, sort_keys=True)
    return {METADATA_PREFIX + key: text for key, text in said.items()}


def _identity(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def card(text: str, told: Mapping[str, Any]) -> str:
    """A model card with the site's section before its first one."""
    head, mark, rest = text.partition("\n## ")
    return f"{head.rstrip()}\n\n{section(told)}\n{mark}{rest}"


def section(told: Mapping[str, Any]) -> str:
    """What was fitted on a site's films, what it gives on the others, and what isn't claimed; Markdown."""
    site, of, data = told["site"], told["of"], told["data"]
    by = told["scored_by"]
    counts = [
        [label, *(str(data[half][label][key]) for half in ("fit", "report") for key in ("pictures", "groups"))]
        for label in data["fit"]
    ]
    return "\n\n".join(
        [
            f"## Calibrated on films of {site}",
            f"The network is that of {of['name']} {of['version']} (digest `{of['digest']}`), to the last node and "
            f"weight. What follows this section is about that bundle, and not about {site}.",
            f"Fitted on {told['created_utc'][:10]} with `{by['artifact']}` on {by['engine']} ({by['precision']}), on "
            f"half of the films; the other half reports. No group (patient) is in both. Data fingerprint: "
            f"`{data['fingerprint']}`.",
            _table(["films", "that fit", "groups", "that report", "groups"], counts),
            "On the half that reports, with 95 % intervals by group:",
            _table(["", "before", "now"], comparison(told)),
            "\n".join(f"- {sentence}" for sentence in _sentences(told)),
        ]
    )


def _sentences(told: Mapping[str, Any]) -> list[str]:
    """What the site's bundle says, and what it doesn't."""
    temperature, reported = told["temperature"], told["after"]["operating_points"]
    said = [f"temperature {temperature['temperature']:g}, was {temperature['before']:g}"]
    said = said if temperature["written"] else []
    said += [
        f"`{point['label']}` where p >= {point['threshold']:.4f}: at least {point['target_sensitivity']:.0%} of it is "
        f"found in films like these ({CONFIDENCE:.0%} confidence, by patient)"
        for point in told["operating_points"]
    ]
    if told["abstention"]:
        said.append(f"at least {told['abstention']['kept']:.1%} of each class is answered, of films like these")
    return [*said, *told["not_claimed"], *(f"on the half that reports {sentence}" for sentence in unkept(reported))]


def comparison(told: Mapping[str, Any]) -> list[list[str]]:
    """Rows of text: a figure's name, what the bundle gave on the half that reports, and what the site's gives."""
    before, after = told["before"], told["after"]
    rows = [
        ["accuracy, all classes", *(_share(one["accuracy"]) for one in (before, after))],
        ["calibration error", *(_share(one["calibration"]["after"]["ece"]) for one in (before, after))],
        ["negative log-likelihood", *(_number(one["calibration"]["after"]["nll"]) for one in (before, after))],
    ]
    points = [{(p["label"], p["target_sensitivity"]): p for p in one["operating_points"]} for one in (before, after)]
    for label, target in sorted({*points[0], *points[1]}):
        found = [one.get((label, target)) for one in points]
        if all(point is None or point["sensitivity"]["value"] is None for point in found):
            continue  # a class without films
        for key in ("sensitivity", "specificity"):
            rows.append([f"{label} at {target:.0%}: {key}", *("–" if p is None else _share(p[key]) for p in found)])
    if before["silence"] and after["silence"]:
        for old, new in zip(before["silence"]["rows"], after["silence"]["rows"], strict=True):
            rows.append([f"answered, of {old['source'] or 'all'}", _share(old["answered"]), _share(new["answered"])])
    return rows


def _share(figure: Mapping[str, Any]) -> str:
    return _shown(figure, lambda value: f"{value:.1%}")


def _number(figure: Mapping[str, Any]) -> str:
    return _shown(figure, lambda value: f"{value:.3f}")


def _shown(figure: Mapping[str, Any], text: Any) -> str:
    if figure["value"] is None:
        return "–"
    interval = figure["interval95"]
    return text(figure["value"]) + (f" ({text(interval[0])}–{text(interval[1])})" if interval else "")  # type: ignore[no-any-return]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
