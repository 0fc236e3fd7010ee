"""What changed between two bundles, from what they say and from their golden answers; nothing is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from edgecxr.bundle import GOLDEN_INPUTS, Artifact, Bundle, Expected
from edgecxr.dossier.claims import Claim, size

MADE = ("recipe", "seed", "data_fingerprint", "weights_sha256", "created_utc")  # of a run, in the provenance


def difference(new: Bundle, old: Bundle) -> tuple[Claim, ...]:
    """What is another thing now, each as a claim whose value is [before, now]; then how far golden answers lie apart.

    Raises BundleError where a file of either isn't the listed one.
    """
    return (*(_claim(*row) for row in _rows(new, old)), *_golden(new, old))


def _claim(what: str, before: Any, now: Any) -> Claim:
    return Claim(what, [before, now], f"{_shown(before)} → {_shown(now)}")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value[:16] if len(value) == 64 else value
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _rows(new: Bundle, old: Bundle) -> Iterator[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = [
        ("name", old.name, new.name),
        ("version", old.version, new.version),
        ("digest", old.digest, new.digest),
        ("labels", list(old.labels), list(new.labels)),
        *_each("preprocessing", asdict(old.preprocessing), asdict(new.preprocessing)),
        ("temperature", old.temperature, new.temperature),
        *_each("operating point", _points(old), _points(new)),
        *_each("abstains at, ood", _thresholds(old), _thresholds(new)),
        *_each("trained:", _run(old), _run(new)),
        *_artifacts(old, new),
        *_each("accuracy,", _accuracies(old), _accuracies(new)),
    ]
    return (row for row in pairs if row[1] != row[2])


def _each(prefix: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*before, *now]):
        yield f"{prefix} {key}", before.get(key), now.get(key)


def _points(bundle: Bundle) -> dict[str, float]:
    return {f"{p.label}, sensitivity {p.target_sensitivity:g}": p.threshold for p in bundle.operating_points}


def _thresholds(bundle: Bundle) -> dict[str, float]:
    rows = (bundle.manifest.get("abstention") or {}).get("thresholds", [])
    return {f"{row['artifact']} {row['engine']} {row['precision']}": row["threshold"] for row in rows}


def _run(bundle: Bundle) -> dict[str, Any]:
    provenance = bundle.manifest.get("provenance")
    run = provenance.get("run") if isinstance(provenance, dict) else None
    return {key: run[key] for key in MADE if key in run} if isinstance(run, dict) else {}


def _artifacts(old: Bundle, new: Bundle) -> Iterator[tuple[str, Any, Any]]:
    before, now = ({artifact.file: artifact for artifact in bundle.artifacts} for bundle in (old, new))
    for file in sorted({*before, *now}):
        ours = [_described(side.get(file)) for side in (before, now)]
        for what in dict.fromkeys(key for row in ours for key in row):
            yield f"{file}: {what}", ours[0].get(what), ours[1].get(what)


def _described(artifact: Artifact | None) -> dict[str, Any]:
    if artifact is None:
        return {}
    parity = artifact.details.get("parity")
    figures = parity if isinstance(parity, Mapping) else {}
    return {
        "SHA-256": artifact.sha256,
        "size": size(artifact.bytes),
        "preferred": artifact.preferred,
        **{key: figures[key] for key in ("flips", "pictures", "max_dp") if key in figures},
    }


def _accuracies(bundle: Bundle) -> dict[str, float]:
    """Of each model and split that the bundle's own evaluation has."""
    if "reports/evaluation.json" not in bundle.files:
        return {}
    try:
        models = json.loads(bundle.read("reports/evaluation.json"))["models"]
        return {f"{m['model']} on {m['split']} ({m['pictures']} pictures)": m["accuracy"]["value"] for m in models}
    except (ValueError, KeyError, TypeError, RecursionError):  # of another version
        return {}


def _golden(new: Bundle, old: Bundle) -> Iterator[Claim]:
    """How far answers lie apart, of each artifact and engine that both bundles hold answers of."""
    if new.labels != old.labels or new.files.get(GOLDEN_INPUTS) != old.files.get(GOLDEN_INPUTS):
        yield Claim("golden answers", None, "not comparable: the classes, or the golden pictures, are others")
        return
    before = {_kind(row): row for row in old.golden_expected()}
    for row in new.golden_expected():
        earlier = before.get(_kind(row))
        if earlier is not None and earlier.logits.shape == row.logits.shape:
            apart = float(np.abs(row.logits - earlier.logits).max())
            flips = int((row.logits.argmax(axis=1) != earlier.logits.argmax(axis=1)).sum())
            shown = f"logits lie up to {apart:.3g} apart, {flips} of {len(row.logits)} labels are others"
            what = f"golden answers of {row.artifact} on {row.engine}"
            yield Claim(what, {"max_dlogit": apart, "flips": flips, "pictures": len(row.logits)}, shown)


def _kind(row: Expected) -> tuple[str, str, str]:
    return row.artifact, row.engine, row.precision
