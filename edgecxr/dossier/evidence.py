"""What was found: golden answers and a bench of here, and reports of eval, audit and bench that are given.

A report that is given must be of this very bundle; an audit is of data, and of no bundle.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgecxr.bench import report as bench_reports
from edgecxr.bundle import Bundle
from edgecxr.device.verify import Verification
from edgecxr.dossier.claims import Claim, Section, Source, digest, said
from edgecxr.dossier.hazards import Outcomes, outcomes
from edgecxr.dossier.reports import audited, benched, evaluated
from edgecxr.errors import UsageError
from edgecxr.system import storage

SCHEMAS = {"eval": 2, "audit": 1, "bench": bench_reports.SCHEMA}  # of reports, as this version writes them
MAX_BYTES = 64 << 20  # of a report: an audit of 25,000 films has 10 MB


def verified(found: Verification, command: str, file: str) -> tuple[Section, bytes]:
    """Golden answers on this device, and the JSON that `verify --json` prints, which `file` will hold."""
    data = storage.json_text({**asdict(found), "passed": found.passed}).encode()
    claims = [said("files with the listed hash", found.files, f"{found.files} of {found.files}", "good")]
    for check in found.golden:
        apart = f"logits at most {check.max_difference:.3g} off, {check.tolerance:g} is accepted"
        flips = f"{check.label_flips} of {check.pictures} labels flip"
        ood = "" if check.ood_difference is None else f"; ood {check.ood_difference:.3g} of {check.ood_tolerance:.3g}"
        claims.append(
            Claim(
                f"{check.artifact} in {check.precision} on {check.engine} {check.provider}",
                {**asdict(check), "passed": check.passed},
                f"{'right' if check.passed else 'WRONG'}: {apart}, {flips}{ood}",
                "good" if check.passed else "bad",
            )
        )
    warnings = [f"{found.diagnosis}."] if found.diagnosis else []
    warnings += [f"Not run: {reason}." for reason in found.not_run]
    return (
        Section(
            "Golden answers on this device",
            Source(command, file, digest(data)),
            tuple(claims),
            tuple(f"{note}." for note in found.notes),
            tuple(warnings),
        ),
        data,
    )


def tested(path: Path) -> Outcomes:
    """What `pytest --junitxml` wrote; raises UsageError where it can't be read, or is anything else."""
    data = _content(path)
    try:
        found = outcomes(data)
    except ValueError as error:
        raise UsageError(f"expected what pytest --junitxml wrote ({error}), got: {path}") from None
    return Outcomes(Source(f"python -m pytest --junitxml {path.name}", path.name, digest(data)), found)


def given(path: Path, bundle: Bundle) -> Section:
    """The section of a report that `eval`, `audit` or `bench` wrote as JSON.

    Raises UsageError where it can't be read, is none of these or of another version, or is of another bundle.
    """
    data = _content(path)
    try:
        report = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the report isn't valid JSON ({type(error).__name__}): {path}") from None
    kinds: dict[str, Callable[[Mapping[str, Any], Source], Section]] = {
        "bench": benched, "eval": evaluated, "audit": audited,
    }  # fmt: skip
    kind = _kind(report)
    if kind is None:
        raise UsageError(f"expected a report that eval, audit or bench wrote with -o FILE.json, got: {path}")
    if report["schema"] != SCHEMAS[kind]:
        raise UsageError(
            f"expected a report of {kind} of schema {SCHEMAS[kind]}, run it again; got {report['schema']}: {path}"
        )
    of = _bundle_of(report) if kind != "audit" else bundle.digest
    if of != bundle.digest:
        raise UsageError(
            f"the report is of another model ({str(report.get('model') or of)[:80]}), "
            f"expected one of {bundle.name} {bundle.version} ({bundle.digest[:16]}): {path}"
        )
    try:
        return kinds[kind](report, Source(_command(kind, report, bundle), path.name, digest(data)))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UsageError(f"the report lacks or garbles a field ({type(error).__name__}: {error}): {path}") from None


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise UsageError(f"the report isn't a file: {path}")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"no report is longer than {MAX_BYTES >> 20} MiB: {path}")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the report can't be read ({error.strerror}): {path}") from None


def _kind(report: Any) -> str | None:
    if not isinstance(report, dict) or type(report.get("schema")) is not int:
        return None
    fields = {"bench": {"kind", "bundle", "machine"}, "eval": {"confusion", "sensitivity", "bundle_sha256"},
              "audit": {"findings", "leaks", "method"}}  # fmt: skip
    return next((kind for kind, wanted in fields.items() if wanted <= set(report)), None)


def _bundle_of(report: Mapping[str, Any]) -> Any:
    bundle = report.get("bundle")
    return bundle.get("sha256") if isinstance(bundle, dict) else report.get("bundle_sha256")


def _command(kind: str, report: Mapping[str, Any], bundle: Bundle) -> str:
    """The command that made a report, as far as the report tells."""
    name, data = bundle.path.name, str(report.get("data", ""))
    words = {"eval": ["eval", name, data], "audit": ["audit", data], "bench": ["bench", "-m", name]}[kind]
    if kind == "eval":
        words += ["--split", str(report["split"])] if report.get("split") else []
        for column, value in (report.get("where") or {}).items():
            words += ["--where", f"{column}={value}"]
        for label in report.get("ignored_labels") or []:
            words += ["--ignore-label", label]
        words += ["--engine", str(report.get("engine")), "--precision", str(report.get("precision"))]
        words += ["--against", "OLD"] if report.get("against") else []
        for row in (report.get("acceptance") or {}).get("requirements", []):
            words += ["--require", str(row["require"])]
    if kind == "bench" and not report.get("golden_inputs"):
        words.append("PATH")
    if kind == "bench" and report["kind"] == "mlperf":
        words += ["--mlperf", {"SingleStream": "single", "MultiStream": "multi"}.get(report["scenario"], "offline")]
    if kind == "bench" and report["kind"] == "sustained":
        words += ["--sustained", f"{report['minutes']:g}"]
    return shlex.join(["edgecxr", *words])
