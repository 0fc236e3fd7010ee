"""What the audit says: each finding with its figure, its files and what to do. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgecxr.lab.audit.duplicates import DuplicateSet, Match
from edgecxr.lab.audit.films import Films
from edgecxr.lab.dataset import Example

Severity = Literal["leak", "warning", "note", "ok"]
Topic = Literal["data", "shortcuts"]
SEVERITIES: tuple[Severity, ...] = ("leak", "warning", "note", "ok")
PROVENANCE = ("origin", "source")  # columns that say where a picture comes from


@dataclass(frozen=True)
class Finding:
    """`figure` is for a person, `values` the numbers behind it; `files` are sets of what belongs together."""

    id: str
    severity: Severity
    title: str
    figure: str
    action: str
    values: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Sequence[Mapping[str, Any]]] = ()
    topic: Topic = "data"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "topic": self.topic,
            "severity": self.severity,
            "title": self.title,
            "figure": self.figure,
            "action": self.action,
            "values": dict(self.values),
            "files": [[dict(file) for file in files] for files in self.files],
        }


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first; within a severity as they came."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def described(example: Example, **more: Any) -> dict[str, Any]:
    return {"file": example.file, "label": example.label, "split": example.split, **more}


def unreadable(films: Films) -> Finding:
    count = len(films.rejected)
    if not count:
        return Finding("unreadable", "ok", "Pictures that can't be read", "none", "Nothing to do.", {"pictures": 0})
    return Finding(
        "unreadable",
        "warning",
        "Pictures that can't be read",
        f"{count} of {count + len(films)}",
        "Fetch these files anew or take them out of the data: training stops at them, and nothing below counts them.",
        {"pictures": count, "reasons": dict(Counter(code for _, code, _ in films.rejected))},
        [[described(example, code=code, reason=reason)] for example, code, reason in films.rejected],
    )


def without_split(films: Films) -> Finding | None:
    """The note that splits can't be checked, or that some pictures stand in none; None where all have one."""
    missing = [example for example in films.examples if example.split is None]
    if not missing:
        return None
    if len(missing) == len(films):
        return Finding(
            "splits",
            "note",
            "The data has no splits",
            "not applicable",
            "Whether a split leaks can't be said. Training will split by group: see that the groups are right.",
        )
    return Finding(
        "splits",
        "warning",
        "Pictures without a split",
        f"{len(missing)} of {len(films)}",
        "Give every picture of manifest.csv a split, or none: training refuses a mixture.",
        {"pictures": len(missing)},
        [[described(example)] for example in missing],
    )


def duplicates(kind: Literal["exact", "near"], films: Films, sets: Sequence[DuplicateSet]) -> list[Finding]:
    """Copies across splits, across classes, and the others; the first is left out where the data has no splits."""
    name = {"exact": "Exact duplicates", "near": "Near-duplicates"}[kind]
    examples = films.examples
    across_splits = [s for s in sets if len({examples[m].split for m in s.members} - {None}) > 1]
    across_labels = [s for s in sets if len({examples[m].label for m in s.members}) > 1]
    crossing = {s.members for s in (*across_splits, *across_labels)}
    within = [s for s in sets if s.members not in crossing]
    found: list[Finding] = []
    with_splits = any(example.split is not None for example in examples)
    if with_splits:
        found.append(
            _of_sets(
                f"{kind}-across-splits",
                "leak",
                f"{name} across splits",
                "Put the files of each set into one split (give them one group), then split and train anew: figures "
                "on such pictures are recall and no test.",
                films,
                across_splits,
            )
        )
    found.append(
        _of_sets(
            f"{kind}-across-classes",
            "warning",
            f"{name} with different labels",
            "Look at each set and decide: keep the film under its right label, and take it out where nobody can say.",
            films,
            across_labels,
        )
    )
    found.append(
        _of_sets(
            f"{kind}-within",
            "note",
            f"{name} within one split and class" if with_splits else f"{name} within one class",
            "Keep one file of each set, or keep in mind that these films count more than once.",
            films,
            within,
        )
    )
    return found


def ungrouped(films: Films, sets: Sequence[DuplicateSet]) -> Finding:
    """Copies that `group` doesn't hold together: the next split divides them, whatever this one does."""
    loose = [s for s in sets if len({films.examples[m].group for m in s.members}) > 1]
    return _of_sets(
        "duplicates-ungrouped",
        "warning",
        "Duplicates that no group holds together",
        "Give the files of each set the same group in manifest.csv, so that a new split or a fold can't divide them.",
        films,
        loose,
    )


