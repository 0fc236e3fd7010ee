"""The answer to one picture: what the Python API returns and every record holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

SCHEMA = 4  # 2 has bytes and mtime_ns, by which a resumed run knows a file again; 3 rendering; 4 abstention, abstain_at
Status = Literal["scored", "abstained", "rejected"]


@dataclass(frozen=True)
class Provenance:
    """What made a prediction."""

    model: str
    bundle_sha256: str
    engine: str
    provider: str
    device: str
    precision: str
    abstention: str = (
        "none"  # where `abstain_at` is from: bundle, asked, off (as was asked), none (the bundle has none)
    )
    abstain_at: float | None = None  # a picture abstains where its ood_score is this or more; None: none does


@dataclass(frozen=True)
class Prediction:
    """The answer to one picture, or the reason why there is none."""

    path: str | None  # as it was given; None for bytes and arrays
    sha256: str | None  # of the bytes that were read (of an array: of its samples); None where nothing could be read
    status: Status
    label: str | None  # most probable class; None unless scored: an abstained picture is given none
    probabilities: Mapping[str, float]  # calibrated, by label, summing to 1; empty when rejected
    logits: Mapping[str, float]  # by label; empty when rejected
    ood_score: float | None  # how far from frontal chest films; None when rejected, or where the network doesn't say
    error_code: str | None
    error_message: str | None
    width: int | None  # of the file, px
    height: int | None
    bits: int | None  # per sample, declared or observed
    provenance: Provenance
    time_utc: str
    bytes: int | None = None  # length of the file; None for arrays and where nothing could be read
    mtime_ns: int | None = None  # when the file was last changed, ns since 1970, as it was read; None as above
    rendering: str | None = None  # of a DICOM file: how its stored values became grey levels

    def without_name(self, position: int) -> Prediction:
        """The same under its content's hash, or, where nothing could be read, its position among the inputs from 1.

        Without the file's time as well, which may tell whose picture it is.
        """
        return replace(self, path=f"sha256:{self.sha256}" if self.sha256 else f"unread:{position}", mtime_ns=None)

    def to_record(self, labels: Sequence[str]) -> dict[str, Any]:
        """The record that is written, with every column of the schema whatever the status."""
        error = None if self.error_code is None else {"code": self.error_code, "message": self.error_message}
        return {
            "schema": SCHEMA,
            "path": self.path,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "mtime_ns": self.mtime_ns,
            "status": self.status,
            "label": self.label,
            **{f"p_{label}": self.probabilities.get(label) for label in labels},
            **{f"logit_{label}": self.logits.get(label) for label in labels},
            "ood_score": self.ood_score,
            "abstention": self.provenance.abstention,
            "abstain_at": self.provenance.abstain_at,
            "error": error,
            "width": self.width,
            "height": self.height,
            "bits": self.bits,
            "rendering": self.rendering,
            "model": self.provenance.model,
            "bundle_sha256": self.provenance.bundle_sha256,
            "engine": self.provenance.engine,
            "provider": self.provenance.provider,
            "device": self.provenance.device,
            "precision": self.provenance.precision,
            "time_utc": self.time_utc,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], labels: Sequence[str]) -> Prediction:
        """The prediction of which `to_record` made a record of this very schema."""
        error, scored = record["error"] or {}, record["status"] != "rejected"
        same = set(record) & {field.name for field in fields(cls)}
        return cls(
            **{name: record[name] for name in same},
            probabilities={label: record[f"p_{label}"] for label in labels} if scored else {},
            logits={label: record[f"logit_{label}"] for label in labels} if scored else {},
            error_code=error.get("code"),
            error_message=error.get("message"),
            provenance=Provenance(**{field.name: record[field.name] for field in fields(Provenance)}),
        )
