"""A claim of a technical file, and where it came from: the command, and the file with its SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["good", "bad", "warn", ""]


@dataclass(frozen=True)
class Source:
    """What a claim came from. `sha256` is that of `file`, which the command wrote or which stands in the bundle."""

    command: str  # as on a command line
    file: str  # a name, without the folders of whoever gave it
    sha256: str


@dataclass(frozen=True)
class Claim:
    """One thing that is said, as a number or text, and in words for people."""

    what: str
    value: Any  # JSON's own types
    shown: str
    verdict: Verdict = ""


@dataclass(frozen=True)
class Section:
    """Claims of one source."""

    title: str
    source: Source
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()  # sentences
    warnings: tuple[str, ...] = ()  # sentences that a reader must know before believing a figure

    def to_json(self) -> list[dict[str, Any]]:
        """Each claim by itself, with its source."""
        source = {"command": self.source.command, "file": self.source.file, "sha256": self.source.sha256}
        return [
            {
                "section": self.title,
                "claim": claim.what,
                "value": claim.value,
                "verdict": claim.verdict or None,
                **source,
            }
            for claim in self.claims
        ]


def said(what: str, value: Any, shown: str | None = None, verdict: Verdict = "") -> Claim:
    """A claim that shows as its value does."""
    return Claim(what, value, str(value) if shown is None else shown, verdict)


def digest(data: bytes) -> str:
    """SHA-256, in lower case."""
    return hashlib.sha256(data).hexdigest()


def size(count: int) -> str:
    """Bytes in decimal units."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"
