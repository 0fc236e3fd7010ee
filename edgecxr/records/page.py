"""Records as one HTML page: counts, distributions, a table to sort and search, where they come from (extra: report).

The table's rows stand in the page as JSON, which a script of ours shows a part of at a time; every value becomes text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import edgecxr
from edgecxr.records.reader import MADE, STATUSES, Made, Records, Row
from edgecxr.views.html import data_uri, embedded_json, render, script
from edgecxr.views.terminal import escaped

BINS = 20  # of a distribution, between 0 and 1
TITLES = {"bundle_sha256": "bundle, SHA-256", "abstain_at": "abstains from"}  # others are titles themselves


@dataclass(frozen=True)
class Film:
    """A record's film for the page, drawn with its evidence, or why there is none."""

    row: int  # the record's index
    jpeg: bytes | None
    note: str = ""  # a sentence


def page(records: Records, films: Sequence[Film] = ()) -> str:
    """The page of `records`, with `films` in it."""
    code, allowed = script("records.js")
    statuses = Counter(row.status for row in records.rows)
    drawn = [film for film in films if film.jpeg is not None]
    return render(
        "records.html",
        version=edgecxr.__version__,
        script=code,
        allowed=allowed,
        data=embedded_json(table_data(records, {film.row for film in films})),
        name=escaped(records.name),
        records=records,
        total=len(records.rows),
        counts=[(status, statuses[status], statuses[status] / len(records.rows)) for status in STATUSES],
        distributions=distributions(records),
        repeated=repeated(records.rows),
        abstained=abstained(records.rows),
        reasons=reasons(records.rows),
        has_ood=any(row.ood_score is not None for row in records.rows),
        origins=origins(records.rows),
        times=times(records.rows),
        films=[_figure(records, film) for film in films],
        drawn=len(drawn),
    )


def table_data(records: Records, films: Iterable[int] = ()) -> dict[str, Any]:
    """What the script shows, column by column; what repeats stands there once, and each row has its index.

    Text is escaped as on a terminal: a name can't turn the direction of what stands beside it.
    """
    rows, labels = records.rows, list(records.labels)
    reasons = list(dict.fromkeys((row.code, row.message) for row in rows if row.status == "rejected"))
    position = {reason: index for index, reason in enumerate(reasons)}
    return {
        "labels": [escaped(label) for label in labels],
        "statuses": list(STATUSES),
        "reasons": [[escaped(code or ""), escaped(message or "")] for code, message in reasons],
        "films": sorted(films),
        "path": [escaped(row.path or "") for row in rows],
        "sha256": [escaped(row.sha256 or "") for row in rows],
        "status": [STATUSES.index(row.status) for row in rows],
        "answer": [-1 if row.label is None else labels.index(row.label) for row in rows],
        "shares": [[round(share, 4) for share in row.probabilities] for row in rows],
        "ood": [None if row.ood_score is None else round(row.ood_score, 4) for row in rows],
        "reason": [position.get((row.code, row.message), -1) for row in rows],
        "width": [row.width for row in rows],
        "height": [row.height for row in rows],
        "bits": [row.bits for row in rows],
        "rendering": [escaped(row.rendering or "") for row in rows],
        "time": [escaped(row.time_utc or "") for row in rows],
    }


def distributions(records: Records) -> list[dict[str, Any]]:
    """Of each class, how probable it was in the records that it is the answer of: counts in BINS bins from 0 to 1."""
    found = []
    for label in records.labels:
        shares = [row.confidence or 0.0 for row in records.rows if row.label == label]
        bins = Counter(min(BINS - 1, int(share * BINS)) for share in shares)
        found.append(
            {
                "label": escaped(label),
                "count": len(shares),
                "bins": [bins[index] for index in range(BINS)],
                "median": sorted(shares)[len(shares) // 2] if shares else None,
            }
        )
    return found


def reasons(rows: Sequence[Row]) -> list[tuple[str, int, str]]:
    """(code, how many, a sentence of the first) of what was rejected, the most frequent first."""
    counts = Counter(row.code for row in rows if row.status == "rejected")
    first: dict[str | None, str] = {}
    for row in rows:
        first.setdefault(row.code, row.message or "")
    return [(escaped(code or "no reason"), count, escaped(first[code])) for code, count in counts.most_common()]


def abstained(rows: Sequence[Row]) -> dict[str, float | None] | None:
    """The least and the greatest score of what abstained; None where nothing did."""
    scores = [row.ood_score for row in rows if row.status == "abstained"]
    given = [score for score in scores if score is not None]
    return {"least": min(given, default=None), "most": max(given, default=None)} if scores else None


def repeated(rows: Sequence[Row]) -> int:
    """How many records are of a content that an earlier record has too."""
    hashes = [row.sha256 for row in rows if row.sha256 is not None]
    return len(hashes) - len(set(hashes))


def times(rows: Sequence[Row]) -> tuple[str, str] | None:
    """The first and the last of the times of answers."""
    known = [row.time_utc for row in rows if row.time_utc is not None]
    return (escaped(min(known)), escaped(max(known))) if known else None


def origins(rows: Sequence[Row]) -> list[tuple[int, list[tuple[str, str]]]]:
    """(how many records, (what, value) of what made them); more than one where runs were put together."""
    counts: Counter[Made] = Counter(row.made for row in rows)
    return [
        (
            count,
            [
                (TITLES.get(name, name), escaped(_shown(value)))
                for name, value in zip(MADE, made, strict=True)
                if value is not None
            ],
        )
        for made, count in counts.most_common()
    ]


def _shown(value: str | float | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _figure(records: Records, film: Film) -> dict[str, Any]:
    row = records.rows[film.row]
    return {
        "id": film.row,
        "src": None if film.jpeg is None else data_uri(film.jpeg, "jpeg"),
        "name": escaped(row.path or "no name"),
        "answer": answer(row),
        "note": escaped(film.note),
    }


def answer(row: Row) -> str:
    """What a record answers, in words."""
    if row.label is not None:
        return f"{escaped(row.label)}, probability {row.confidence:.3f}"
    if row.status == "abstained":
        return "abstained, no answer" + ("" if row.ood_score is None else f" (ood score {row.ood_score:.4g})")
    return f"rejected: {escaped(row.message or row.code or '')}"