def divided(column: Literal["group", "patient"], films: Films) -> Finding | None:
    """Groups or patients in more than one split; None where the data has no such column or no splits."""
    members: dict[str, list[Example]] = defaultdict(list)
    for example in films.examples:
        if (name := example.columns.get(column)) and example.split is not None:
            members[name].append(example)
    if not members:
        return None
    torn = {name: of for name, of in sorted(members.items()) if len({e.split for e in of}) > 1}
    values = {f"{column}s": len(torn), "pictures": sum(map(len, torn.values())), "of": len(members)}
    title = {"group": "Groups in more than one split", "patient": "Patients in more than one split"}[column]
    if not torn:
        return Finding(f"{column}-across-splits", "ok", title, f"none of {len(members)}", "Nothing to do.", values)
    return Finding(
        f"{column}-across-splits",
        "leak",
        title,
        f"{len(torn)} of {len(members)}, {values['pictures']} pictures",
        f"Put all pictures of a {column} into one split, then train anew: the model has met these people before.",
        values,
        [[described(e, **{column: name}) for e in of] for name, of in torn.items()],
    )


def against(name: str, films: Films, others: Films, found: Sequence[Match]) -> Finding:
    """Films of which another folder has a copy."""
    unread = f"; {len(others.rejected)} pictures there can't be read" if others.rejected else ""
    identity, title = f"against:{name}", f"Copies of films in {name}"
    exact = sum(match.similarity == 1.0 for match in found)
    values = {"pictures": len(found), "exact": exact, "unreadable_there": len(others.rejected)}
    if not found:
        return Finding(identity, "note" if unread else "ok", title, f"none{unread}", "Nothing to do.", values)
    return Finding(
        identity,
        "warning",
        title,
        f"{len(found)} of {len(films)} pictures ({exact} exact){unread}",
        f"Leave these out when a model that was trained on {name} is tested here, or the other way round.",
        values,
        [
            [
                described(films.examples[match.film]),
                described(others.examples[match.other], folder=name, similarity=round(match.similarity, 3)),
            ]
            for match in found
        ],
    )


def provenance_table(column: str, films: Films) -> dict[str, dict[str, int]]:
    """How many pictures of each label (outer) have each value of the column (inner)."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for example in films.examples:
        table[example.label][example.columns.get(column, "")] += 1
    return {label: dict(sorted(counts.items())) for label, counts in sorted(table.items())}


def confounded(column: str, table: Mapping[str, Mapping[str, int]]) -> Finding:
    """Whether a class comes from a single place, where the data has several."""
    places = {place for counts in table.values() for place in counts}
    single = {label: next(iter(counts)) for label, counts in table.items() if len(counts) == 1}
    values = {"table": {label: dict(counts) for label, counts in table.items()}, "single": single}
    title = f"Classes of a single {column}"
    if not single:
        return Finding(f"{column}-confounded", "ok", title, f"none of {len(table)}", "Nothing to do.", values)
    shown = "; ".join(f"{label}: {place or '(empty)'}" for label, place in single.items())
    return Finding(
        f"{column}-confounded",
        "warning",
        title,
        f"{len(single)} of {len(table)} ({shown})",
        f"A model may learn the {column} instead of the disease: add pictures of these classes from elsewhere, compare "
        f"classes within one {column}, and test on one that it hasn't seen (edgecxr train --leave-one-out {column}).",
        {**values, f"{column}s": len(places)},
    )


def _of_sets(
    identity: str, severity: Severity, title: str, action: str, films: Films, sets: Sequence[DuplicateSet]
) -> Finding:
    pictures = sum(len(s.members) for s in sets)
    values = {"sets": len(sets), "pictures": pictures}
    if not sets:
        return Finding(identity, "ok", title, "none", "Nothing to do.", values)
    return Finding(
        identity,
        severity,
        title,
        f"{len(sets)} {'set' if len(sets) == 1 else 'sets'}, {pictures} pictures",
        action,
        values,
        [[described(films.examples[m], similarity=round(s.similarity, 3)) for m in s.members] for s in sets],
    )
