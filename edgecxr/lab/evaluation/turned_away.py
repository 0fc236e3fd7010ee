"""What is turned away of pictures that are no chest films, by kind, and what is kept of films, by source; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.lab.outliers import Outlier

# What `pipeline` says of each picture: scored, abstained or rejected.
Statuses = Sequence[str]


def of_outliers(outliers: Sequence[Outlier], statuses: Sequence[Statuses]) -> dict[str, Any]:
    """A row for each kind and use, and sums over the uses; `statuses` has one sequence, as `outliers`, an artifact.

    `turned_away` is the share that abstains of what isn't rejected, in the order of the artifacts, with Wilson's
    interval over pictures. Those of the use `control` are films and stand in no row here.
    """

    def key(outlier: Outlier) -> tuple[str, str, bool]:
        return outlier.use, outlier.kind, outlier.near

    places = [place for place, outlier in enumerate(outliers) if outlier.use != "control"]
    kinds = sorted({key(outliers[place]) for place in places}, key=lambda found: (found[0] != "report", *found))
    rows = [
        {"kind": kind, "near": near, "use": use}
        | _counted("turned_away", [place for place in places if key(outliers[place]) == (use, kind, near)], statuses)
        for use, kind, near in kinds
    ]
    sums = []
    for use in dict.fromkeys(use for use, _, _ in kinds):
        of_use = [place for place in places if outliers[place].use == use]
        near = [place for place in of_use if outliers[place].near]
        sums += [
            {"use": use, "near": only} | _counted("turned_away", mine, statuses)
            for only, mine in ((False, of_use), (True, near))
            if mine
        ]
    return {"kinds": rows, "sums": sums}


def of_films(names: Sequence[str], statuses: Sequence[Statuses]) -> list[dict[str, Any]]:
    """A row for each of the `names` (N,), which say where films are from; `kept` is the share that is answered."""
    return [
        {"source": name} | _counted("kept", [place for place, found in enumerate(names) if found == name], statuses)
        for name in dict.fromkeys(names)
    ]


def films_of(examples: Iterable[Example], known: Sequence[str], data: str) -> list[str]:
    """Where each film is from: its source, or else its origin, or else the `data`; and what it has, where the model
    doesn't know that label."""
    return [" · ".join([e.source or e.origin or data, *([] if e.label in known else [e.label])]) for e in examples]


def _counted(what: str, places: Sequence[int], statuses: Sequence[Statuses]) -> dict[str, Any]:
    """How many pictures there are, how many are rejected, and the share `what` of the others, an artifact each."""
    hit = "abstained" if what == "turned_away" else "scored"
    counts = [Counter(one[place] for place in places) for one in statuses]
    shares = [_share(count[hit], count["scored"] + count["abstained"]) for count in counts]
    return {"pictures": len(places), "rejected": counts[0]["rejected"], what: shares}


def _share(hits: int, total: int) -> dict[str, Any]:
    """As a Figure's JSON, over pictures."""
    interval = list(wilson_interval(hits, total)) if total else None
    value = hits / total if total else None
    return {"value": value, "interval95": interval, "method": "wilson over pictures", "hits": hits, "total": total}
